"""The nouns of HTTP that every server here shares: a request, what answers it, and where streams go.

Made by wire/http1, read by the applications: apiserver/pipeline (whose Request adds the user) and kubelet/server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(slots=True)
class Request:
    """One HTTP request. Header names are lower-case."""

    method: str
    path: str  # percent-decoded but for %2F, without query
    target: str  # as sent
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # repeated fields joined by ", "; shared with other requests of the client
    body: bytes = b""
    peer: str = ""  # address of the client
    certificates: tuple[bytes, ...] = ()  # DER of the verified client certificate

    def flag(self, name: str) -> str:
        """The first value of a query parameter, or ""."""
        values = self.query.get(name)
        return values[0] if values else ""


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    fields: bytes = b""  # more header fields, as the lines they are on the wire
    on_sent: Callable[[], None] | None = None  # called once the kernel has taken it, or the client has gone


class Sink(Protocol):
    """Where a streamed answer goes: one HTTP/1.1 chunked body."""

    def write(self, data: bytes) -> None:
        """Send one chunk now; never blocks."""
        ...

    def write_framed(self, data: bytes) -> None:
        """Send bytes that hold whole chunks already (wire.http1.frame_chunk), shared by many sinks."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel: how far this client is behind."""
        ...

    async def drain(self) -> None:
        """Wait until `buffered` is below the high-water mark."""
        ...

    @property
    def closed(self) -> bool: ...

    async def wait_closed(self) -> None:
        """Return when the client has gone away."""
        ...

    def abort(self) -> None:
        """Cut the connection (a client too slow to follow)."""
        ...


@dataclass(slots=True, eq=False)
class Resting:
    """What is left of a stream that only waits: others write to its sink, and no task waits for its end.

    A task and its coroutines take four times the memory of everything else that we keep of a connection.
    """

    deadline: float  # loop time; a second more may pass
    at_deadline: Callable[[], object]  # the last words, before the body ends well
    at_end: tuple[Callable[[], object], ...]  # however it ends, each once, in this order

    def end(self) -> None:
        calls, self.at_end = self.at_end, ()
        for call in calls:
            call()


@dataclass(slots=True)
class StreamResponse:
    """Headers at once, then a chunked body written by `run` until it returns or the client goes.

    When the client goes, `wait_closed` returns; a `run` that does not wait for that, or does not end soon after
    it, is cancelled. A `run` that returns a Resting has begun a stream that goes on without it.
    """

    run: Callable[[Sink], Awaitable[Resting | None]]
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    fields: bytes = b""  # as those of a Response
    # One document, too long to be made at once, that comes to its end by itself. It is written with `write`, and
    # compressed where the client takes that.
    is_document: bool = False
    size: int = 0  # bytes of the document written so far, before compression: for whom it may concern


class RawStream(Protocol):
    """A connection after `101 Switching Protocols` (or a hijacked one): plain bytes both ways."""

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer is behind. Raises ConnectionError when it has gone."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class UpgradeResponse:
    """`101` with these headers, after which `run` owns the connection."""

    run: Callable[[RawStream], Awaitable[None]]
    protocol: str  # value of the Upgrade header: "websocket", "SPDY/3.1"
    headers: tuple[tuple[str, str], ...] = ()


Answer = Response | StreamResponse | UpgradeResponse

R = TypeVar("R", bound=Request)
# A handler answers at once where it can (reads from memory): no task is started for those.
Application = Callable[[R], Answer | Awaitable[Answer]]
