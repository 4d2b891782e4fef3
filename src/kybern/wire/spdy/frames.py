"""SPDY/3.1 frames: bytes to frames and back. Pure; used by session.

Data frames come out in pieces, as their bytes arrive: nothing waits for a 16 MiB frame to be whole. Source:
draft-mbelshe-httpbis-spdy-00 (version 3) with the session window of 3.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 3

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9

FLAG_FIN = 0x01

# Status codes of RST_STREAM.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
# Status codes of GOAWAY.
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1
# Setting ids.
INITIAL_WINDOW_SIZE = 7

_HEAD = struct.Struct(">II")
_U32 = struct.Struct(">I")
_2U32 = struct.Struct(">II")
_MAX_CONTROL = 64 * 1024
_MAX_FRAME = 0xFFFFFF


class BadFrame(ValueError):
    """Bytes that are no SPDY/3.1 frame."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame, its payload uninterpreted."""

    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a data frame. `fin` is set on the last piece of a frame with FLAG_FIN."""

    stream: int
    data: bytes
    fin: bool


class FrameReader:
    """Feed bytes, get frames."""

    def __init__(self) -> None:
        self._pending = b""
        self._stream = 0  # of the data frame being read
        self._remaining = -1  # bytes of it; -1: none is being read
        self._fin = False

    def feed(self, data: bytes) -> list[Control | Data]:
        """Raises BadFrame."""
        data = self._pending + data if self._pending else data
        position, found = 0, list[Control | Data]()
        while True:
            if self._remaining >= 0:
                part = data[position : position + self._remaining]
                position += len(part)
                self._remaining -= len(part)
                done = self._remaining == 0
                if part or done:
                    found.append(Data(self._stream, part, self._fin and done))
                if not done:
                    break
                self._remaining = -1
            if len(data) - position < 8:
                break
            first, second = _HEAD.unpack_from(data, position)
            flags, length = second >> 24, second & _MAX_FRAME
            if not first & 0x80000000:
                self._stream, self._remaining, self._fin = first, length, bool(flags & FLAG_FIN)
                position += 8
                continue
            if (first >> 16) & 0x7FFF != VERSION:
                raise BadFrame("not a SPDY/3 frame")
            if length > _MAX_CONTROL:
                raise BadFrame("control frame too large")
            if len(data) - position < 8 + length:
                break
            found.append(Control(first & 0xFFFF, flags, data[position + 8 : position + 8 + length]))
            position += 8 + length
        self._pending = data[position:]
        return found


def render_control(kind: int, flags: int, payload: bytes) -> bytes:
    return _HEAD.pack(0x80000000 | VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def render_data(stream: int, data: bytes, *, fin: bool) -> bytes:
    """One or more data frames."""
    if len(data) <= _MAX_FRAME:
        return _HEAD.pack(stream, (FLAG_FIN if fin else 0) << 24 | len(data)) + data
    head, rest = data[:_MAX_FRAME], data[_MAX_FRAME:]
    return render_data(stream, head, fin=False) + render_data(stream, rest, fin=fin)


def render_syn_stream(stream: int, block: bytes, *, fin: bool) -> bytes:
    """Priority, associated stream and credential slot stay 0."""
    return render_control(SYN_STREAM, FLAG_FIN if fin else 0, _2U32.pack(stream, 0) + b"\0\0" + block)


def render_syn_reply(stream: int, block: bytes, *, fin: bool) -> bytes:
    return render_control(SYN_REPLY, FLAG_FIN if fin else 0, _U32.pack(stream) + block)


def render_rst_stream(stream: int, status: int) -> bytes:
    return render_control(RST_STREAM, 0, _2U32.pack(stream, status))


def render_ping(number: int) -> bytes:
    return render_control(PING, 0, _U32.pack(number))


def render_goaway(last_stream: int, status: int) -> bytes:
    return render_control(GOAWAY, 0, _2U32.pack(last_stream, status))


def render_window_update(stream: int, delta: int) -> bytes:
    return render_control(WINDOW_UPDATE, 0, _2U32.pack(stream, delta))


def parse_u32(payload: bytes, offset: int = 0) -> int:
    """A 31-bit number of a control frame. Raises BadFrame when the payload is too short."""
    if len(payload) < offset + 4:
        raise BadFrame("control frame too short")
    return int(_U32.unpack_from(payload, offset)[0]) & 0x7FFFFFFF


def parse_settings(payload: bytes) -> dict[int, int]:
    """Setting id -> value. Raises BadFrame."""
    count = parse_u32(payload)
    if len(payload) != 4 + 8 * count:
        raise BadFrame("settings frame of the wrong length")
    pairs = (_2U32.unpack_from(payload, 4 + 8 * n) for n in range(count))
    return {head & 0xFFFFFF: value for head, value in pairs}
