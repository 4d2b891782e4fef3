"""Put what is applied into what is live, and take out what nobody owns. Used by rules.

Values are JSON; the arguments are never changed, results share parts with them.
"""

from __future__ import annotations

from typing import Any

from kybern.machinery.merge.structured.fields import SELF, Fields, is_member
from kybern.machinery.merge.structured.schema import Kind, Node, resolve
from kybern.machinery.merge.structured.typed import element_of
from kybern.pausing import pausing


def merge(node: Node, live: Any, applied: Any) -> Any:
    """`live` with every field that `applied` sets."""
    if applied is None and live and isinstance(live, (dict, list)) and not resolve(node, live).atomic:
        return live  # null says nothing about what is in it
    node = resolve(node, applied)
    if node.atomic:
        return applied
    if node.kind is Kind.MAP and isinstance(applied, dict):
        return _merge_maps(node, live, applied)
    if node.kind is Kind.LIST and isinstance(applied, list):
        return _merge_lists(node, live, applied)
    return applied


def _merge_maps(node: Node, live: Any, applied: dict[str, Any]) -> Any:
    if not isinstance(live, dict):
        live = {}
    merged = dict(live)
    for name, value in pausing(applied.items()):
        own = node.fields.get(name, node.element)
        merged[name] = value if own is None or name not in live else merge(own, live[name], value)
    return merged


def _merge_lists(node: Node, live: Any, applied: list[Any]) -> Any:
    """Items in the order of `applied`; those it does not have stay behind what they were behind."""
    if not isinstance(live, list):
        live = []
    assert node.element is not None
    before: dict[str, list[Any]] = {}
    order: list[str] = []
    for item in pausing(live):
        element = element_of(node, item)
        order.append(element)
        before.setdefault(element, []).append(item)
    wanted = {element_of(node, item): item for item in pausing(applied)}
    shared = [element for element in pausing(wanted) if element in before]
    return _interleaved(node, live, order, before, wanted, shared)


def _interleaved(
    node: Node,
    live: list[Any],
    order: list[str],
    before: dict[str, list[Any]],
    wanted: dict[str, Any],
    shared: list[str],
) -> list[Any]:
    assert node.element is not None
    merged: list[Any] = []
    asked = list(wanted.items())
    done: set[str] = set()
    at_live = at_asked = next_shared = 0
    while at_live < len(order) or at_asked < len(asked):
        upcoming = shared[next_shared] if next_shared < len(shared) else None
        if at_live < len(order):
            element = order[at_live]
            if element not in wanted:
                merged.append(live[at_live])
                at_live += 1
                continue
            if element in done or (at_asked < len(asked) and element != asked[at_asked][0] and element != upcoming):
                at_live += 1  # it has come, or comes where it is asked for
                continue
        if at_asked >= len(asked):
            at_live += 1
            continue
        element, value = asked[at_asked]
        at_asked += 1
        done.add(element)
        own = before.get(element)
        if own is None:
            merged.append(value)
            continue
        next_shared += 1
        if at_live < len(order) and order[at_live] == element:
            at_live += 1
        merged.append(value if node.is_set or len(own) > 1 else merge(node.element, own[0], value))
    return merged


def remove(node: Node, value: Any, gone: Fields) -> Any:
    """`value` without the members of `gone` and all that is below them."""
    if not gone or not value:
        return value
    node = resolve(node, value)
    if node.atomic or node.kind is Kind.SCALAR:
        return value
    if node.kind is Kind.MAP and isinstance(value, dict):
        return _remove_from_map(node, value, gone)
    if node.kind is Kind.LIST and isinstance(value, list):
        return _remove_from_list(node, value, gone)
    return value


def _remove_from_map(node: Node, value: dict[str, Any], gone: Fields) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for name, inner in pausing(value.items()):
        below = gone.get(f"f:{name}")
        own = node.fields.get(name, node.element)
        if below is None or (inner == [] and own is not None and not resolve(own, inner).atomic):
            left[name] = inner  # an empty list sets nothing that could go
        elif not is_member(below):
            rest = inner if own is None else remove(own, inner, below)
            if rest == [] and inner:
                continue  # a list goes with its last item; a map stays
            left[name] = rest
    return left


def _remove_from_list(node: Node, value: list[Any], gone: Fields) -> list[Any]:
    assert node.element is not None
    left: list[Any] = []
    for item in pausing(value):
        below = gone.get(element_of(node, item))
        if below is None:
            left.append(item)
        elif not is_member(below):
            left.append(remove(node.element, item, below))
    return left


def named(node: Node, owned: Fields) -> Fields:
    """The set with every struct field above a member as a member too: who owns `spec.a` holds `spec` in being."""
    held: Fields = {}
    for element, inner in pausing(owned.items()):
        if element == SELF:
            held[SELF] = inner
            continue
        following, is_field = _step(node, element)
        below = named(following, inner) if inner and following is not None else inner
        if below and is_field and SELF not in below:
            below = {SELF: {}, **below}
        held[element] = below
    return held


def _step(node: Node, element: str) -> tuple[Node | None, bool]:
    """The type below an element, and whether the element is a field of a struct."""
    if element.startswith("f:"):
        own = node.fields.get(element[2:])
        if own is not None:
            return own, True
        if node.kind is Kind.ANY:
            return node, False
        return node.element, False
    return node.element if node.kind is not Kind.ANY else node, False
