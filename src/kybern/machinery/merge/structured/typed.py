"""A value seen through its schema: whether it fits, and the fields it sets.

Used by rules for what a client applies. `check` says what upstream would; `fields_of` is what the applier will own.
"""

from __future__ import annotations

import functools
from typing import Any

from kybern.api import codec
from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.errors import TypedError
from kybern.machinery.merge.structured.fields import LEAF, SELF, Fields
from kybern.machinery.merge.structured.schema import Kind, Node, resolve
from kybern.pausing import pausing


class KeyMissing(ValueError):
    """An item of a list has no value for a key."""


def element_of(node: Node, item: Any) -> str:
    """The path element of an item of a list that is a set or has keys. Raises KeyMissing."""
    if node.is_set:
        return fields.element_of_value(item)
    if not isinstance(item, dict):
        raise KeyMissing("associative list with keys may not have non-map elements")
    values = [item.get(key) for key in node.keys]
    if None in values:
        values = [node.key_defaults.get(k) if v is None else v for k, v in zip(node.keys, values, strict=True)]
    for value in values:
        if isinstance(value, (dict, list)):
            break
    else:
        if any(value is not None for value in values):
            return _element_of_key(node.keys, *values)
    keys = {key: value for key, value in zip(node.keys, values, strict=True) if value is not None}
    if not keys:
        names = codec.encode(node.keys).decode().replace(",", " ")
        raise KeyMissing(
            f"associative list with keys has an element that omits all key fields {names} "
            "(and doesn't have default values for any key fields)"
        )
    return fields.element_of_key(keys)


@functools.lru_cache(maxsize=8192, typed=True)
def _element_of_key(names: tuple[str, ...], *values: Any) -> str:
    return fields.element_of_key({name: v for name, v in zip(names, values, strict=True) if v is not None})


# -- what is set


def fields_of(node: Node, value: Any) -> Fields:
    """The fields that a whole object sets, without the containers around them."""
    found = _fields_of(node, value)
    return found if isinstance(value, dict) and value else LEAF


def _fields_of(node: Node, value: Any) -> Fields:
    node = resolve(node, value)
    if not value or node.atomic or not isinstance(value, (dict, list)):
        return LEAF
    if node.kind is Kind.MAP and isinstance(value, dict):
        return _fields_of_map(node, value)
    if node.kind is Kind.LIST and isinstance(value, list):
        return _fields_of_list(node, value)
    return LEAF


def _fields_of_map(node: Node, value: dict[str, Any]) -> Fields:
    found: Fields = {}
    known, others = node.fields, node.element
    for name, inner in pausing(value.items()):
        own = known.get(name)
        if own is not None:
            if inner == [] and own.kind is Kind.LIST and not own.atomic:
                continue  # an empty list sets nothing
            below = _fields_of(own, inner)
            if below or not _holds_nothing(own, inner):
                found[f"f:{name}"] = below
        elif others is not None:
            found[f"f:{name}"] = as_member(_fields_of(others, inner))
    return found


def _holds_nothing(node: Node, value: Any) -> bool:
    """A map that has keys, yet sets nothing by them."""
    return bool(value) and isinstance(value, dict) and not resolve(node, value).atomic


def _fields_of_list(node: Node, value: list[Any]) -> Fields:
    if node.is_set:
        return {fields.element_of_value(item): LEAF for item in pausing(value)}
    assert node.element is not None
    found: Fields = {}
    for item in pausing(value):
        element = element_of(node, item)
        if element in found:
            found[element] = LEAF  # of items with one key none can be told from the other: they are one field
        else:
            found[element] = as_member(_fields_of(node.element, item))
    return found


def as_member(node: Fields) -> Fields:
    """The node as a member of its set, whatever is below it."""
    return node if not node or SELF in node else {SELF: LEAF, **node}


# -- what fits


def check(node: Node, value: Any) -> None:
    """Raises TypedError for the first fault: an unknown field, a wrong type, items without keys or with the same."""
    faults: list[str] = []
    _check(node, value, "", faults)
    if faults:
        raise TypedError(faults[0])


def _check(node: Node, value: Any, path: str, faults: list[str]) -> None:
    if value is None or faults:
        return
    node = resolve(node, value)
    match node.kind:
        case Kind.SCALAR:
            _check_scalar(node, value, path, faults)
        case Kind.MAP if isinstance(value, dict):
            _check_map(node, value, path, faults)
        case Kind.MAP:
            faults.append(f"{path}: expected map, got &{{{go_value(value)}}}")
        case Kind.LIST if isinstance(value, list):
            _check_list(node, value, path, faults)
        case Kind.LIST:
            faults.append(f"{path}: expected list, got &{{{go_value(value)}}}")


def _check_map(node: Node, value: dict[str, Any], path: str, faults: list[str]) -> None:
    for name, inner in pausing(value.items()):
        own = node.fields.get(name, node.element)
        if own is None:
            faults.append(f"{path}.{name}: field not declared in schema")
        else:
            _check(own, inner, f"{path}.{name}", faults)


def _check_list(node: Node, value: list[Any], path: str, faults: list[str]) -> None:
    seen: set[str] = set()
    for index, item in enumerate(pausing(value)):
        where = f"{path}[{index}]"
        if not node.atomic:
            try:
                element = element_of(node, item)
            except KeyMissing as error:
                faults.append(f"{path}: element {index}: {error}")
                continue
            where = path + fields.path_text((element,))
            if element in seen:
                shown = fields.path_text((element,))
                faults.append(f"{path}: duplicate entries for key {shown}")
                continue
            seen.add(element)
        if node.element is not None:
            _check(node.element, item, where, faults)


def _check_scalar(node: Node, value: Any, path: str, faults: list[str]) -> None:
    match node.scalar:
        case "string":
            if not isinstance(value, str):
                faults.append(f"{path}: expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}")
        case "numeric":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                faults.append(f"{path}: expected numeric (int or float), got {_go_type(value)}")
        case "boolean":
            if not isinstance(value, bool):
                faults.append(f"{path}: expected boolean, got &{{{go_value(value)}}}")
        case _:
            if isinstance(value, (dict, list)):
                faults.append(f"{path}: expected scalar, got &{{{go_value(value)}}}")


# -- values as upstream's messages show them (Go's %v, %#v and %T)


def go_value(value: Any) -> str:
    """%v"""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_value(inner)}" for key, inner in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_value, value)) + "]"
    if value is None:
        return "<nil>"
    return value if isinstance(value, str) else codec.encode(value).decode()


def _go_syntax(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{codec.encode(key).decode()}:{_go_syntax(v)}" for key, v in sorted(value.items()))
        return f"{_go_type(value)}{{{inner}}}"
    if isinstance(value, list):
        return f"{_go_type(value)}{{{', '.join(map(_go_syntax, value))}}}"
    return "interface {}(nil)" if value is None else codec.encode(value).decode()


def _go_type(value: Any) -> str:
    names = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", float: "float64"}
    return names.get(type(value), "int64")
