"""A Struct with only some of the fields of another: decoding it skips the rest, which is most of the work.

Used where a server takes labels and selectable fields out of many stored objects.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any

import msgspec


def part_of(kind: type[msgspec.Struct], paths: Iterable[str]) -> type[msgspec.Struct]:
    """A Struct of the fields on `paths` (`status.podIPs.ip`: a field of the Structs in a list), unknown ones allowed.

    What is absent has the value it has in `kind`. Raises AttributeError for a path that is not there.
    """
    wanted: dict[str, list[str]] = {}
    for path in paths:
        first, _, rest = path.partition(".")
        wanted.setdefault(first, [])
        if rest:
            wanted[first].append(rest)
    own = {field.name: field for field in msgspec.structs.fields(kind)}
    made: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, deeper in wanted.items():
        if name not in own:
            raise AttributeError(f"{kind.__name__} has no field {name}")
        field = own[name]
        of_part, default = field.type, field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory)
        if deeper:
            inner = part_of(_struct_in(field.type), deeper)
            of_part = _with_struct(field.type, inner)
            if of_part is inner and field.default_factory is not msgspec.NODEFAULT:
                default = msgspec.field(default_factory=inner)
        made.append((name, of_part) if default is msgspec.NODEFAULT else (name, of_part, default))
    rename = {field.name: field.encode_name for field in own.values()}
    return msgspec.defstruct(f"{kind.__name__}Part", made, rename=rename)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _struct_in(kind: Any) -> type[msgspec.Struct]:
    """The Struct of `Struct`, `Struct | None` or `list[Struct]`."""
    for candidate in (kind, *typing.get_args(kind)):
        if _is_struct(candidate):
            return typing.cast("type[msgspec.Struct]", candidate)
    raise AttributeError(f"{kind} holds no fields")


def _with_struct(kind: Any, inner: type[msgspec.Struct]) -> Any:
    if _is_struct(kind):
        return inner
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return inner | None
    return list[inner]  # type: ignore[valid-type]
