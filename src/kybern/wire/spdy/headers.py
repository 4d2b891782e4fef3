"""Name/value blocks of SPDY/3.1: dictionaries as zlib-compressed bytes. Pure; used by frames.

One compressor and one decompressor live as long as their session: every block builds on those before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from kybern.wire.spdy.dictionary import DICTIONARY

_MAX_PLAIN = 64 * 1024  # of one block, decompressed: a bomb is a fault
_U32 = struct.Struct(">I")


class BadHeaders(ValueError):
    """A name/value block that is malformed or too large. The session cannot go on: its zlib state is lost."""


class HeaderCodec:
    """Both directions of one session."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """Names are sent in lower case, as the protocol wants them."""
        plain = bytearray(_U32.pack(len(headers)))
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode()
                plain += _U32.pack(len(raw)) + raw
        return self._deflate.compress(bytes(plain)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def decode(self, block: bytes) -> dict[str, str]:
        """Repeated values (NUL-separated on the wire) are joined by ", ". Raises BadHeaders."""
        try:
            plain = self._inflate.decompress(block, _MAX_PLAIN)
        except zlib.error as fault:
            raise BadHeaders(str(fault)) from None
        if self._inflate.unconsumed_tail:
            raise BadHeaders("header block too large")
        return _parse(plain)


def _parse(plain: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    try:
        (count,) = _U32.unpack_from(plain, 0)
        position = 4
        for _ in range(count):
            texts = []
            for _ in range(2):
                (length,) = _U32.unpack_from(plain, position)
                raw = plain[position + 4 : position + 4 + length]
                if len(raw) != length:
                    raise BadHeaders("header block is cut off")
                texts.append(raw.decode())
                position += 4 + length
            name, value = texts
            if name in headers or not name:
                raise BadHeaders("header name repeated or empty")
            headers[name.lower()] = value.replace("\0", ", ")
    except (struct.error, UnicodeDecodeError) as fault:
        raise BadHeaders(str(fault)) from None
    return headers
