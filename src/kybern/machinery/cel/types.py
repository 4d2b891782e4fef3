"""The types of expressions, and which value of one may stand where another is asked for.

Read by declarations, checker, cost and schema_types. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Type:
    """`kind` is dyn, error, null, param, list, map, type, object, opaque, or the name of a scalar."""

    kind: str
    name: str = ""
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        name = self.name or self.kind
        return f"{name}({', '.join(map(str, self.params))})" if self.params else name


DYN = Type("dyn")
ERROR = Type("error", "!error!")
NULL = Type("null")
BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
TIMESTAMP = Type("timestamp", "timestamp")  # google.protobuf.Timestamp, as messages show it
DURATION = Type("duration", "duration")
TYPE = Type("type")

SCALARS = {
    "bool": BOOL,
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "string": STRING,
    "bytes": BYTES,
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.Duration": DURATION,
    "timestamp": TIMESTAMP,
    "duration": DURATION,
    "dyn": DYN,
    "null_type": NULL,
    "null": NULL,
    "list": Type("list", "", (DYN,)),
    "map": Type("map", "", (DYN, DYN)),
    "type": TYPE,
}


def list_of(element: Type) -> Type:
    return Type("list", "", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "", (key, value))


def type_of(named: Type) -> Type:
    return Type("type", "", (named,))


def opaque(name: str, *params: Type) -> Type:
    return Type("opaque", name, params)


def optional(value: Type) -> Type:
    return Type("opaque", "optional_type", (value,))


def param(name: str) -> Type:
    return Type("param", name)


def is_optional(t: Type) -> bool:
    return t.kind == "opaque" and t.name == "optional_type"


def is_dyn(t: Type) -> bool:
    return t.kind in ("dyn", "error")


@dataclass(frozen=True, slots=True)
class ObjectField:
    """A field of an object type: its type, and how it is spelled in the object."""

    type: Type
    key: str
    schema: Any = None  # schema_types.Schema: sizes for costs, formats for values
    default: Any = None


@dataclass(frozen=True, slots=True)
class ObjectType:
    """An object with declared fields. Shared by name: `Type("object", name)`."""

    name: str
    fields: Mapping[str, ObjectField] = field(hash=False)

    @property
    def type(self) -> Type:
        return Type("object", self.name)


Bindings = dict[str, Type]


def is_assignable(bindings: Bindings, given: Type, wanted: Type) -> bool:
    """Whether `given` may stand for `wanted`; binds type parameters on the way."""
    if wanted.kind == "param":
        fits, was_bound = _substitute(bindings, given, wanted)
        if fits:
            return True
        if was_bound:
            return False
    if given.kind == "param":
        return _substitute(bindings, wanted, given)[0]
    if is_dyn(given) or is_dyn(wanted):
        return True
    if given.kind == "null":
        return is_nullable(wanted)
    if given.kind == "type" and wanted.kind == "type":
        return True
    if given.kind != wanted.kind or given.name != wanted.name or len(given.params) != len(wanted.params):
        return False
    return all(is_assignable(bindings, g, w) for g, w in zip(given.params, wanted.params, strict=True))


def is_nullable(t: Type) -> bool:
    return t.kind in ("null", "object", "timestamp", "duration", "opaque")


def are_assignable(bindings: Bindings, given: tuple[Type, ...], wanted: tuple[Type, ...]) -> Bindings | None:
    """The bindings with all of them, or None: then nothing is bound."""
    if len(given) != len(wanted):
        return None
    trial = dict(bindings)
    if all(is_assignable(trial, g, w) for g, w in zip(given, wanted, strict=True)):
        return trial
    return None


def _substitute(bindings: Bindings, t: Type, parameter: Type) -> tuple[bool, bool]:
    """(whether `t` may be what the parameter stands for, whether it stood for something before)."""
    known = bindings.get(parameter.name)
    if known is not None:
        if t == known:
            return True, True
        if is_assignable(bindings, t, known):
            general = most_general(t, known)
            if not _occurs(bindings, parameter.name, general):
                bindings[parameter.name] = general
                return True, True
            return t == parameter or known == t, True
        return False, True
    if t == parameter:
        return True, False
    if _occurs(bindings, parameter.name, t):
        return False, False
    bindings[parameter.name] = t
    return True, False


def _occurs(bindings: Bindings, name: str, t: Type) -> bool:
    if t.kind == "param":
        if t.name == name:
            return True
        known = bindings.get(t.name)
        return known is not None and _occurs(bindings, name, known)
    return any(_occurs(bindings, name, p) for p in t.params)


def most_general(a: Type, b: Type) -> Type:
    return a if is_equal_or_less_specific(a, b) else b


def is_equal_or_less_specific(a: Type, b: Type) -> bool:
    """Whether `a` says no more than `b`."""
    if is_dyn(a) or a.kind == "param":
        return True
    if is_dyn(b) or b.kind == "param":
        return False
    if a.kind != b.kind or a.name != b.name or len(a.params) != len(b.params):
        return a.kind == "null"
    return all(is_equal_or_less_specific(x, y) for x, y in zip(a.params, b.params, strict=True))


def substitute(bindings: Bindings, t: Type, *, unbound_to_dyn: bool) -> Type:
    """`t` with its parameters replaced by what they stand for."""
    if t.kind == "param":
        known = bindings.get(t.name)
        if known is not None:
            return substitute(bindings, known, unbound_to_dyn=unbound_to_dyn)
        return DYN if unbound_to_dyn else t
    if not t.params:
        return t
    return Type(t.kind, t.name, tuple(substitute(bindings, p, unbound_to_dyn=unbound_to_dyn) for p in t.params))
