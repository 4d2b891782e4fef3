"""The sockets: DNS over UDP and over TCP, on asyncio.

Started by process/dns; hands packets to answer.Responder. Promises: one bad packet ends nothing but itself; waiting
questions, connections and idle time are bounded. TCP answers may come in another order than the questions (RFC 7766).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any, cast

import structlog

from kybern.dns.answer import Responder
from kybern.dns.metrics import Metrics

WAITING = 1024  # questions that wait for others, over all transports
WAITING_PER_CONNECTION = 32
CONNECTIONS = 512
IDLE_SECONDS = 10.0
_LARGEST_BUFFER = 128 * 1024

log = structlog.get_logger(__name__)
Send = Callable[[bytes], None]


class Server:
    """All sockets of one DNS server."""

    def __init__(self, responder: Responder, tasks: asyncio.TaskGroup, metrics: Metrics) -> None:
        self._responder = responder
        self._tasks = tasks
        self.metrics = metrics
        self.connections: set[_Connection] = set()
        self._waiting = 0
        self._listener: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.port = 0

    async def start(self, address: str, port: int) -> None:
        """Listen on UDP and TCP; the same port for both, also for port 0. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), address, port, backlog=512)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(address, self.port)
        )

    def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def handle(self, packet: bytes, send: Send, done: Callable[[], None] | None, *, is_tcp: bool) -> None:
        """Answer a packet by `send`, now or later; `done` when nothing more will be sent for it."""
        try:
            outgoing = self._responder.respond(packet, is_tcp=is_tcp)
        except Exception:  # a supervised place: whatever a packet does, the server goes on
            log.exception("could not answer", packet=packet[:512].hex())
            outgoing = None
        if isinstance(outgoing, Coroutine):
            if self._waiting >= WAITING:
                outgoing.close()
                self.metrics.dropped.inc()
                outgoing = None
            else:
                self._waiting += 1
                self._tasks.create_task(self._wait(outgoing, send, done), name="dns question")
                return
        if outgoing is not None:
            send(outgoing)
        if done is not None:
            done()

    async def _wait(
        self, outgoing: Coroutine[Any, Any, bytes | None], send: Send, done: Callable[[], None] | None
    ) -> None:
        try:
            answer = await outgoing
            if answer is not None:
                send(answer)
        except Exception:  # a supervised place, as above
            log.exception("could not answer")
        finally:
            self._waiting -= 1
            if done is not None:
                done()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.metrics.udp.inc()
        self._server.handle(data, lambda answer: self._send(answer, addr), None, is_tcp=False)

    def _send(self, answer: bytes, addr: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(answer, addr)


class _Connection(asyncio.Protocol):
    """One TCP client: packets behind two octets of length."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._waiting = 0
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= CONNECTIONS:
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        self._transport.close()

    def _rest(self) -> None:
        """Wait for the next question, not for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        # Whoever does not read his answers is cut off; whoever waits for one is not idle.
        if self._waiting and not self._transport.get_write_buffer_size():
            self._rest()
            return
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._rest()
        self._take()

    def _take(self) -> None:
        while len(self._buffer) >= 2 and self._waiting < WAITING_PER_CONNECTION:
            (length,) = struct.unpack_from("!H", self._buffer)
            if len(self._buffer) < 2 + length:
                break
            packet = bytes(self._buffer[2 : 2 + length])
            del self._buffer[: 2 + length]
            self._server.metrics.tcp.inc()
            self._waiting += 1
            self._server.handle(packet, self._send, self._done, is_tcp=True)
        if len(self._buffer) > _LARGEST_BUFFER and not self._transport.is_closing():
            self._transport.pause_reading()

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(struct.pack("!H", len(answer)) + answer)

    def _done(self) -> None:
        self._waiting -= 1
        if self._waiting == WAITING_PER_CONNECTION - 1 and self._buffer and not self._transport.is_closing():
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._take)
