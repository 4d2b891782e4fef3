"""Whose a new object is: the fields of its first manager, as text at once.

What compare would say of an empty and a new object, for the hot path of creates: no sets are made, only strings.
Called by apiserver/registry/ownership. Promise: the same text as fields.render(compare(...).added and modified).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from kybern.api import codec
from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.fields import LEAF, Fields
from kybern.machinery.merge.structured.schema import Kind, Node, resolve
from kybern.machinery.merge.structured.typed import element_of
from kybern.pausing import pausing

Hidden = Mapping[str, Any]
"""Fields that count as nobody's, by name: {} with all below them, or the names of some below them."""

_LEAF = "{}"
# So many shapes of a struct's values are remembered.
_MAX_SHAPES = 128
_UNKNOWN = ""
# Bytes of a list whose text is remembered.
_LONGEST_REMEMBERED = 8 * 1024


def hidden_of(owned: Fields) -> dict[str, Any]:
    """A set of struct fields as `Hidden`."""
    return {element[2:]: hidden_of(below) for element, below in owned.items() if element != fields.SELF}


def text_of(node: Node, empty: Mapping[str, Any], new: Mapping[str, Any], hidden: Hidden) -> str:
    """The set of what `new` has beyond `empty`, which holds nothing but empty containers; "" for the empty set."""
    parts: list[str] = []
    texts, zeros = node.texts, node.zeros
    for name in pausing(sorted(new)):
        value, before = new[name], empty.get(name)
        if (before == value and name in empty) or (not value and name in zeros):
            continue
        step = texts.get(name) or _step(node, name)
        if step is None:
            continue
        key, own = step
        below = hidden.get(name)
        if below is not None and not below:
            continue
        if type(before) is dict and own.kind is Kind.MAP and not own.atomic:
            inner = text_of(own, before, value, below or LEAF)
            if inner:
                parts.append(key + inner)
        elif before is not None and own.kind is Kind.LIST and not own.atomic:
            parts.append(f"{key}{{{_items(own, value)}}}")
        else:
            parts.append(key + (_LEAF if before is not None else _whole(own, value)))
    return "{" + ",".join(parts) + "}" if parts else ""


def _step(node: Node, name: str) -> tuple[str, Node] | None:
    """The way to a key that is no field of its own."""
    return None if node.element is None else (_key(f"f:{name}"), node.element)


@functools.lru_cache(maxsize=8192)
def _key(element: str) -> str:
    return codec.encode(element).decode() + ":"


def _whole(node: Node, value: Any) -> str:
    """A value that is new: itself and everything below."""
    if not value or node.atomic or node.kind is Kind.SCALAR:
        return _LEAF
    if node.kind is Kind.ANY:
        node = resolve(node, value)
        if node.atomic:
            return _LEAF
    if node.kind is Kind.MAP and type(value) is dict:
        return _whole_map(node, value)
    if node.kind is Kind.LIST and type(value) is list:
        return f'{{".":{{}},{_items(node, value)}}}'
    return _LEAF


def _whole_map(node: Node, value: dict[str, Any]) -> str:
    """Values with the same keys have the same set, where nothing merges below: that is found out once."""
    shape = tuple(value)
    known = node.shapes.get(shape)
    if known and all(value.values()):
        return known
    texts, zeros = node.texts, node.zeros
    parts = ['{".":{}']
    is_flat = True
    for name in pausing(sorted(value if not node.nulls else {*value, *node.nulls})):
        step = texts.get(name) or _step(node, name)
        if step is None:
            continue
        key, own = step
        inner = value.get(name)
        if not inner:
            if name not in zeros:
                parts.append(key + _LEAF)
        elif own.atomic or own.kind is Kind.SCALAR:
            parts.append(key + _LEAF)
        else:
            parts.append(key + _whole(own, inner))
            is_flat = False
    text = ",".join(parts) + "}"
    if known is None and node.element is None and len(node.shapes) < _MAX_SHAPES and all(value.values()):
        node.shapes[shape] = text if is_flat else _UNKNOWN
    return text


def _items(node: Node, value: list[Any]) -> str:
    """Pods of one template have the same containers: what they come to is remembered by their text."""
    text = codec.encode(value)
    return _remembered(node, text) if len(text) <= _LONGEST_REMEMBERED else _told(node, value)


@functools.lru_cache(maxsize=512)
def _remembered(node: Node, text: bytes) -> str:
    return _told(node, msgspec.json.decode(text))


def _told(node: Node, value: list[Any]) -> str:
    assert node.element is not None
    found: dict[str, str] = {}
    for item in pausing(value):
        element = element_of(node, item)
        found[element] = _LEAF if node.is_set or element in found else _whole(node.element, item)
    order = fields.ordered_keys(found) if len(found) > 1 else found
    return ",".join([_key(element) + found[element] for element in pausing(order)])
