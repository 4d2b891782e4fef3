"""HTTP/1.1 from the client's side: connections that carry one exchange at a time, and a bounded pool of them.

Used by rest.RestClient and apiserver/webhooks. Knows nothing of Kubernetes. Streams have back-pressure: a body that
nobody reads stops the socket. Promises: a connection goes back to the pool only after a whole answer was read from it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import ssl
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import httptools

from kybern.client import kubeconfig

CONNECT_TIMEOUT = 10.0
IDLE_LIMIT = 55.0  # seconds; servers commonly close idle connections at 60 or later
HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18
HEAD_LIMIT = 1 << 20  # status line and headers
BODY_LIMIT = 1 << 30  # of a whole (not streamed) answer


class Disconnected(ConnectionError):
    """The connection broke. `unsent`: certainly before the server saw a request."""

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


@dataclass(slots=True)
class Head:
    """Status and headers (lower-case names, the last of repeated ones)."""

    status: int
    headers: dict[str, str]


class Connection(asyncio.Protocol):
    """One socket, one exchange at a time.

    `limit`: bytes of a whole answer, head and framing counted (0: as many as come).
    Whatever the server sends before it is asked, or after its answer, ends the connection and belongs to nobody.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._received = 0  # bytes since the last request was sent
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._head: asyncio.Future[Head] | None = None
        self._headers: dict[str, str] = {}
        self._chunks: collections.deque[bytes] = collections.deque()
        self._buffered = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._complete = True
        self._has_excess = False
        self._keep_alive = True
        self._failure: Disconnected | None = None
        self.idle_since = 0.0

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._complete:
            self._fail(Disconnected("the server sent something nobody asked for"))
            return
        self._received += len(data)
        is_head = self._head is not None and not self._head.done()
        if (self.limit and self._received > self.limit) or (is_head and self._received > HEAD_LIMIT + len(data)):
            self._fail(Disconnected("the answer is too long"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Disconnected("the server switched protocols unasked"))
        except httptools.HttpParserError as error:
            self._fail(Disconnected(f"the server does not speak HTTP/1.1: {error}"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._parser is not None and not self._complete and self._ends_at_close():
            self.on_message_complete()
            self._keep_alive = False
        self._fail(Disconnected(f"connection lost: {exc}" if exc else "connection closed by the server"))

    # httptools callbacks
    def on_message_begin(self) -> None:
        if self._complete:
            self._has_excess = True  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers = {}  # it only announces the answer
        elif self._head is not None and not self._head.done():
            self._head.set_result(Head(status, self._headers))

    def on_body(self, body: bytes) -> None:
        if self._has_excess:
            return
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._head is None or not self._head.done():
            return  # of an announcement
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()
        self._wake()

    # the exchange
    async def send(self, data: bytes) -> Head:
        """Send one request; returns when the headers of its answer are here."""
        if self._failure is not None or self._transport is None:
            raise Disconnected("the connection is closed", unsent=True)
        self._parser = httptools.HttpResponseParser(self)
        self._head = self._loop.create_future()
        self._headers = {}
        self._complete = False
        self._received = 0
        self._transport.write(data)
        return await self._head

    async def read(self) -> bytes:
        """The next part of the body; b"" at its end. Raises Disconnected if it is cut short."""
        while not self._chunks:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            self._waiter = self._loop.create_future()
            await self._waiter
        part = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport is not None and self._failure is None:
            self._paused = False
            self._transport.resume_reading()
        return part

    async def read_all(self) -> bytes:
        parts = []
        size = 0
        while part := await self.read():
            size += len(part)
            if size > BODY_LIMIT:
                raise Disconnected(f"the answer is longer than {BODY_LIMIT} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def reusable(self) -> bool:
        """The last answer was read to its end and the server keeps the connection."""
        is_whole = self._complete and not self._has_excess and not self._chunks
        return is_whole and self._keep_alive and self._failure is None

    @property
    def has_answered(self) -> bool:
        """Something came since the last request was sent."""
        return self._received > 0

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def close(self) -> None:
        if self._failure is None:
            self._failure = Disconnected("closed")
        if self._transport is not None:
            self._transport.abort()

    def _ends_at_close(self) -> bool:
        """A body without length or chunks is ended by the end of the connection (RFC 9112, 6.3)."""
        known = "content-length" in self._headers or "chunked" in self._headers.get("transfer-encoding", "")
        return self._head is not None and self._head.done() and not known

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: Disconnected) -> None:
        if self._failure is None:
            self._failure = failure
        if self._head is not None and not self._head.done():
            self._head.set_exception(self._failure)
        self._wake()
        if self._transport is not None:
            self._transport.abort()


class Body(Protocol):
    """What a streamed answer is read from."""

    async def read(self) -> bytes:
        """The next part; b"" at the end."""
        ...

    async def read_all(self) -> bytes: ...


class Wire(Protocol):
    """Where requests go: Transport, or testing.fake_api.FakeApi."""

    authority: str
    base_path: str

    async def exchange(self, data: bytes, timeout: float) -> tuple[Head, bytes]: ...

    def stream(self, data: bytes, timeout: float) -> AbstractAsyncContextManager[tuple[Head, Body]]: ...

    def close(self) -> None: ...


class Transport:
    """Connections to one server: at most `limit` for plain exchanges, streams on top of that."""

    def __init__(self, access: kubeconfig.Access, *, limit: int = 16, stream_limit: int = 512) -> None:
        url = urllib.parse.urlsplit(access.server)
        if url.scheme not in ("https", "http") or not url.hostname:
            raise ValueError(f"cannot connect to {access.server!r}: want https://host:port")
        self._access = access
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = url.scheme == "https"
        self.authority = url.netloc.rpartition("@")[2]
        self.base_path = url.path.rstrip("/")
        self._most_idle = limit
        self._limit = asyncio.Semaphore(limit)
        self._stream_limit = asyncio.Semaphore(stream_limit)
        self._idle: collections.deque[Connection] = collections.deque()
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[int, ...] = ()

    async def exchange(self, data: bytes, timeout: float) -> tuple[Head, bytes]:
        """Send a request, return the whole answer. Raises Disconnected, TimeoutError or OSError."""
        async with self._limit, asyncio.timeout(timeout):
            connection = await self._take()
            try:
                head = await connection.send(data)
                body = await connection.read_all()
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)
            return head, body

    @contextlib.asynccontextmanager
    async def stream(self, data: bytes, timeout: float) -> AsyncIterator[tuple[Head, Body]]:
        """Send a request, lend the connection to read the body from. `timeout` ends with the headers."""
        async with self._stream_limit:
            async with asyncio.timeout(timeout):
                connection = await self._take()
                try:
                    head = await connection.send(data)
                except BaseException:
                    connection.close()
                    raise
            try:
                yield head, connection
            finally:
                self._give_back(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _take(self) -> Connection:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if not connection.failed and now - connection.idle_since < IDLE_LIMIT:
                return connection
            connection.close()
        return await self._connect()

    def _give_back(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        while self._idle and (self._idle[0].failed or now - self._idle[0].idle_since >= IDLE_LIMIT):
            self._idle.popleft().close()
        if connection.reusable and len(self._idle) < self._most_idle:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()

    async def _connect(self) -> Connection:
        context = self._tls_context()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                transport, connection = await asyncio.get_running_loop().create_connection(
                    Connection,
                    self._host,
                    self._port,
                    ssl=context,
                    server_hostname=(self._access.tls_server_name or self._host) if context else None,
                )
        except TimeoutError:
            raise Disconnected(
                f"connecting to {self.authority}: no answer in {CONNECT_TIMEOUT:.0f} s", unsent=True
            ) from None
        except OSError as error:  # refused, unreachable, no such host, and ssl.SSLError
            raise Disconnected(f"connecting to {self.authority}: {error}", unsent=True) from error
        _keep_alive(transport.get_extra_info("socket"))
        return connection

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        try:
            stamp = self._access.stamp()
            if self._context is None or stamp != self._stamp:
                self._context = self._access.ssl_context()
                self._stamp = stamp
        except (OSError, ValueError) as error:
            raise Disconnected(f"loading certificates for {self.authority}: {error}", unsent=True) from error
        return self._context


def _keep_alive(sock: socket.socket | None) -> None:
    """Let the kernel find dead peers in about a minute: a silent watch would otherwise wait for ever."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    ):
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)
