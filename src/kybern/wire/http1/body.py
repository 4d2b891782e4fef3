"""Chunked bodies, both ways. Pure; used by connection and streams.

Decoding is strict (RFC 9112 section 7.1): hexadecimal size, CRLF line ends, bounded extensions and trailers; anything
else is a fault, because two readers that disagree on where a message ends can be played against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n\x00]*)?")
_MAX_LINE = 4096  # of a size line with its extensions
_MAX_TRAILERS = 8192

LAST_CHUNK = b"0\r\n\r\n"


class BadChunk(ValueError):
    """The body is not framed as it must be."""


class BodyTooLarge(ValueError):
    """The body is longer than allowed."""


def frame_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. Empty data gives b"": an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def unframe(data: bytes) -> bytes:
    """The payload of whole chunks made by `frame_chunk` (for a client that knows no chunks)."""
    return b"".join(split(data))


def split(data: bytes) -> Iterator[bytes]:
    """The payload of each of them."""
    position = 0
    while position < len(data):
        end = data.index(b"\r\n", position)
        size = int(data[position:end], 16)
        yield data[end + 2 : end + 2 + size]
        position = end + 2 + size + 2


class ChunkedBody:
    """Collects a chunked body: feed bytes until `done`; `rest` is what followed it."""

    __slots__ = ("_limit", "_pending", "_remaining", "_size", "_state", "_trailers", "done", "parts", "rest")

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self.done = False
        self.rest = b""
        self._limit = limit
        self._size = 0  # of all parts
        self._pending = b""
        self._remaining = 0  # of the current chunk
        self._trailers = 0  # bytes of trailers seen
        self._state = "size"

    def feed(self, data: bytes) -> None:
        """Raises BadChunk, BodyTooLarge."""
        data = self._pending + data
        position = 0
        while not self.done:
            if self._state == "data":
                part = data[position : position + self._remaining]
                if part:
                    self.parts.append(part)
                    self._remaining -= len(part)
                    position += len(part)
                if self._remaining:
                    break
                self._state = "end"
            elif self._state == "end":
                if len(data) - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    raise BadChunk("chunk does not end where its size says")
                position += 2
                self._state = "size"
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    if len(data) - position > _MAX_LINE:
                        raise BadChunk("chunk line too long")
                    break
                if end == position or data[end - 1] != 0x0D or end - position > _MAX_LINE:
                    raise BadChunk("malformed chunk line")
                self._read_line(data[position : end - 1])
                position = end + 1
        if self.done:
            self._pending, self.rest = b"", data[position:]
        else:
            self._pending = data[position:]

    def _read_line(self, line: bytes) -> None:
        if self._state == "trailers":
            self._trailers += len(line) + 2
            if self._trailers > _MAX_TRAILERS:
                raise BadChunk("trailers too long")
            self.done = not line
            return
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BadChunk("malformed chunk size")
        self._remaining = int(found[1], 16)
        self._size += self._remaining
        if self._size > self._limit:
            raise BodyTooLarge
        self._state = "data" if self._remaining else "trailers"
