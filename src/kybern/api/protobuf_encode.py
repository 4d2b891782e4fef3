"""JSON values to Kubernetes' protobuf: what typed Go clients are answered with, as they ask for it.

Used by the API server's forms; the other direction is api/protobuf, the table of field numbers is protobuf_fields. Each
message is compiled once into functions that write its fields. Promise: every field that the JSON has is written, also
where it holds its zero value; what the JSON lacks is left out, which readers take for the zero value.
Source: "Protobuf encoding" in the Kubernetes API concepts (envelope), the protobuf encoding specification.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kybern.api import protobuf, scalars
from kybern.api.protobuf_fields import FIELDS

# Writes one field's tag, length and content.
Put = Callable[[bytes], None]
Write = Callable[[Put, Any], None]
# The content of one value, without a tag.
Encode = Callable[[Any], bytes]

_ONE_BYTE = [bytes((n,)) for n in range(128)]


def has_message(message: str) -> bool:
    """Whether `module.Class` has a protobuf form."""
    return message in FIELDS


def message_of(kind: type[Any]) -> str:
    """The name of a Struct's message; see `has_message`."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def content(message: str, value: Any) -> bytes:
    """The bytes of one message, to be put into an envelope or a list."""
    return _message(message)(value)


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    """A whole document: what it is, and the bytes of its message."""
    return b"%b%b%b" % (_envelope_head(api_version, kind, len(raw)), raw, ENVELOPE_END)


# Go writes the empty encoding and content type (fields 3 and 4), and so do we.
ENVELOPE_END = b"\x1a\x00\x22\x00"


def _envelope_head(api_version: str, kind: str, size: int) -> bytes:
    about = _delimited(b"\x0a", api_version.encode()) + _delimited(b"\x12", kind.encode())
    return b"%b%b\x12%b" % (protobuf.MAGIC, _delimited(b"\x0a", about), _varint(size))


def listing_head(api_version: str, kind: str, metadata: Any, sizes: Iterable[int]) -> bytes:
    """A document of any list kind up to its items, which are encoded already to so many bytes each.

    After it come the items, each after its `item_head`, and ENVELOPE_END.
    """
    told = _delimited(b"\x0a", content("meta_v1.ListMeta", metadata))
    # Thousands of objects have hundreds of sizes.
    size = len(told) + sum(times * (len(item_head(size)) + size) for size, times in Counter(sizes).items())
    return _envelope_head(api_version, kind, size) + told


@functools.lru_cache(4096)
def item_head(size: int) -> bytes:
    """What goes before an item of so many bytes."""
    return b"\x12" + _varint(size)


def watch_event(kind: str, document: bytes) -> bytes:
    """One event of a watch, with its length before it: four bytes, the highest first."""
    event = _delimited(b"\x0a", kind.encode()) + _delimited(b"\x12", _delimited(b"\x0a", document))
    return struct.pack(">I", len(event)) + event


# -- the wire format ---------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    if 0 <= number < 128:
        return _ONE_BYTE[number]
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _delimited(tag: bytes, data: bytes) -> bytes:
    return b"%s%s%s" % (tag, _varint(len(data)), data)


# -- messages ----------------------------------------------------------------------------------------------------


@functools.cache
def _message(message: str) -> Encode:
    """The encoder of one message; made when first called, because messages may hold themselves."""
    wrapped = _UNIONS.get(message.rpartition(".")[2])
    if wrapped is None and protobuf.is_bare_list(message):
        wrapped = _items
    inlined: tuple[Write, ...] = ()
    writers: dict[str, Write] | None = None

    def encode(value: Any) -> bytes:
        nonlocal writers, inlined
        if writers is None:
            writers, inlined = _writers(message), _inlined(message)
        if wrapped is not None:
            value = wrapped(value)
        parts: list[bytes] = []
        put = parts.append
        for name, item in value.items():
            write = writers.get(name)
            if write is not None and item is not None:
                write(put, item)
        for write in inlined:
            write(put, value)
        return b"".join(parts)

    return encode


