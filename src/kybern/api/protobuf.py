"""Kubernetes' protobuf bodies to JSON values: what typed Go clients send unless told otherwise.

Used by the API server's handlers/body; the other direction is protobuf_encode. Driven by the table of field numbers in
protobuf_fields. Raises ProtobufError for bytes that are no such message; reads within bounds.
Source: "Protobuf encoding" in the Kubernetes API concepts (envelope), the protobuf encoding specification (wire types).
"""

from __future__ import annotations

import base64
import datetime
import functools
import importlib
import struct
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api import codec, scalars
from kybern.api.protobuf_fields import FIELDS

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_DEPTH = 100


class ProtobufError(ValueError):
    """The bytes are not the message they should be."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The outer message: what is inside, and its bytes."""

    api_version: str
    kind: str
    raw: bytes
    content_type: str  # of `raw`; "" is protobuf


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    has_presence: bool  # a zero value that is sent is meant
    label: str  # "", "*" repeated, "%" map
    kind: str  # one letter, or a message
    is_inline: bool  # its fields stand in the parent's JSON


def decode_envelope(data: bytes) -> Envelope:
    """Split a body into its type and content."""
    if not data.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix k8s")
    api_version = kind = content_type = ""
    raw = b""
    for number, value in fields(data[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            for inner, text in fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2 and isinstance(value, bytes):
            raw = value
        elif number == 4:
            content_type = _text(value)
    return Envelope(api_version, kind, raw, content_type)


def to_json(kind: type[msgspec.Struct], raw: bytes) -> dict[str, Any]:
    """The content of an envelope as the JSON value of a Struct."""
    message = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    if message not in FIELDS:
        raise ProtobufError(f"{kind.__name__} has no protobuf form")
    value: dict[str, Any] = _message(message, raw, 0)
    return value


@functools.cache
def layout(message: str) -> dict[int, Field]:
    """Field number -> field, of one message of the table."""
    module, _, name = message.partition(".")
    known = _json_names(module, name)
    found = {}
    for entry in FIELDS[message].split():
        number, field, kind = entry.split(":")
        label = kind[0] if kind[0] in "*%" else ""
        kind = kind[len(label) :]
        if len(kind) > 1 and "." not in kind:
            kind = f"{module}.{kind}"
        plain = field.rstrip("?")
        if known is not None and plain not in known and plain[:1].lower() + plain[1:] in known:
            plain = plain[:1].lower() + plain[1:]  # two messages have names as Go spells them
        is_inline = len(kind) > 1 and not label and known is not None and plain not in known
        found[int(number)] = Field(plain, field.endswith("?"), label, kind, is_inline)
    return found


@functools.cache
def is_bare_list(message: str) -> bool:
    """A message that is a list in JSON: it exists because protobuf has no maps to lists."""
    known = list(layout(message).values())
    module, _, name = message.partition(".")
    return [(f.name, f.label) for f in known] == [("items", "*")] and _json_names(module, name) is None


def _json_names(module: str, name: str) -> frozenset[str] | None:
    """The JSON fields of a message's Struct; None where it has none (wrappers of lists, inlined parts)."""
    found = getattr(importlib.import_module(f"kybern.api.{module}"), name, None)
    return frozenset(codec.fields_of(found)) if found is not None else None


def _message(message: str, data: bytes, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ProtobufError("exceeded max depth")
    known = layout(message)
    result: dict[str, Any] = {}
    for number, value in fields(data):
        field = known.get(number)
        if field is None:
            continue
        if field.label == "*":
            _extend(result.setdefault(field.name, []), field.kind, value, depth)
        elif field.label == "%":
            key, item = _entry(field.kind, value, depth)
            result.setdefault(field.name, {})[key] = item
        elif field.is_inline:
            result.update(_message(field.kind, _bytes(value), depth + 1))
        else:
            converted = _value(field.kind, value, depth)
            # Go writes the zero value of every plain field: it says nothing.
            if converted is not None and (field.has_presence or len(field.kind) > 1 or converted or field.kind == "O"):
                result[field.name] = converted
    return _unwrapped(message, result)


def _unwrapped(message: str, value: dict[str, Any]) -> Any:
    """Messages that exist only because protobuf has no lists of lists and no unions."""
    name = message.rpartition(".")[2]
    if name in ("JSONSchemaPropsOrArray", "JSONSchemaPropsOrStringArray"):
        return value.get("jSONSchemas") or value.get("property") or value.get("schema")
    if name == "JSONSchemaPropsOrBool":
        return value.get("schema", value.get("allows", False))
    if is_bare_list(message):
        return value.get("items", [])
    return value


def _extend(items: list[Any], kind: str, value: Any, depth: int) -> None:
    if kind in "ib" and isinstance(value, bytes):
        position = 0  # packed
        while position < len(value):
            number, position = _varint(value, position)
            items.append(_value(kind, number, depth))
        return
    items.append(_value(kind, value, depth))


def _entry(kind: str, value: Any, depth: int) -> tuple[str, Any]:
    key: str = ""
    item: Any = "" if kind in "sy" else {} if len(kind) > 1 else None
    for number, inner in fields(_bytes(value)):
        if number == 1:
            key = _text(inner)
        elif number == 2:
            item = _value(kind, inner, depth)
    return key, item


def _value(kind: str, value: Any, depth: int) -> Any:
    match kind:
        case "s":
            return _text(value)
        case "i":
            return _signed(value)
        case "b":
            return bool(_signed(value))
        case "d":
            if len(_bytes(value)) != 8:
                raise ProtobufError("a double has 8 bytes")
            return struct.unpack("<d", value)[0]
        case "y":
            return base64.b64encode(_bytes(value)).decode()
        case "Q":
            return next((_text(v) for n, v in fields(_bytes(value)) if n == 1), "0")
        case "T" | "U":
            return _time(_bytes(value), micro=kind == "U")
        case "O":
            parts = dict(fields(_bytes(value)))
            return _text(parts.get(3, b"")) if parts.get(1, 0) == 1 else _signed(parts.get(2, 0))
        case "R":
            return _raw_json(_bytes(value))
        case _:
            return _message(kind, _bytes(value), depth + 1)


def _time(data: bytes, *, micro: bool) -> str | None:
    """Seconds and nanoseconds since 1970; an empty message is no time."""
    parts = dict(fields(data))
    if not parts:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(_signed(parts.get(1, 0)), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise ProtobufError("a time is out of range") from None
    if micro:
        return scalars.render_micro_time(moment.replace(microsecond=_signed(parts.get(2, 0)) // 1000 % 1_000_000))
    return scalars.render_time(moment)


def _raw_json(data: bytes) -> Any:
    raw = next((v for n, v in fields(data) if n == 1), b"")
    try:
        return msgspec.json.decode(_bytes(raw)) if raw else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtobufError(f"a raw value is not JSON: {error}") from None


def fields(data: bytes) -> list[tuple[int, Any]]:
    """(number, value) of each field: an int of a varint, bytes of anything else."""
    found: list[tuple[int, Any]] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            found.append((number, value))
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"wire type {wire} is not supported")
        if position + size > end:
            raise ProtobufError("unexpected end of message")
        found.append((number, data[position : position + size]))
        position += size
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ProtobufError("unexpected end of message" if shift <= 63 else "integer overflow")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise ProtobufError("expected an integer")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("expected bytes")
    return value


def _text(value: Any) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise ProtobufError("a text is not UTF-8") from None
