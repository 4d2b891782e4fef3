"""Two ends of a connection in memory: what one writes, the other reads. Used by tests of the wire."""

from __future__ import annotations

from kybern.wire.pipe import Pipe


class MemoryStream:
    """One end; a `wire.message.RawStream`."""

    def __init__(self, inbox: Pipe, outbox: Pipe) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self.is_closed = False

    async def read(self) -> bytes:
        return await self._inbox.read()

    async def write(self, data: bytes) -> None:
        if self.is_closed or self._inbox.at_eof:
            raise ConnectionResetError("the other end has gone")
        self._outbox.feed(data)
        await self._outbox.wait_room()

    def close(self) -> None:
        self.is_closed = True
        self._outbox.feed_eof()
        self._inbox.feed_eof()


def connect() -> tuple[MemoryStream, MemoryStream]:
    """Both ends."""
    there, back = Pipe(), Pipe()
    return MemoryStream(back, there), MemoryStream(there, back)
