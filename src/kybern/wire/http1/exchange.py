"""One request to a server and its answer, over a RawStream: the client's side, for proxies and upgrades.

Used by apiserver/proxy and kubelet/server. Unlike client/http it keeps every header in order, streams both bodies,
follows nothing, and gives the raw connection after `101`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import httptools

from kybern.wire.message import RawStream

_MAX_HEAD = 1 << 20


class BadAnswer(ConnectionError):
    """The server went away or does not speak HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers of an answer; names in lower case, in order."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first value of a header, or ""."""
        return next((value for key, value in self.headers if key == name), "")


def render_request(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
    """A whole request. `headers` holds Host; the length is added. Raises ValueError for a forged line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError("line end in a request line or header")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


class Exchange:
    """Send the request's bytes yourself, then `read_head`, then `read` the body or take `raw`."""

    def __init__(self, raw: RawStream, *, is_head: bool = False) -> None:
        self._raw = raw
        self._is_head = is_head  # answers to HEAD have no body, whatever their length says
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._head: AnswerHead | None = None
        self._parts: deque[bytes] = deque()
        self._done = False
        self._rest = b""
        self._size = 0

    # called by httptools
    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = tuple(self._headers), []
        if status == 101 or status >= 200:  # others (100, 103) only announce the answer
            self._head = AnswerHead(status, headers)

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        self._done = self._head is not None

    async def read_head(self) -> AnswerHead:
        """Raises BadAnswer."""
        while self._head is None:
            data = await self._raw.read()
            self._size += len(data)
            if not data:
                raise BadAnswer("the server closed the connection without an answer")
            if self._size > _MAX_HEAD:
                raise BadAnswer("the head of the answer is too large")
            self._feed(data)
        if self._is_head:
            self._done = True
            self._parts.clear()
        return self._head

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._done = True
            self._rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as fault:
            raise BadAnswer(f"the server does not speak HTTP/1.1: {fault}") from None

    async def read(self) -> bytes:
        """The next part of the body; b"" at its end. Raises BadAnswer when it is cut short."""
        while not self._parts:
            if self._done:
                return b""
            data = await self._raw.read()
            if data:
                self._feed(data)
            elif self._ends_at_close():
                self._done = True
            else:
                raise BadAnswer("the answer was cut short")
        return self._parts.popleft()

    async def read_all(self, limit: int) -> bytes:
        """The whole body, or its first `limit` bytes."""
        found = b""
        while len(found) < limit and (part := await self.read()):
            found += part
        return found[:limit]

    def _ends_at_close(self) -> bool:
        """A body without length or chunks ends with its connection (RFC 9112 section 6.3)."""
        head = self._head
        return head is not None and not head.get("content-length") and "chunked" not in head.get("transfer-encoding")

    def take_raw(self) -> RawStream:
        """The connection after 101, first of all what came behind the head."""
        return _Resumed(self._raw, self._rest)


class _Resumed:
    """A RawStream whose first bytes were read already."""

    def __init__(self, raw: RawStream, first: bytes) -> None:
        self._raw = raw
        self._first = first

    async def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._raw.read()

    async def write(self, data: bytes) -> None:
        await self._raw.write(data)

    def close(self) -> None:
        self._raw.close()
