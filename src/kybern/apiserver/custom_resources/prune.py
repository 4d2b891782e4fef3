"""Copy what the schema knows of a custom object, and say what it does not.

Called by codec on the way in, and on bytes that somebody else stored. Numbers are brought into the form in which
upstream keeps them (a float without a fraction is an integer), so that equal values are equal bytes.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.custom_resources.structural import Node
from kybern.pausing import pausing

# A path in an object: (what it is in, the name or index in it).
Path = tuple[Any, str | int] | None
_IMPLIED = frozenset({"apiVersion", "kind"})
_LARGEST = 2**63
_MISTYPED = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)` - at `\$\.(\w+)")
_GO_TYPES = {"str": "string", "int": "int64", "float": "number", "object": "object", "array": "array", "bool": "bool"}


def render_path(path: Path) -> str:
    """`spec.list[0].field`."""
    parts: list[str] = []
    while path is not None:
        parts.append(f"[{path[1]}]" if isinstance(path[1], int) else f".{path[1]}")
        path = path[0]
    return "".join(reversed(parts)).removeprefix(".")


def prune(value: Any, node: Node, path: Path, unknown: list[str]) -> Any:
    """A private copy without the fields that `node` does not know; their paths are added to `unknown`.

    Raises ValueError for metadata of embedded resources that is not what metadata is.
    """
    if type(value) is dict:
        result: dict[str, Any] = {}
        for name, inner in pausing(value.items()):
            child = node.properties.get(name) or node.additional
            if node.embedded and name == "metadata":
                result[name] = _embedded_metadata(inner, (path, name), unknown)
            elif node.embedded and name in _IMPLIED and not isinstance(inner, str) and inner is not None:
                shown = msgspec.json.encode(inner).decode()
                raise ValueError(f"{render_path((path, name))}: Invalid value: {shown}: must be a string")
            elif child is not None:
                result[name] = prune(inner, child, (path, name), unknown) if inner is not None else None
            elif node.preserve or (node.embedded and name in _IMPLIED):
                result[name] = plain(inner)
            else:
                unknown.append(render_path((path, name)))
        return result
    if type(value) is list:
        items = node.items
        if items is None:
            return plain(value)
        return [prune(inner, items, (path, i), unknown) for i, inner in enumerate(pausing(value))]
    return number(value) if type(value) in (float, int) else value


def _embedded_metadata(value: Any, path: Path, unknown: list[str]) -> Any:
    if value is None:
        return None
    try:
        if not isinstance(value, dict):
            raise ValueError(f"json: cannot unmarshal {type_of(value)} into Go value of type v1.ObjectMeta")
        metadata, dropped = metadata_of(value)
    except ValueError as error:
        shown = msgspec.json.encode(value).decode()
        raise ValueError(f"{render_path(path)}: Invalid value: {shown}: {error}") from None
    where = render_path(path)
    unknown.extend(f"{where}.{name}" for name in dropped)
    return codec.to_json(metadata)


def metadata_of(value: dict[str, Any]) -> tuple[ObjectMeta, list[str]]:
    """Typed metadata, and what it does not know. Raises ValueError in the words of Go's JSON decoder."""
    try:
        return codec.from_json(ObjectMeta, value)
    except msgspec.ValidationError as error:
        found = _MISTYPED.match(str(error))
        if found is None:
            raise
        wanted, given, field = (_GO_TYPES.get(found[1], found[1]), _GO_TYPES.get(found[2], found[2]), found[3])
        given = "number" if given == "int64" else given
        raise ValueError(
            f"json: cannot unmarshal {given} into Go struct field ObjectMeta.{field} of type {wanted}"
        ) from None


def plain(value: Any) -> Any:
    """A copy of any JSON."""
    if type(value) is dict:
        return {name: plain(inner) for name, inner in pausing(value.items())}
    if type(value) is list:
        return [plain(inner) for inner in pausing(value)]
    return number(value) if type(value) in (float, int) else value


def number(value: float) -> float:
    """As upstream keeps it: int64, or else a float; integral floats are written without a fraction."""
    if type(value) is float:
        return int(value) if value.is_integer() and -_LARGEST <= value < _LARGEST else value
    return value if -_LARGEST <= value < _LARGEST else float(value)


def type_of(value: Any) -> str:
    """What Go's JSON decoder calls a value."""
    names = {str: "string", list: "array", bool: "bool", int: "number", float: "number"}
    return names.get(type(value), "object")
