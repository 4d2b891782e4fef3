"""The values of expressions: plain Python where it fits, and small classes where CEL tells apart what Python does not.

int is int, uint is `Uint`, double is float, list is list or tuple, map is dict; objects with a declared schema are
`ObjectValue` and `ListValue` of schema_values. Written by evaluate and the libraries. Values are never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kybern.machinery.cel.errors import EvaluationError, no_overload

MAX_INT: Final = (1 << 63) - 1
MIN_INT: Final = -(1 << 63)
MAX_UINT: Final = (1 << 64) - 1
SECOND: Final = 10**9
# 0001-01-01 and 9999-12-31T23:59:59.999999999, in seconds of Unix time.
MIN_SECONDS: Final = -62135596800
MAX_SECONDS: Final = 253402300799


class Uint(int):
    """An unsigned 64-bit number."""

    __slots__ = ()


class Timestamp(int):
    """Nanoseconds since 1970. `zone` is how it was written (`+02:00`), and how it is written again."""

    zone = ""


class Duration(int):
    """Nanoseconds."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What `type(x)` gives."""

    name: str


class Optional:
    """A value that may be absent. `ABSENT` is the one without."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any, present: bool = True) -> None:
        self.value = value
        self.present = present


ABSENT: Final = Optional(None, present=False)


class Opaque:
    """A value of a library (quantity, url, ...). `cel_type` names it; `equals` compares with its like."""

    __slots__ = ()
    cel_type = ""

    def equals(self, other: Any) -> bool:
        raise NotImplementedError


class ObjectBase(Mapping[str, Any]):
    """A map by its nature, an object by its schema: `cel_type` names it. See schema_values."""

    __slots__ = ()
    cel_type = "object"

    def field(self, name: str) -> Any:
        """The field as expressions spell it. Raises EvaluationError if it is not set."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        raise NotImplementedError


class ListBase(Sequence[Any]):
    """A list whose elements are adapted as they are read. See schema_values."""

    __slots__ = ()


class Struct(Opaque):
    """`Name{...}` as an expression makes it: `name` and the fields that were given."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        self.fields = fields

    @property
    def cel_type(self) -> str:  # type: ignore[override]
        return self.name

    def field(self, name: str) -> Any:
        if name not in self.fields:
            raise EvaluationError(f"no such key: {name}")
        return self.fields[name]

    def has(self, name: str) -> bool:
        return name in self.fields

    def equals(self, other: Any) -> bool:
        return bool(self.name == other.name and equals(self.fields, other.fields))


NUMBERS: Final = (int, Uint, float)
LISTS: Final = (list, tuple)
_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    TypeValue: "type",
    Optional: "optional_type",
}


def type_name(value: Any) -> str:
    name = _NAMES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, Opaque | ObjectBase):
        return value.cel_type
    if isinstance(value, ListBase):
        return "list"
    return "map" if isinstance(value, Mapping) else type(value).__name__


_GO_NAMES: Final = {
    bool: "Bool",
    int: "Int",
    Uint: "Uint",
    float: "Double",
    str: "String",
    bytes: "Bytes",
    type(None): "Null",
    Timestamp: "Timestamp",
    Duration: "Duration",
}


def not_iterable(value: Any) -> EvaluationError:
    return EvaluationError(f"got 'types.{_GO_NAMES.get(type(value), type(value).__name__)}', expected iterable type")


def is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | ListBase)


def is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def equals(a: Any, b: Any) -> bool:
    """CEL's equality: numbers by their amount, everything else only with its like."""
    kind, other = type(a), type(b)
    if kind is other and kind in _PLAIN:
        return bool(a == b)
    if kind in _NUMERIC and other in _NUMERIC:
        return bool(a == b)  # Python compares int and float exactly
    if is_list(a):
        if not is_list(b):
            return False
        by_schema = getattr(a, "equals_list", None)
        if by_schema is not None:
            return bool(by_schema(b))
        return len(a) == len(b) and all(equals(x, y) for x, y in zip(a, b, strict=True))
    if is_map(a):
        return is_map(b) and _maps_equal(a, b)
    if isinstance(a, Opaque):
        return kind is other and a.equals(b)
    if kind is Optional and other is Optional:
        if a.present and b.present:
            return equals(a.value, b.value)
        return not a.present and not b.present
    return False


_PLAIN = frozenset({str, bool, bytes, type(None), TypeValue, Timestamp, Duration, int, Uint, float})
_NUMERIC = frozenset({int, Uint, float})
_KEYED = frozenset({str, bool, int, Uint})


def _maps_equal(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> bool:
    if len(a) != len(b):
        return False
    for key, value in a.items():
        found, other = look_up(b, key)
        if not found or not equals(value, other):
            return False
    return True


def look_up(container: Mapping[Any, Any], key: Any) -> tuple[bool, Any]:
    """(whether it is there, the value). A whole double finds an int; true does not find 1."""
    kind = type(key)
    if kind is str:
        if key in container:
            return True, container[key]
        return False, None
    if kind is float:
        if not key.is_integer():
            return False, None
        key = int(key)
    elif kind is bool:
        stored = BoolKey(key)
        return (True, container[stored]) if stored in container else (False, None)
    if (kind is float or kind in _KEYED) and key in container:
        return True, container[key]
    return False, None


class BoolKey:
    """A boolean as a key of a dict: Python takes True and 1 for one key, CEL for two."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoolKey) and other.value == self.value

    def __hash__(self) -> int:
        return hash(("bool", self.value))


def to_key(value: Any) -> Any:
    """A value as it stands in a dict. Raises EvaluationError for what is no key."""
    if type(value) is bool:
        return BoolKey(value)
    if type(value) in _KEYED:
        return value
    raise EvaluationError(f"unsupported key type: {type_name(value)}")


def from_key(key: Any) -> Any:
    return key.value if type(key) is BoolKey else key


def compare(a: Any, b: Any) -> int:
    """-1, 0 or 1. Raises EvaluationError where there is no order."""
    kind, other = type(a), type(b)
    if (kind in _NUMERIC and other in _NUMERIC) or (kind is other and kind in _ORDERED):
        if (kind is float or other is float) and (math.isnan(a) or math.isnan(b)):
            raise EvaluationError("NaN values cannot be ordered")
        return int(a > b) - int(a < b)  # texts by their code points, as upstream does
    raise no_overload()


_ORDERED = frozenset({str, bool, bytes, Timestamp, Duration})


def checked_int(number: int) -> int:
    if MIN_INT <= number <= MAX_INT:
        return number
    raise EvaluationError("integer overflow")


def checked_uint(number: int) -> Uint:
    if 0 <= number <= MAX_UINT:
        return Uint(number)
    raise EvaluationError("unsigned integer overflow")


def checked_duration(nanos: int) -> Duration:
    if MIN_INT <= nanos <= MAX_INT:
        return Duration(nanos)
    raise EvaluationError("duration overflow")


def checked_timestamp(nanos: int) -> Timestamp:
    if MIN_SECONDS <= nanos // SECOND <= MAX_SECONDS:
        return Timestamp(nanos)
    raise EvaluationError("timestamp overflow")
