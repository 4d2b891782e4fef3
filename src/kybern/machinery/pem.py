"""PEM as Go's encoding/pem reads it: blocks among other text, broken ones passed over. Pure.

Used by validation of what carries certificates. Linear in its input, whatever that is. Source: RFC 7468, section 2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


@dataclass(frozen=True, slots=True)
class Block:
    type: str
    data: bytes
    has_headers: bool = False


@dataclass(slots=True)
class _Open:
    """A block whose end has not come yet."""

    type: bytes
    lines: list[bytes] = field(default_factory=list)


def parse(text: bytes) -> Iterator[Block]:
    """The blocks, in order."""
    block: _Open | None = None
    for raw in text.split(b"\n"):
        line = raw.rstrip(b" \t\r")
        if line.startswith(_BEGIN) and line.endswith(_DASHES):
            block = _Open(line[len(_BEGIN) : -len(_DASHES)])
        elif block is not None and line.startswith(_END):
            found = _close(block) if line == _END + block.type + _DASHES else None
            block = None
            if found is not None:
                yield found
        elif block is not None:
            block.lines.append(line)


def render(block: Block) -> bytes:
    """A block without headers, in lines of 64."""
    coded = base64.b64encode(block.data)
    lines = b"".join(coded[i : i + 64] + b"\n" for i in range(0, len(coded), 64))
    name = block.type.encode()
    return _BEGIN + name + _DASHES + b"\n" + lines + _END + name + _DASHES + b"\n"


def _close(block: _Open) -> Block | None:
    """None if it does not hold what it should."""
    headers = 0
    while headers < len(block.lines) and b":" in block.lines[headers]:
        headers += 1
    try:
        data = base64.b64decode(b"".join(block.lines[headers:]), validate=True)
        return Block(block.type.decode(), data, headers > 0)
    except (binascii.Error, UnicodeDecodeError):
        return None
