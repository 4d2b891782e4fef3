"""Sets of fields, as metadata.managedFields tells them: the algebra under who owns what.

A set is held in the very shape of fieldsV1, decoded:

    {"f:spec": {"f:replicas": {}, "f:ports": {".": {}, 'k:{"port":80}': {".": {}, "f:port": {}}}}}

A node without children is a member; one with children is a member only if it also holds "."; the root is never one.
Elements: `f:` a field of a struct or key of a map, `k:` an item of a list by its keys, `v:` an item of a set by its
value, `i:` an item by its index. Sets are shared and never changed: every function returns a new one or an old one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.scalars import FieldsV1
from kybern.pausing import pause, pausing

Fields = dict[str, Any]
Path = tuple[str, ...]

SELF = "."
LEAF: Fields = {}
"""A member without children. Shared: never put anything into it."""

_MAX_DEPTH = 200  # deeper than any schema; Python's own limit must never decide
# Bytes. Longer sets are read each time: thousands of the largest that a client can send would be all of the memory.
LONGEST_KEPT = 16 * 1024
_RANK = {"f": 0, "k": 1, "v": 2, "i": 3}


def is_member(node: Fields) -> bool:
    return not node or SELF in node


def union(left: Fields, right: Fields) -> Fields:
    if not left or left is right:
        return right
    if not right:
        return left
    return _union(left, right)


def _union(left: Fields, right: Fields) -> Fields:
    """Of two nodes that are not both empty roots."""
    if not left:
        return right if is_member(right) else {SELF: LEAF, **right}
    if not right:
        return left if SELF in left else {SELF: LEAF, **left}
    joined = dict(left)
    for element, node in pausing(right.items()):
        own = left.get(element)
        joined[element] = node if own is None or own is node else _union(own, node)
    return joined


def difference(left: Fields, right: Fields) -> Fields:
    """The members of `left` that are no members of `right`."""
    if not left or not right:
        return left
    return _children_left(left, right)


def _children_left(left: Fields, right: Fields) -> Fields:
    rest = {}
    for element, node in pausing(left.items()):
        if element == SELF:
            continue
        other = right.get(element)
        kept = node if other is None else _difference(node, other)
        if kept is not None:
            rest[element] = kept
    return rest


def _difference(left: Fields, right: Fields) -> Fields | None:
    stays = is_member(left) and not is_member(right)
    rest = _children_left(left, right) if left else LEAF
    if stays:
        return {SELF: LEAF, **rest} if rest else LEAF
    return rest or None


def intersection(left: Fields, right: Fields) -> Fields:
    """The members of both."""
    return _children_shared(left, right)


def _children_shared(left: Fields, right: Fields) -> Fields:
    shared = {}
    for element, node in pausing(left.items()):
        other = right.get(element)
        if other is None or element == SELF:
            continue
        both = is_member(node) and is_member(other)
        inner = _children_shared(node, other)
        if inner:
            shared[element] = {SELF: LEAF, **inner} if both else inner
        elif both:
            shared[element] = LEAF
    return shared


def without(left: Fields, right: Fields) -> Fields:
    """The members of `left` that are neither members of `right` nor below one."""
    if not left or not right:
        return left
    rest = {}
    for element, node in pausing(left.items()):
        other = right.get(element)
        if other is None:
            rest[element] = node
        elif not is_member(other):
            inner = without(node, other)
            if inner or not node:
                rest[element] = inner
    return rest


def has(fields: Fields, path: Path) -> bool:
    """Whether the path is a member."""
    node = fields
    for element in path:
        following = node.get(element)
        if following is None:
            return False
        node = following
    return is_member(node)


def members(fields: Fields) -> Iterator[Path]:
    """Every member: of each node first those right below it, then those below them."""
    stack: list[tuple[Path, Fields]] = [((), fields)]
    while stack:
        path, node = stack.pop()
        elements = [element for element in ordered_keys(node) if element != SELF]
        yield from ((*path, element) for element in elements if is_member(node[element]))
        stack.extend(((*path, element), node[element]) for element in reversed(elements) if node[element])


def of_paths(*paths: Path) -> Fields:
    """A set of these members."""
    fields: Fields = {}
    for path in paths:
        one: Fields = LEAF
        for element in reversed(path):
            one = {element: one}
        fields = union(fields, one)
    return fields


# -- text


def parse(text: FieldsV1) -> Fields:
    """The set that an entry's fieldsV1 tells. Raises ValueError for what is none."""
    return _kept(text.text) if len(text.text) <= LONGEST_KEPT else _parse(text.text)


