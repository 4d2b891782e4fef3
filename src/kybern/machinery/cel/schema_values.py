"""Show JSON values by their schema: names as expressions spell them, formats as their types, lists by their list type.

Made by `adapt`, read by evaluate. Everything is adapted as it is read; what is not read costs nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.library import times
from kybern.machinery.cel.schema_types import Property, Schema
from kybern.machinery.cel.values import ListBase, ObjectBase
from kybern.pausing import pausing


def adapt(value: Any, schema: Schema | None) -> Any:
    """A JSON value as expressions see it. Raises EvaluationError for what is not of its format."""
    if schema is None or value is None:
        return value
    match schema.kind:
        case "object":
            return ObjectValue(value, schema) if isinstance(value, Mapping) else value
        case "map":
            return MapValue(value, schema) if isinstance(value, Mapping) else value
        case "list":
            return ListValue(value, schema) if isinstance(value, list | tuple) else value
        case "double":
            return float(value) if type(value) is int else value
        case "int":
            return int(value) if type(value) is float and value.is_integer() else value
        case "string" | "bool" | "any":
            return value
    return _formatted(value, schema) if isinstance(value, str) else value


def _formatted(value: str, schema: Schema) -> Any:
    try:
        match schema.kind:
            case "bytes":
                return base64.b64decode(value, validate=True)
            case "timestamp":
                return times.parse_timestamp(value)
            case "date":
                return times.parse_timestamp(f"{value}T00:00:00Z")
            case "duration":
                return times.parse_duration(value)
    except (ValueError, binascii.Error):
        raise EvaluationError(f"{value!r} is no {schema.kind}") from None
    return value


class ObjectValue(ObjectBase):
    """An object with declared fields. As a mapping it has the fields that are set, under their escaped names."""

    __slots__ = ("_schema", "_value")

    def __init__(self, value: Mapping[str, Any], schema: Schema) -> None:
        self._value = value
        self._schema = schema

    cel_type = "map"

    def has(self, name: str) -> bool:
        declared = self._schema.property(name)
        return declared is not None and self._is_set(declared)

    def _is_set(self, declared: Property) -> bool:
        return self._value.get(declared.key) is not None  # what is null is not there

    def field(self, name: str) -> Any:
        declared = self._schema.property(name)
        if declared is None or not self._is_set(declared):
            raise EvaluationError(f"no such key: {name}")
        return adapt(self._value[declared.key], declared.schema)

    def __getitem__(self, key: str) -> Any:
        try:
            return self.field(key)
        except EvaluationError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return (name for name, declared in self._schema.properties.items() if self._is_set(declared))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def json(self) -> Any:
        return self._value


class MapValue(Mapping[str, Any]):
    """A map of values that share a schema."""

    __slots__ = ("_schema", "_value")

    def __init__(self, value: Mapping[str, Any], schema: Schema) -> None:
        self._value = value
        self._schema = schema

    def __getitem__(self, key: str) -> Any:
        return adapt(self._value[key], self._schema.element)

    def __contains__(self, key: object) -> bool:
        return key in self._value

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    @property
    def json(self) -> Any:
        return self._value


class ListValue(ListBase):
    """A list; sets and maps know no order, and `+` merges them."""

    __slots__ = ("_schema", "_value")

    def __init__(self, value: list[Any] | tuple[Any, ...], schema: Schema) -> None:
        self._value = value
        self._schema = schema

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [adapt(v, self._schema.element) for v in self._value[index]]
        return adapt(self._value[index], self._schema.element)

    def __len__(self) -> int:
        return len(self._value)

    @property
    def json(self) -> Any:
        return self._value

    def equals_list(self, other: Any) -> bool:
        if len(self) != len(other):
            return False
        if self._schema.list_type == "set":
            return all(any(values.equals(x, y) for y in other) for x in self)
        if self._schema.list_type == "map":
            theirs = {self._key_of(y): y for y in other}
            return all((k := self._key_of(x)) in theirs and values.equals(x, theirs[k]) for x in self)
        return all(values.equals(x, y) for x, y in zip(self, other, strict=True))

    def merged_with(self, other: Any) -> Any:
        """`self + other`: keeps our places, takes their values; what is new is appended."""
        if self._schema.list_type == "set":
            merged = list(self)
            merged.extend(y for y in other if not any(values.equals(x, y) for x in self))
            return merged
        if self._schema.list_type == "map":
            by_key = {self._key_of(x): x for x in pausing(self)}
            by_key |= {self._key_of(y): y for y in pausing(other)}
            return list(by_key.values())
        return [*self, *other]

    def _key_of(self, item: Any) -> tuple[Any, ...]:
        source = getattr(item, "json", item)
        if not isinstance(source, Mapping):
            return ()
        return tuple(_hashable(source.get(key)) for key in self._schema.list_keys)


def _hashable(value: Any) -> Any:
    return (type(value).__name__, value) if isinstance(value, str | int | float | bool | None) else repr(value)