def _writers(message: str) -> dict[str, Write]:
    """JSON name -> how it is written, of the fields that are not inlined messages."""
    layout = protobuf.layout(message)
    return {field.name: _writer(number, field) for number, field in layout.items() if not field.is_inline}


def _inlined(message: str) -> tuple[Write, ...]:
    """Messages whose fields stand in the parent's JSON: each picks its own out of the whole."""
    layout = protobuf.layout(message)
    return tuple(
        _message_writer(_tag(number, 2), _message(field.kind)) for number, field in layout.items() if field.is_inline
    )


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _writer(number: int, field: protobuf.Field) -> Write:
    if field.label == "%":
        return _map_writer(_tag(number, 2), field.kind)
    one = _single_writer(number, field.kind)
    if field.label == "*":

        def write_all(put: Put, values: Any) -> None:
            for value in values:
                one(put, value)

        return write_all
    return one


def _single_writer(number: int, kind: str) -> Write:
    match kind:
        case "i" | "b":
            tag = _tag(number, 0)
            return lambda put, value: put(tag + _varint(int(value)))
        case "d":
            tag = _tag(number, 1)
            return lambda put, value: put(tag + struct.pack("<d", value))
        case _:
            return _message_writer(_tag(number, 2), _encoder(kind))


def _message_writer(tag: bytes, encode: Encode) -> Write:
    def write(put: Put, value: Any) -> None:
        data = encode(value)
        size = len(data)
        put(b"%s%s%s" % (tag, _ONE_BYTE[size] if size < 128 else _varint(size), data))

    return write


def _map_writer(tag: bytes, kind: str) -> Write:
    if kind in "ib":

        def entry(key: str, value: Any) -> bytes:
            return _delimited(b"\x0a", key.encode()) + b"\x10" + _varint(int(value))
    else:
        encode = _encoder(kind)

        def entry(key: str, value: Any) -> bytes:
            return _delimited(b"\x0a", key.encode()) + _delimited(b"\x12", encode(value))

    def write(put: Put, values: Any) -> None:
        for key in sorted(values):
            put(_delimited(tag, entry(key, values[key])))

    return write


def _encoder(kind: str) -> Encode:
    """The content of a length-delimited value, by its letter in the table."""
    found = _LETTERS.get(kind)
    return found if found is not None else _message(kind)


# -- scalars -----------------------------------------------------------------------------------------------------


def _quantity(value: Any) -> bytes:
    return _delimited(b"\x0a", str(value).encode())


@functools.lru_cache(maxsize=4096)
def _time(text: str) -> bytes:
    """Seconds and nanoseconds since 1970."""
    moment = scalars.parse_time(text)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return b"\x08%s\x10%s" % (_varint(seconds), _varint(moment.microsecond * 1000))


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + _delimited(b"\x1a", value.encode())
    return b"\x08\x00\x10%s\x1a\x00" % _varint(value)


def _raw_json(value: Any) -> bytes:
    return _delimited(b"\x0a", msgspec.json.encode(value))


def _items(value: Any) -> dict[str, Any]:
    return {"items": value}


_LETTERS: dict[str, Encode] = {
    "s": str.encode,
    "y": base64.b64decode,
    "Q": _quantity,
    "T": _time,
    "U": _time,
    "O": _int_or_string,
    "R": _raw_json,
}

# Messages that exist only because protobuf has no unions: their JSON is one of the parts.
_UNIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "JSONSchemaPropsOrArray": lambda v: {"jSONSchemas": v} if isinstance(v, list) else {"schema": v},
    "JSONSchemaPropsOrStringArray": lambda v: {"property": v} if isinstance(v, list) else {"schema": v},
    "JSONSchemaPropsOrBool": lambda v: {"allows": v} if isinstance(v, bool) else {"allows": True, "schema": v},
}