def _parse(text: bytes) -> Fields:
    value = codec.decode(dict[str, Any], text)
    return _checked(value, 0)


_kept = functools.lru_cache(maxsize=4096)(_parse)


def _checked(node: Any, depth: int) -> Fields:
    if not isinstance(node, dict) or depth > _MAX_DEPTH:
        raise ValueError("a set of fields is made of maps")
    checked = {}
    for element, inner in pausing(node.items()):
        key = SELF if element == SELF else canonical(element)
        checked[key] = LEAF if key == SELF else _checked(inner, depth + 1)
    return LEAF if set(checked) == {SELF} and depth else checked


def canonical(element: str) -> str:
    """The one spelling of a path element. Raises ValueError."""
    kind, _, rest = element.partition(":")
    if kind == "f" and element[1:2] == ":":
        return element
    if kind in ("k", "v"):
        try:
            value = msgspec.json.decode(rest)
        except msgspec.DecodeError:
            raise ValueError(f"{element!r} holds no JSON") from None
        return element_of_key(value) if kind == "k" and isinstance(value, dict) else element_of_value(value)
    if kind == "i" and rest.lstrip("-").isdecimal():
        return f"i:{int(rest)}"
    raise ValueError(f"{element!r} is no path element")


def element_of_key(keys: dict[str, Any]) -> str:
    return "k:" + codec.encode(dict(sorted(keys.items()))).decode()


def element_of_value(value: Any) -> str:
    return "v:" + codec.encode(value).decode()


def render(fields: Fields) -> FieldsV1:
    """The set as fieldsV1: elements in upstream's order."""
    return FieldsV1.of(codec.encode(ordered(fields)))


def ordered(node: Fields) -> Fields:
    if not node:
        return node
    return {element: ordered(node[element]) for element in pausing(ordered_keys(node))}


def ordered_keys(node: Fields) -> list[str]:
    """ "." first, then fields by name, items by key, values, indexes."""
    keys = sorted(node)
    if keys and keys[-1] > "g":  # anything but "." and "f:"
        placed = [(_place(key), key) for key in pausing(keys)]
        pause()
        placed.sort()
        return [key for _, key in placed]
    return keys


@functools.lru_cache(maxsize=8192)
def _place(element: str) -> tuple[Any, ...]:
    if element == SELF:
        return (-1,)
    kind, _, rest = element.partition(":")
    rank = _RANK.get(kind, 4)
    if rank == 0:
        return (0, rest)
    if rank == 3:
        return (3, int(rest))
    value = msgspec.json.decode(rest)
    if rank == 1 and isinstance(value, dict):
        return (1, tuple((name, _value_place(inner)) for name, inner in sorted(value.items())))
    return (rank, _value_place(value))


def _value_place(value: Any) -> tuple[int, Any]:
    """Values of different types have an order too: numbers, strings, booleans, the rest by its text."""
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (3, codec.encode(value).decode())


def path_text(path: Path) -> str:
    """As messages tell it: `.spec.containers[name="c"].image`."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "i":
        return f"[{rest}]"
    value = msgspec.json.decode(rest)
    if kind == "k" and isinstance(value, dict):
        shown = ",".join(f"{name}={codec.encode(inner).decode()}" for name, inner in sorted(value.items()))
        return f"[{shown}]"
    return f"[={codec.encode(value).decode()}]"
