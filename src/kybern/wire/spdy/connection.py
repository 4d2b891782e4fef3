"""A SPDY/3.1 session over a connection: streams that tasks read and write.

Fed by a RawStream (an upgraded HTTP connection, or WebSocket messages); used by remotecommand, portforward and
the kubelet's client of the container runtime. A stream whose reader is behind stops the whole
connection's reading (bounded memory), as with every peer that has no flow control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import assert_never

from kybern.wire.message import RawStream
from kybern.wire.pipe import Pipe
from kybern.wire.spdy import frames
from kybern.wire.spdy.session import (
    DataReceived,
    Event,
    PeerLeaving,
    PingAnswered,
    ProtocolFault,
    Session,
    StreamAccepted,
    StreamOpened,
    StreamReset,
    WindowOpened,
)

_PIECE = 32 * 1024  # of data in one frame
_MAX_WAITING = 1000  # opened by the peer and not accepted yet: opening and resetting must not fill the memory


class StreamGone(ConnectionError):
    """The stream was reset, or its connection ended."""


class SpdyStream:
    """One stream of a SpdyConnection."""

    __slots__ = ("_connection", "_pipe", "_window", "headers", "number")

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._connection = connection
        self._pipe = Pipe()
        self._window = asyncio.Event()

    async def read(self) -> bytes:
        """Some bytes; b"" at the end. Raises StreamGone when the stream was cut."""
        data = await self._pipe.read()
        if data:
            await self._connection.credit(self.number, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Raises StreamGone."""
        view = memoryview(data)
        while view:
            room = await self._wait_window()
            piece = bytes(view[: min(room, _PIECE)])
            view = view[len(piece) :]
            await self._connection.send(self.number, piece)

    async def close(self) -> None:
        """Nothing more will be written (FIN). Reading goes on."""
        await self._connection.send(self.number, b"", fin=True)

    async def reset(self) -> None:
        """Give up both directions."""
        self._pipe.abandon()
        await self._connection.reset(self.number)

    def abandon(self) -> None:
        """Whatever still arrives is thrown away."""
        self._pipe.abandon()

    async def _wait_window(self) -> int:
        while True:
            room = self._connection.room(self.number)
            if room:
                return room
            self._window.clear()
            await self._window.wait()

    # called by the connection
    def feed(self, data: bytes) -> None:
        self._pipe.feed(data)

    def feed_eof(self, fault: Exception | None = None) -> None:
        self._pipe.feed_eof(fault)
        self._window.set()

    def open_window(self) -> None:
        self._window.set()

    async def wait_room(self) -> None:
        await self._pipe.wait_room()


class SpdyConnection:
    """`run` it in a task; meanwhile `accept` and `open` streams."""

    def __init__(self, raw: RawStream, *, is_server: bool) -> None:
        self._raw = raw
        self._session = Session(is_server)
        self._streams: dict[int, SpdyStream] = {}
        self._incoming: asyncio.Queue[SpdyStream | None] = asyncio.Queue()  # at most _MAX_WAITING
        self._ended = False
        self.last_heard = 0  # counts reads: a change is a sign of life

    async def run(self) -> None:
        """Read until the peer has gone. Never raises for what the peer does; streams learn of it."""
        try:
            while data := await self._raw.read():
                self.last_heard += 1
                try:
                    events = self._session.receive(data)
                except ProtocolFault:
                    await self._flush()
                    break
                touched = [stream for event in events if (stream := self._apply(event)) is not None]
                await self._flush()
                for stream in touched:
                    await stream.wait_room()
        except ConnectionError:
            pass  # told to the streams below
        finally:
            self._end()

    def _apply(self, event: Event) -> SpdyStream | None:
        """The stream that got data, if any."""
        match event:
            case StreamOpened(number, _, _) if self._incoming.qsize() >= _MAX_WAITING:
                self._session.reset(number, frames.REFUSED_STREAM)
            case StreamOpened(number, headers, fin):
                stream = self._streams[number] = SpdyStream(self, number, headers)
                if fin:
                    stream.feed_eof()
                self._incoming.put_nowait(stream)
            case DataReceived(number, data, fin):
                found = self._streams.get(number)
                if found is not None:
                    found.feed(data)
                    if fin:
                        found.feed_eof()
                        self._forget_if_done(number)
                    return found
            case StreamReset(number, _):
                gone = self._streams.pop(number, None)
                if gone is not None:
                    gone.feed_eof(StreamGone("the stream was reset"))
            case WindowOpened(0):
                for each in self._streams.values():
                    each.open_window()
            case WindowOpened(number):
                if number in self._streams:
                    self._streams[number].open_window()
            case StreamAccepted() | PingAnswered() | PeerLeaving():
                pass
            case _:
                assert_never(event)
        return None

    def _end(self) -> None:
        self._ended = True
        for stream in self._streams.values():
            stream.feed_eof(StreamGone("the connection ended"))
        self._streams.clear()
        self._incoming.put_nowait(None)

    async def accept(self) -> SpdyStream | None:
        """The next stream the peer opens, answered; None when the connection has ended."""
        stream = await self._incoming.get()
        if stream is None:
            self._incoming.put_nowait(None)  # for the next caller
            return None
        self._session.accept(stream.number)
        await self._flush()
        return stream

    async def open(self, headers: Mapping[str, str], *, fin: bool = False) -> SpdyStream:
        """A new stream; the peer's answer is not waited for. Raises StreamGone."""
        if self._ended:
            raise StreamGone("the connection ended")
        number = self._session.open(headers, fin=fin)
        stream = self._streams[number] = SpdyStream(self, number, headers)
        await self._flush()
        return stream

    async def ping(self) -> None:
        self._session.ping()
        await self._flush()

    async def leave(self) -> None:
        """Say that no new streams are wanted."""
        self._session.leave()
        await self._flush()

    def close(self) -> None:
        self._raw.close()

    # called by streams
    def room(self, number: int) -> int:
        if self._ended or not self._session.is_open(number):
            raise StreamGone("the stream has ended")
        return self._session.room(number)

    async def send(self, number: int, data: bytes, *, fin: bool = False) -> None:
        self._session.send(number, data, fin=fin)
        self._forget_if_done(number)
        await self._flush()

    async def reset(self, number: int) -> None:
        self._session.reset(number, frames.CANCEL)
        self._streams.pop(number, None)
        await self._flush()

    async def credit(self, number: int, size: int) -> None:
        self._session.consumed(number, size)
        await self._flush()

    def _forget_if_done(self, number: int) -> None:
        if not self._session.is_open(number):
            self._streams.pop(number, None)

    async def _flush(self) -> None:
        out = self._session.take_output()
        if out and not self._ended:
            await self._raw.write(out)
