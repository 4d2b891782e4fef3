"""The HTTP/1.1 server: a listening socket, its connections, and their deadlines.

Started by process/apiserver and process/kubelet with an application; hands each client to connection.
Promise: everything is bounded (sizes, times, what is read ahead), and `close` lets requests under way finish.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Generic

from kybern.machinery.clock import Clock
from kybern.wire.http1 import answer
from kybern.wire.http1.connection import Connection
from kybern.wire.http1.limits import Limits
from kybern.wire.message import Application, R
from kybern.wire.secure import SecureListener

_BACKLOG = 4096  # clients who come at once; the kernel allows as many as net.core.somaxconn
_SWEEP = 1.0  # seconds between looks at the deadlines
_STREAM_SECONDS = 2.0  # that a stream has to end by itself


class Server(Generic[R]):
    """A running server. `close` it before the TaskGroup it lives in ends."""

    def __init__(
        self, application: Application[R], request_type: type[R], tasks: asyncio.TaskGroup, clock: Clock, limits: Limits
    ) -> None:
        self.application = application
        self.request_type = request_type
        self.tasks = tasks
        self.limits = limits
        self.connections: set[Connection] = set()
        self.date = answer.render_date(clock.now())  # rendered once a sweep, not once an answer
        self.is_closing = False
        self._clock = clock
        self._listener: asyncio.Server | SecureListener | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return tuple(self._listener.sockets) if self._listener else ()

    @property
    def port(self) -> int:
        """Where it listens (for port 0)."""
        return int(self.sockets[0].getsockname()[1])

    async def start(self, listener: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        if ssl_context is None:
            self._listener = await loop.create_server(lambda: Connection(self, loop), sock=listener, backlog=_BACKLOG)
        else:
            listener.listen(_BACKLOG)
            self._listener = SecureListener(
                (listener,),
                ssl_context,
                lambda: Connection(self, loop),
                most_waiting=self.limits.connections,
                handshake_timeout=self.limits.handshake_timeout,
            )
        self._sweeper = self.tasks.create_task(self._sweep(), name="http1 sweep")

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._clock.sleep(_SWEEP)
            self.date = answer.render_date(self._clock.now())
            self.expire(loop.time())

    def expire(self, now: float) -> None:
        """End every connection whose deadline is before `now` (loop time)."""
        for connection in [c for c in self.connections if c.deadline < now]:
            connection.expire()
        if isinstance(self._listener, SecureListener):
            self._listener.expire(now)

    async def close(self, grace: float = 10.0, *, listen: bool = False) -> None:
        """Let requests under way finish for `grace` seconds, then end streams, then cut what is left.

        With `listen` new connections are served meanwhile (by an application that refuses them).
        """
        self.is_closing = True
        if self._listener is not None and not listen:
            self._listener.close()
        for connection in list(self.connections):
            connection.shut_down()
        try:
            await self._wait(grace, lambda: any(c.is_answering for c in self.connections))
            if self._listener is not None:
                self._listener.close()
            for connection in list(self.connections):
                connection.end_stream()
            await self._wait(min(grace, _STREAM_SECONDS), lambda: bool(self.connections))
        finally:
            if self._listener is not None:
                self._listener.close()
            for connection in list(self.connections):
                connection.abort()
            if self._sweeper is not None:
                self._sweeper.cancel()

    async def _wait(self, seconds: float, holds: Callable[[], bool]) -> None:
        waited = 0.0
        while holds() and waited < seconds:
            await self._clock.sleep(0.05)
            waited += 0.05


async def serve(
    application: Application[R],
    *,
    request_type: type[R],
    tasks: asyncio.TaskGroup,
    clock: Clock,
    host: str = "",
    port: int = 0,
    sock: socket.socket | None = None,
    ssl_context: ssl.SSLContext | None = None,
    limits: Limits | None = None,
) -> Server[R]:
    """Listen on `host` and `port` (or on `sock`) and answer with `application`, which gets `request_type`s.

    `host` "" means all addresses, IPv6 and IPv4. Tasks of requests are started in `tasks`. Raises OSError when the
    address cannot be had.
    """
    server = Server(application, request_type, tasks, clock, limits or Limits())
    await server.start(sock or listen(host, port), ssl_context)
    return server


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket. "" and "::" take IPv4 too, where the kernel has IPv6."""
    if host in ("", "::") and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host or "0.0.0.0", port), family=family, backlog=_BACKLOG)
