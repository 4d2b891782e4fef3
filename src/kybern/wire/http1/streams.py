"""Where long answers go: a chunked body (Sink) and an upgraded connection (RawStream).

Made by connection, which tells them about bytes, back-pressure and the end; lent to handlers.
"""

from __future__ import annotations

import asyncio
from collections import deque

from isal import isal_zlib

from kybern.wire.http1 import body

GZIP_LEVEL = 1  # kube-apiserver: gzip's lowest; with ISA-L it is some 2 GB/s
GZIP_FRAME = 31  # gzip's own head and end
_HIGH_WATER = 256 * 1024  # unread bytes of an upgraded connection before its reading pauses


class Gate:
    """Open while the transport takes bytes; `wait` returns when it opens or the connection ends."""

    __slots__ = ("_loop", "_waiters", "closed", "is_open")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []
        self.is_open = True
        self.closed = False

    def shut(self) -> None:
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        while not self.is_open and not self.closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter


class ChunkedSink:
    """A Sink. Writes after the client has gone are dropped."""

    __slots__ = ("_chunked", "_gate", "_gone", "_is_head", "_transport", "is_watched")

    def __init__(self, transport: asyncio.Transport, gate: Gate, *, chunked: bool, is_head: bool) -> None:
        self._transport = transport
        self._gate = gate
        self._gone: asyncio.Future[None] | None = None  # made for who waits
        self._chunked = chunked
        self._is_head = is_head
        self.is_watched = False  # somebody waits for the end: who will then finish by itself

    def write(self, data: bytes) -> None:
        if data and not self._is_head and not self._gate.closed:
            self._transport.write(body.frame_chunk(data) if self._chunked else data)

    def write_framed(self, data: bytes) -> None:
        if not self._is_head and not self._gate.closed:
            self._transport.write(data if self._chunked else body.unframe(data))

    @property
    def buffered(self) -> int:
        return 0 if self._gate.closed else self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._gate.wait()

    @property
    def closed(self) -> bool:
        return self._gate.closed

    async def wait_closed(self) -> None:
        self.is_watched = True
        if self._gate.closed:
            return
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._gone)

    def abort(self) -> None:
        self._transport.abort()

    def finish(self) -> None:
        """End the body well: the client knows that nothing is missing."""
        if self._chunked and not self._is_head and not self._gate.closed:
            self._transport.write(body.LAST_CHUNK)

    def connection_lost(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)


class GzipSink:
    """A Sink before another one: what is written to it is compressed. `finish` it."""

    __slots__ = ("_gzip", "_inner")

    def __init__(self, inner: ChunkedSink) -> None:
        self._inner = inner
        self._gzip = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_FRAME)

    def write(self, data: bytes) -> None:
        self._inner.write(self._gzip.compress(data))

    def write_framed(self, data: bytes) -> None:
        self.write(body.unframe(data))

    @property
    def buffered(self) -> int:
        return self._inner.buffered

    async def drain(self) -> None:
        await self._inner.drain()

    @property
    def closed(self) -> bool:
        return self._inner.closed

    async def wait_closed(self) -> None:
        await self._inner.wait_closed()

    def abort(self) -> None:
        self._inner.abort()

    def finish(self) -> None:
        """Write what is still kept back."""
        self._inner.write(self._gzip.flush())


class RawConnection:
    """A RawStream: what arrives is queued (bounded by pausing the transport), what is written waits for the gate."""

    __slots__ = ("_buffered", "_chunks", "_eof", "_gate", "_paused", "_reader", "_transport")

    def __init__(self, transport: asyncio.Transport, gate: Gate, first: bytes) -> None:
        self._transport = transport
        self._gate = gate
        self._chunks: deque[bytes] = deque([first] if first else [])
        self._buffered = len(first)
        self._eof = False
        self._paused = False
        self._reader: asyncio.Future[None] | None = None  # the one read that waits

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> bytes:
        while not self._chunks:
            if self._eof or self._gate.closed:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._buffered = 0
        if self._paused and not self._gate.closed:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._gate.closed or self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)
        await self._gate.wait()

    def close(self) -> None:
        self._transport.close()
