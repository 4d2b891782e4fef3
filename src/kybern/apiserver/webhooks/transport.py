"""Connections to webhooks: kept alive, bounded, one TLS context a configuration.

Used by client. Promises: a connection is used again only by the same configuration (address, trust, certificate); its
answer was read whole before; nothing is sent before the server's certificate is verified.
"""

from __future__ import annotations

import asyncio
import collections
import socket
import ssl
from typing import Protocol

from kybern.apiserver.webhooks.destination import Destination
from kybern.apiserver.webhooks.failure import says_dial, says_tls
from kybern.client.http import IDLE_LIMIT, Connection, Disconnected, Head
from kybern.client.kubeconfig import Access
from kybern.wire.keepalive import apply_keepalive

_IDLE_A_PLACE = 16
_IDLE_IN_ALL = 256
_AT_ONCE = 256  # exchanges with one place; more wait for their turn
_CONTEXTS = 256
_PLACES = 1024

_Place = tuple[str, int, Access]


class BadTrust(Disconnected):
    """No connection was tried: what it should trust, or show, cannot be read."""


class Exchanger(Protocol):
    """Sends a request to a place, gives the whole answer: Transport, or testing.webhooks.FakeWebhooks.

    Raises Disconnected, with upstream's words for what could not be dialled or trusted.
    """

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]: ...

    def close(self) -> None: ...


class Transport:
    """The real one: TCP and TLS."""

    def __init__(self) -> None:
        # The most recently used at the end.
        self._idle: collections.OrderedDict[Connection, _Place] = collections.OrderedDict()
        self._places: collections.OrderedDict[_Place, asyncio.Semaphore] = collections.OrderedDict()
        self._contexts: collections.OrderedDict[Access, tuple[tuple[int, ...], ssl.SSLContext]] = (
            collections.OrderedDict()
        )

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]:
        place = (to.host, to.port, to.access)
        async with self._turn(place):
            kept = self._take(place)
            if kept is not None:
                try:
                    return await self._exchange(kept, place, data, limit)
                except Disconnected:
                    # A server may close an idle connection in the moment it is used: then it saw nothing.
                    if kept.has_answered:
                        raise
            return await self._exchange(await self._connect(to), place, data, limit)

    async def _exchange(self, connection: Connection, place: _Place, data: bytes, limit: int) -> tuple[Head, bytes]:
        connection.limit = limit
        try:
            head = await connection.send(data)
            body = await connection.read_all()
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, place)
        return head, body

    def close(self) -> None:
        while self._idle:
            self._idle.popitem()[0].close()

    def _turn(self, place: _Place) -> asyncio.Semaphore:
        turn = self._places.get(place)
        if turn is None:
            turn = self._places[place] = asyncio.Semaphore(_AT_ONCE)
            if len(self._places) > _PLACES:
                self._places.popitem(last=False)
        else:
            self._places.move_to_end(place)
        return turn

    def _take(self, place: _Place) -> Connection | None:
        self._sweep()
        found = next((c for c in reversed(self._idle) if self._idle[c] == place), None)
        if found is not None:
            del self._idle[found]
        return found

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in [c for c in self._idle if c.failed or now - c.idle_since >= IDLE_LIMIT]:
            del self._idle[connection]
            connection.close()

    def _give_back(self, connection: Connection, place: _Place) -> None:
        is_crowded = sum(1 for p in self._idle.values() if p == place) >= _IDLE_A_PLACE
        if not connection.reusable or is_crowded:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle[connection] = place
        if len(self._idle) > _IDLE_IN_ALL:
            self._idle.popitem(last=False)[0].close()

    async def _connect(self, to: Destination) -> Connection:
        context = self.context(to.access) if to.is_tls else None
        name = to.access.tls_server_name or to.host
        try:
            transport, connection = await asyncio.get_running_loop().create_connection(
                Connection, to.host, to.port, ssl=context, server_hostname=name if context else None
            )
        except ssl.SSLCertVerificationError as error:
            raise Disconnected(says_tls(error.verify_code, error.verify_message, name), unsent=True) from None
        except ssl.SSLError as error:
            raise Disconnected(f"tls: {(error.reason or str(error)).lower()}", unsent=True) from None
        except (ConnectionResetError, ConnectionAbortedError):
            raise Disconnected("EOF", unsent=True) from None  # it took the connection, and speaks no TLS
        except (OSError, UnicodeError) as error:
            fault = error if isinstance(error, OSError) else socket.gaierror(str(error))
            raise Disconnected(says_dial(to.host, to.port, fault), unsent=True) from None
        apply_keepalive(transport)
        return connection

    def context(self, access: Access) -> ssl.SSLContext:
        """Made once a configuration (reading the system's roots takes milliseconds), again when its files change.

        Raises Disconnected.
        """
        try:
            stamp = access.stamp()
            kept = self._contexts.get(access)
            if kept is None or kept[0] != stamp:
                kept = self._contexts[access] = (stamp, _trusting(access))
        except (OSError, ValueError):
            raise BadTrust(
                "unable to load root certificates: unable to parse bytes as PEM block", unsent=True
            ) from None
        self._contexts.move_to_end(access)
        if len(self._contexts) > _CONTEXTS:
            self._contexts.popitem(last=False)
        return kept[1]


def _trusting(access: Access) -> ssl.SSLContext:
    """As Go verifies: any certificate of the bundle is an anchor, and only subject alternative names count."""
    context = access.ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    return context
