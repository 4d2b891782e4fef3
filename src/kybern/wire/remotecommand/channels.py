"""WebSocket messages of the channel protocols: one byte says which stream. Pure; used by server and client."""

from __future__ import annotations

import base64
import binascii

from kybern.wire.remotecommand.protocol import CLOSE_CHANNEL


class BadMessage(ValueError):
    """A message that belongs to no channel."""


def parse_message(message: bytes, *, is_base64: bool) -> tuple[int, bytes]:
    """(channel, data). In the base64 forms the channel is a digit. Raises BadMessage."""
    if not message:
        raise BadMessage("empty message")
    if not is_base64:
        return message[0], message[1:]
    channel = message[0] - 0x30
    if not 0 <= channel <= 9:
        raise BadMessage("channel is no digit")
    try:
        return channel, base64.b64decode(message[1:], validate=True)
    except binascii.Error as fault:
        raise BadMessage(str(fault)) from None


def render_message(channel: int, data: bytes, *, is_base64: bool) -> bytes:
    if is_base64:
        return b"%d" % channel + base64.b64encode(data)
    return bytes((channel,)) + data


def render_close(channel: int) -> bytes:
    """v5: the half-close of a channel."""
    return bytes((CLOSE_CHANNEL, channel))
