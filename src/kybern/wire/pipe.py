"""A bounded queue of bytes with an end: what a demultiplexer puts in, one reader takes out.

Used by spdy/connection and remotecommand, whose read loops wait in `wait_room` when a reader is behind.
"""

from __future__ import annotations

import asyncio
from collections import deque

_HIGH_WATER = 256 * 1024


class Pipe:
    """One feeder, one reader."""

    __slots__ = ("_chunks", "_ended", "_fault", "_feeder", "_reader", "abandoned", "buffered")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._fault: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._feeder: asyncio.Future[None] | None = None
        self.buffered = 0
        self.abandoned = False  # the reader will not come back

    def feed(self, data: bytes) -> None:
        if data and not self._ended and not self.abandoned:
            self._chunks.append(data)
            self.buffered += len(data)
            _wake(self._reader)

    def feed_eof(self, fault: Exception | None = None) -> None:
        """What was fed can still be read; then `read` gives b"" or raises `fault`."""
        if not self._ended:
            self._ended = True
            self._fault = fault
            _wake(self._reader)
            _wake(self._feeder)

    def abandon(self) -> None:
        """Drop everything, now and later: the feeder never waits again."""
        self.abandoned = True
        self._chunks.clear()
        self.buffered = 0
        _wake(self._feeder)

    @property
    def at_eof(self) -> bool:
        """Nothing is left and nothing will come."""
        return self._ended and not self._chunks

    async def read(self) -> bytes:
        """Everything there is, waiting for at least one byte; b"" at the end."""
        while not self._chunks:
            if self._ended or self.abandoned:
                if self._fault is not None:
                    raise self._fault
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        _wake(self._feeder)
        return data

    async def wait_room(self) -> None:
        """Return when the reader has caught up, or nobody reads any more."""
        while self.buffered > _HIGH_WATER and not self._ended and not self.abandoned:
            self._feeder = asyncio.get_running_loop().create_future()
            try:
                await self._feeder
            finally:
                self._feeder = None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
