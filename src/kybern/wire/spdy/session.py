"""One SPDY/3.1 session: frames in, events out, and the other way round. Pure: no sockets, no tasks.

Fed by connection. The peers of this world are built on moby/spdystream, which neither grants nor heeds
flow-control windows, and which closes without reading on: a WINDOW_UPDATE it has not read then resets the
connection and takes the end of the output with it. So windows are kept only with a peer that has shown, by a first
WINDOW_UPDATE or SETTINGS of its own, that it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kybern.wire.spdy import frames
from kybern.wire.spdy.headers import BadHeaders, HeaderCodec

_WINDOW = 64 * 1024  # the draft's initial size, for streams and session
_MAX_STREAMS = 1000  # open at a time


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream: answer with `accept` or `reset`."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer answered a stream that we opened."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    """`fin`: nothing more will come on this stream."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """`stream` (0: every stream) may send more."""

    stream: int


@dataclass(frozen=True, slots=True)
class PingAnswered:
    number: int


@dataclass(frozen=True, slots=True)
class PeerLeaving:
    """GOAWAY: the peer accepts no new streams."""

    status: int


Event = StreamOpened | StreamAccepted | DataReceived | StreamReset | WindowOpened | PingAnswered | PeerLeaving


class ProtocolFault(ValueError):
    """The peer broke the protocol: send what `take_output` holds (a GOAWAY) and close."""


@dataclass(slots=True)
class _Stream:
    sent: int = 0
    granted: int = 0  # by WINDOW_UPDATE, beyond the initial window
    uncredited: int = 0  # received and consumed, not yet given back
    local_done: bool = False
    remote_done: bool = False
    accepted: bool = False


@dataclass(slots=True)
class Session:
    """`is_server` decides the parity of stream numbers."""

    is_server: bool
    _reader: frames.FrameReader = field(default_factory=frames.FrameReader)
    _codec: HeaderCodec = field(default_factory=HeaderCodec)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _whole: _Stream = field(default_factory=_Stream)  # the session's own windows
    _out: list[bytes] = field(default_factory=list)
    _last_local: int = 0
    _last_remote: int = 0
    _last_ping: int = 0
    _peer_window: int = _WINDOW
    _keeps_windows: bool = False
    _heeds_streams: bool = False  # the peer grants windows to streams
    _heeds_session: bool = False

    def take_output(self) -> bytes:
        """Bytes to send, once."""
        out, self._out = b"".join(self._out), []
        return out

    # -- what arrives ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Raises ProtocolFault."""
        events: list[Event] = []
        try:
            for frame in self._reader.feed(data):
                event = self._on_data(frame) if isinstance(frame, frames.Data) else self._on_control(frame)
                if event is not None:
                    events.append(event)
        except (frames.BadFrame, BadHeaders) as fault:
            self._out.append(frames.render_goaway(self._last_remote, frames.GOAWAY_PROTOCOL_ERROR))
            raise ProtocolFault(str(fault)) from None
        return events

    def _on_data(self, frame: frames.Data) -> Event | None:
        stream = self._streams.get(frame.stream)
        if stream is None or stream.remote_done:
            if frame.stream == 0 or frame.stream > max(self._last_remote, self._last_local):
                raise frames.BadFrame("data for a stream that was never opened")
            self._credit(0, len(frame.data))  # late data of a closed stream
            return None
        if frame.fin:
            stream.remote_done = True
            self._drop_if_done(frame.stream)
        if not frame.data and not frame.fin:
            return None
        return DataReceived(frame.stream, frame.data, frame.fin)

    def _on_control(self, frame: frames.Control) -> Event | None:
        payload = frame.payload
        match frame.kind:
            case frames.SYN_STREAM:
                return self._on_syn_stream(frame)
            case frames.SYN_REPLY:
                number = frames.parse_u32(payload)
                headers = self._codec.decode(payload[4:])
                stream = self._streams.get(number)
                if stream is None:
                    return None
                stream.accepted = True
                if frame.flags & frames.FLAG_FIN:
                    stream.remote_done = True
                    self._drop_if_done(number)
                return StreamAccepted(number, headers)
            case frames.HEADERS:
                self._codec.decode(payload[4:])  # only to keep the zlib state in step
                return None
            case frames.RST_STREAM:
                number, status = frames.parse_u32(payload), frames.parse_u32(payload, 4)
                return StreamReset(number, status) if self._streams.pop(number, None) else None
            case frames.PING:
                number = frames.parse_u32(payload)
                if number % 2 == (0 if self.is_server else 1):
                    return PingAnswered(number)
                self._out.append(frames.render_ping(number))
                return None
            case frames.GOAWAY:
                return PeerLeaving(frames.parse_u32(payload, 4))
            case frames.SETTINGS:
                self._keeps_windows = True
                self._peer_window = frames.parse_settings(payload).get(frames.INITIAL_WINDOW_SIZE, self._peer_window)
                return None
            case frames.WINDOW_UPDATE:
                return self._on_window_update(frames.parse_u32(payload), frames.parse_u32(payload, 4))
            case _:
                return None  # the draft: unknown control frames are ignored

    def _on_syn_stream(self, frame: frames.Control) -> Event | None:
        number = frames.parse_u32(frame.payload)
        if len(frame.payload) < 10:
            raise frames.BadFrame("SYN_STREAM too short")
        headers = self._codec.decode(frame.payload[10:])
        if number % 2 != (1 if self.is_server else 0) or number <= self._last_remote:
            raise frames.BadFrame(f"stream {number} may not be opened")
        self._last_remote = number
        if len(self._streams) >= _MAX_STREAMS:
            self._out.append(frames.render_rst_stream(number, frames.REFUSED_STREAM))
            return None
        fin = bool(frame.flags & frames.FLAG_FIN)
        self._streams[number] = _Stream(remote_done=fin)
        return StreamOpened(number, headers, fin)

    def _on_window_update(self, number: int, delta: int) -> Event | None:
        self._keeps_windows = True
        if number == 0:
            self._heeds_session = True
            self._whole.granted += delta
            return WindowOpened(0)
        self._heeds_streams = True
        stream = self._streams.get(number)
        if stream is None:
            return None
        stream.granted += delta
        return WindowOpened(number)

    # -- what is sent ---------------------------------------------------------------------------------

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream; its number."""
        self._last_local = self._last_local + 2 if self._last_local else (2 if self.is_server else 1)
        self._streams[self._last_local] = _Stream(local_done=fin)
        self._out.append(frames.render_syn_stream(self._last_local, self._codec.encode(headers), fin=fin))
        return self._last_local

    def accept(self, number: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer a stream the peer opened."""
        if number in self._streams:
            self._streams[number].accepted = True
            self._out.append(frames.render_syn_reply(number, self._codec.encode(headers or {}), fin=False))

    def reset(self, number: int, status: int = frames.CANCEL) -> None:
        """Give up a stream. Nothing happens if it has ended already."""
        if self._streams.pop(number, None) is not None:
            self._out.append(frames.render_rst_stream(number, status))

    def room(self, number: int) -> int:
        """How many bytes the peer is ready to take on a stream now; 0: wait for WindowOpened."""
        stream = self._streams.get(number)
        if stream is None:
            return 0
        room = 1 << 20
        if self._heeds_streams:
            room = min(room, self._peer_window + stream.granted - stream.sent)
        if self._heeds_session:
            room = min(room, _WINDOW + self._whole.granted - self._whole.sent)
        return max(0, room)

    def send(self, number: int, data: bytes, *, fin: bool = False) -> None:
        """At most `room` bytes. Nothing happens on a stream that has ended."""
        stream = self._streams.get(number)
        if stream is None or stream.local_done:
            return
        stream.sent += len(data)
        self._whole.sent += len(data)
        self._out.append(frames.render_data(number, data, fin=fin))
        if fin:
            stream.local_done = True
            self._drop_if_done(number)

    def consumed(self, number: int, size: int) -> None:
        """Received bytes were used up: let the peer send as many again."""
        self._credit(number, size)
        self._credit(0, size)

    def ping(self) -> int:
        """Ask for a sign of life; PingAnswered carries this number."""
        self._last_ping = self._last_ping + 2 if self._last_ping else (2 if self.is_server else 1)
        self._out.append(frames.render_ping(self._last_ping))
        return self._last_ping

    def leave(self) -> None:
        self._out.append(frames.render_goaway(self._last_remote, frames.GOAWAY_OK))

    def is_open(self, number: int) -> bool:
        return number in self._streams

    def _credit(self, number: int, size: int) -> None:
        stream = self._whole if number == 0 else self._streams.get(number)
        if stream is None or stream.remote_done:
            return
        stream.uncredited += size
        if self._keeps_windows and stream.uncredited >= _WINDOW // 2:
            self._out.append(frames.render_window_update(number, stream.uncredited))
            stream.uncredited = 0

    def _drop_if_done(self, number: int) -> None:
        stream = self._streams[number]
        if stream.local_done and stream.remote_done:
            del self._streams[number]
