"""OpenAPI documents as protobuf, in the messages of gnostic: what kubectl and client-go's discovery ask for. Pure.

Called by serve, in a thread, with a document that is JSON otherwise; the messages are in gnostic_messages. What these
messages have no place for is left out, as a reader would leave it out.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from kybern.apiserver.openapi import gnostic_messages


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    kind: str  # "string", "bool", "int64", "double", "Any", or a message
    repeats: bool = False
    is_named: bool = False  # a pair of a name and such a value, for each name of a mapping


@dataclass(frozen=True, slots=True)
class _Message:
    fields: Mapping[str, _Field]
    others: _Field | None  # of names that no field has
    extensions: _Field | None


def encode(document: Mapping[str, Any], version: int) -> bytes:
    """An OpenAPI document of `version` 2 or 3."""
    return _Writer(version).message("Document", document)


def _messages(text: str) -> dict[str, _Message]:
    found: dict[str, _Message] = {}
    for line in text.strip().replace("\n    ", " ").splitlines():
        name, _, rest = line.partition(":")
        fields: dict[str, _Field] = {}
        for item in rest.split():
            field, _, told = item.partition("=")
            number, _, kind = told.partition(":")
            fields[field] = _Field(int(number), kind.lstrip("*{"), kind[0] == "*", kind[0] == "{")
        found[name] = _Message(fields, fields.pop("*", None), fields.pop("x-", None))
    return found


@functools.cache
def _messages_of(version: int) -> dict[str, _Message]:
    return _messages(gnostic_messages.V2 if version == 2 else gnostic_messages.V3)


# -- which one of several a value is: the field of the message that holds it ------------------------------------------


def _by_place(value: Any) -> str:
    return {
        "header": "headerParameterSubSchema",
        "formData": "formDataParameterSubSchema",
        "path": "pathParameterSubSchema",
    }.get(value.get("in", ""), "queryParameterSubSchema")


def _by_security(value: Any) -> str:
    flows = {
        "implicit": "oauth2ImplicitSecurity",
        "password": "oauth2PasswordSecurity",
        "application": "oauth2ApplicationSecurity",
    }
    match value.get("type"):
        case "basic":
            return "basicAuthenticationSecurity"
        case "oauth2":
            return flows.get(value.get("flow", ""), "oauth2AccessCodeSecurity")
        case _:
            return "apiKeySecurity"


def _by_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else ""


_CHOICES: dict[int, dict[str, Callable[[Any], str]]] = {
    2: {
        "AdditionalPropertiesItem": lambda value: "boolean" if isinstance(value, bool) else "schema",
        "NonBodyParameter": _by_place,
        "Parameter": lambda value: "bodyParameter" if value.get("in") == "body" else "nonBodyParameter",
        "ParametersItem": lambda value: "jsonReference" if "$ref" in value else "parameter",
        "ResponseValue": lambda value: "jsonReference" if "$ref" in value else "response",
        "SchemaItem": lambda value: "fileSchema" if value.get("type") == "file" else "schema",
        "SecurityDefinitionsItem": _by_security,
        "ItemsItem": lambda _: "schema",
        "TypeItem": lambda _: "value",
    },
    3: {
        "AdditionalPropertiesItem": lambda value: "boolean" if isinstance(value, bool) else "schemaOrReference",
        "DefaultType": _by_type,
        "AnyOrExpression": lambda _: "any",
        "ItemsItem": lambda _: "schemaOrReference",
    },
}


class _Writer:
    """Values to the messages of one version."""

    def __init__(self, version: int) -> None:
        self._messages = _messages_of(version)
        self._choices = _CHOICES[version]

    def message(self, name: str, value: Any) -> bytes:
        message = self._messages[name]
        choose = self._choices.get(name)
        if choose is None and name.endswith("OrReference"):
            choose = _reference_or(message)
        if choose is not None:
            chosen = choose(value)
            field = message.fields.get(chosen)
            return b"" if field is None else self._field(field, value, is_chosen=True)
        if not isinstance(value, Mapping):
            return b""
        written = bytearray()
        for key in sorted(value):
            field = message.fields.get(key)
            if field is not None:
                written += self._field(field, value[key])
                continue
            rest = message.extensions if key.startswith("x-") and message.extensions else message.others
            if rest is not None:
                pair = _delimited(1, key.encode()) + self._one(2, rest.kind, value[key])
                written += _delimited(rest.number, pair)
        return bytes(written)

    def _field(self, field: _Field, value: Any, *, is_chosen: bool = False) -> bytes:
        if field.repeats:
            values = value if isinstance(value, list) else [value]
            return b"".join(self._one(field.number, field.kind, item) for item in values)
        if field.is_named or (not is_chosen and not value and field.kind in _SCALARS):
            return b""  # a zero is not written, except where it is one choice of several
        return self._one(field.number, field.kind, value)

    def _one(self, number: int, kind: str, value: Any) -> bytes:
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar(number, value)
        if kind == "Any":
            return _delimited(number, _delimited(2, _yaml(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))))
        if kind == "StringArray":
            return _delimited(number, b"".join(_string(1, item) for item in value))
        return _delimited(number, self.message(kind, value))


def _reference_or(message: _Message) -> Callable[[Any], str]:
    other = next(iter(message.fields))

    def choose(value: Any) -> str:
        return "reference" if isinstance(value, Mapping) and "$ref" in value else other

    return choose


@functools.lru_cache(maxsize=4096)
def _yaml(data: bytes) -> bytes:
    """A value in YAML; the same few hundred extensions are told thousands of times."""
    text: str = yaml.dump(orjson.loads(data), Dumper=yaml.CSafeDumper, default_flow_style=False, allow_unicode=True)
    return text.removesuffix("...\n").encode()


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _delimited(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _string(number: int, value: Any) -> bytes:
    return _delimited(number, value.encode("utf-8", "replace")) if isinstance(value, str) else b""


def _bool(number: int, value: Any) -> bytes:
    return _varint(number << 3) + (b"\x01" if value else b"\x00") if isinstance(value, bool) else b""


def _int64(number: int, value: Any) -> bytes:
    return _varint(number << 3) + _varint(int(value)) if isinstance(value, (int, float)) else b""


def _double(number: int, value: Any) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value) if isinstance(value, (int, float)) else b""


_SCALARS: dict[str, Callable[[int, Any], bytes]] = {
    "string": _string,
    "bool": _bool,
    "int64": _int64,
    "double": _double,
}
