"""What differs between two values of one type, as three sets of fields. Fed by rules with what was and what shall be.

A container that is new is a member itself, and so is everything in it. One that was there empty (as the parts of a
new object which are structs) is not: only what came into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.fields import LEAF, SELF, Fields
from kybern.machinery.merge.structured.schema import Kind, Node, resolve
from kybern.machinery.merge.structured.typed import element_of
from kybern.pausing import pausing


@dataclass(frozen=True, slots=True)
class Difference:
    """Disjoint sets."""

    added: Fields
    modified: Fields
    removed: Fields

    @property
    def changed(self) -> Fields:
        """What the new value has that the old one had not, or had otherwise."""
        return fields.union(self.added, self.modified)

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.modified or self.removed)


_Three = tuple[Fields | None, Fields | None, Fields | None]
_MODIFIED: _Three = (None, LEAF, None)
_SAME: _Three = (None, None, None)


def compare(node: Node, old: Any, new: Any, *, as_told: bool = True) -> Difference:
    """How `new` differs from `old`, both whole objects.

    `as_told`: both are objects that upstream tells without zeroes and with nulls; otherwise they count as they stand.
    """
    added, modified, removed = _compare(node, old, new, as_told)
    return Difference(added or LEAF, modified or LEAF, removed or LEAF)


def whole(node: Node, value: Any) -> Fields:
    """A value that is new (or gone): the member and everything below."""
    if not value or node.atomic:
        return LEAF
    kind = node.kind
    if kind is Kind.SCALAR:
        return LEAF
    if kind is Kind.ANY:
        node = resolve(node, value)
        kind = node.kind
    if kind is Kind.MAP and type(value) is dict:
        return _whole_map(node, value)
    if kind is Kind.LIST and type(value) is list:
        return LEAF if node.atomic else {SELF: LEAF, **_items(node, value)}
    return LEAF


def _whole_map(node: Node, value: dict[str, Any]) -> Fields:
    known, others = node.fields, node.element
    found: Fields = {SELF: LEAF}
    for name, inner in pausing(value.items()):
        own = known.get(name, others)
        if own is not None and (inner or name not in node.zeros):
            found[f"f:{name}"] = whole(own, inner)
    for name in pausing(node.nulls):
        found.setdefault(f"f:{name}", LEAF)
    return found


def _items(node: Node, value: list[Any]) -> Fields:
    assert node.element is not None
    found: Fields = {}
    for item in pausing(value):
        element = element_of(node, item)
        found[element] = LEAF if node.is_set or element in found else whole(node.element, item)
    return found


def _compare(node: Node, old: Any, new: Any, as_told: bool) -> _Three:
    """Two values that are there."""
    if old is new or (old == new and type(old) is type(new)):
        return _SAME
    left, right = resolve(node, old), resolve(node, new)
    if left is not right and old is not None and new is not None:
        return _replaced(left, old, right, new)
    node = right if new is not None else left
    if node.atomic or node.kind is Kind.SCALAR:
        return _MODIFIED
    if node.kind is Kind.MAP:
        return _compare_maps(node, old, new, as_told)
    return _compare_lists(node, old, new, as_told)


def _replaced(left: Node, old: Any, right: Node, new: Any) -> _Three:
    """Free-form JSON that became something else."""
    come = {element: node for element, node in whole(right, new).items() if element != SELF}
    gone = {element: node for element, node in whole(left, old).items() if element != SELF}
    return come or None, LEAF, gone or None


def _compare_maps(node: Node, old: Any, new: Any, as_told: bool) -> _Three:
    if not (isinstance(old, dict) or old is None) or not (isinstance(new, dict) or new is None):
        return _MODIFIED
    old, new = old or {}, new or {}
    if not old and not new:
        return _MODIFIED  # null and {}
    if as_told and (node.nulls or node.zeros):
        old, new = _told(node, old), _told(node, new)
    added: Fields = {}
    modified: Fields = {}
    removed: Fields = {}
    known, others = node.fields, node.element
    for name, value in pausing(new.items()):
        own = known.get(name, others)
        if own is None:
            continue
        element = f"f:{name}"
        if name not in old:
            added[element] = whole(own, value)
            continue
        before = old[name]
        if before is value:
            continue
        a, m, r = _compare(own, before, value, as_told)
        if a is not None:
            added[element] = a
        if m is not None:
            modified[element] = m
        if r is not None:
            removed[element] = r
    for name, value in pausing(old.items()):
        if name not in new:
            own = known.get(name, others)
            if own is not None:
                removed[f"f:{name}"] = whole(own, value)
    return added or None, modified or None, removed or None


def _told(node: Node, value: dict[str, Any]) -> dict[str, Any]:
    """A struct as upstream tells it: unset times are null, zeroes are left out."""
    told: dict[str, Any] = dict.fromkeys(node.nulls)
    told.update((name, inner) for name, inner in value.items() if inner or name not in node.zeros)
    return told


def without_zeroes(node: Node, value: Any) -> Any:
    """A built-in object as upstream would tell it, but for null times: scalars that are zero and no pointers go."""
    if isinstance(value, dict) and node.kind is Kind.MAP:
        kept = {}
        for name, inner in pausing(value.items()):
            own = node.fields.get(name, node.element)
            if own is None or inner or name not in node.zeros:
                kept[name] = inner if own is None or not inner else without_zeroes(own, inner)
        return kept
    if isinstance(value, list) and node.element is not None and node.element.kind is not Kind.SCALAR:
        return [without_zeroes(node.element, item) for item in pausing(value)]
    return value


def _compare_lists(node: Node, old: Any, new: Any, as_told: bool) -> _Three:
    if not (isinstance(old, list) or old is None) or not (isinstance(new, list) or new is None):
        return _MODIFIED
    old, new = old or [], new or []
    if not old and not new:
        return _MODIFIED  # null and []
    added: Fields = {}
    modified: Fields = {}
    removed: Fields = {}
    before, after = _grouped(node, old), _grouped(node, new)
    assert node.element is not None
    for element, items in pausing(after.items()):
        previous = before.get(element)
        single = len(items) == 1
        if previous is None:
            added[element] = LEAF if node.is_set or not single else whole(node.element, items[0])
        elif single and len(previous) == 1:
            a, m, r = _compare(node.element, previous[0], items[0], as_told)
            if a is not None:
                added[element] = a
            if m is not None:
                modified[element] = m
            if r is not None:
                removed[element] = r
        else:
            _compare_repeated(node, element, previous, items, (added, modified, removed))
    for element, items in pausing(before.items()):
        if element not in after:
            removed[element] = LEAF if node.is_set or len(items) > 1 else whole(node.element, items[0])
    return added or None, modified or None, removed or None


def _compare_repeated(
    node: Node, element: str, old: list[Any], new: list[Any], into: tuple[Fields, Fields, Fields]
) -> None:
    """Items with one key, several on at least one side: they are one field, without fields of its own."""
    added, modified, removed = into
    if old == new:
        return
    modified[element] = LEAF
    if node.is_set:
        return
    assert node.element is not None
    if len(old) == 1:
        gone = {k: v for k, v in whole(node.element, old[0]).items() if k != SELF}
        if gone:
            removed[element] = gone
    elif len(new) == 1:
        come = {k: v for k, v in whole(node.element, new[0]).items() if k != SELF}
        if come:
            added[element] = come


def _grouped(node: Node, items: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in pausing(items):
        found.setdefault(element_of(node, item), []).append(item)
    return found
