"""The rules on types of their own; what upstream's kinds do is in tests/unit/apiserver/registry/test_ownership."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.api.scalars import Time
from kybern.machinery.merge.structured import fields, managers, rules, schema, typed
from kybern.machinery.merge.structured.errors import Conflicts, TypedError
from kybern.machinery.merge.structured.managers import Key, Manager
from kybern.machinery.merge.structured.rules import Writing
from kybern.machinery.merge.structured.schema import Node

V1, V2 = "x.io/v1", "x.io/v2"


class TwoVersions:
    """Version 2 calls `old` `new`."""

    def __init__(self) -> None:
        number = {"type": "integer"}
        self.nodes = {
            V1: schema.of_custom({"type": "object", "properties": {"old": number, "other": number}}),
            V2: schema.of_custom({"type": "object", "properties": {"new": number, "other": number}}),
        }

    def node(self, api_version: str) -> Node | None:
        return self.nodes.get(api_version)

    def convert(self, value: dict[str, Any], source: str, target: str) -> dict[str, Any]:
        names = {"old": "new"} if target == V2 else {"new": "old"}
        return {names.get(name, name): inner for name, inner in value.items()}


KINDS = TwoVersions()


def by(name: str, version: str = V1, ignored: fields.Fields = fields.LEAF) -> Writing:
    return Writing(name, version, "", Time("2026-01-01T00:00:00Z"), ignored)


def owned(found: dict[Key, Manager]) -> dict[str, list[str]]:
    return {m.name: [fields.path_text(path) for path in fields.members(m.owned)] for m in found.values()}


def test_managers_of_versions_meet_in_each_others_fields() -> None:
    made = rules.apply(KINDS, {}, {"old": 1, "other": 1}, {}, by("one"), force=False)
    with pytest.raises(Conflicts) as caught:
        rules.apply(KINDS, {"new": 1, "other": 1}, {"new": 2}, made.managers, by("two", V2), force=False)
    assert [(c.manager, c.field) for c in caught.value.conflicts] == [('"one"', ".old")]
    taken = rules.apply(KINDS, {"new": 1, "other": 1}, {"new": 2}, made.managers, by("two", V2), force=True)
    assert owned(taken.managers) == {"one": [".other"], "two": [".new"]}


def test_what_another_version_owns_is_not_pruned() -> None:
    made = rules.apply(KINDS, {}, {"old": 1, "other": 1}, {}, by("one"), force=False)
    both = rules.apply(KINDS, {"new": 1, "other": 1}, {"new": 1}, made.managers, by("two", V2), force=False)
    left = rules.apply(KINDS, {"old": 1, "other": 1}, {}, both.managers, by("one"), force=False)
    assert left.value == {"old": 1}
    assert owned(left.managers) == {"two": [".new"]}


def test_a_manager_of_a_version_that_is_gone_goes() -> None:
    old = Manager("m", managers.UPDATE, "x.io/v0", "", None, fields.of_paths(("f:other",)))
    after = rules.update(KINDS, {"other": 1}, {"other": 2}, {old.key: old}, by("new"))
    assert owned(after) == {"new": [".other"]}


def test_what_is_ignored_changes_no_hands() -> None:
    made = rules.apply(KINDS, {}, {"old": 1, "other": 1}, {}, by("one"), force=False)
    ignored = fields.of_paths(("f:old",))
    after = rules.update(KINDS, {"old": 1, "other": 1}, {"old": 2, "other": 1}, made.managers, by("two", V1, ignored))
    assert owned(after) == {"one": [".old", ".other"]}


def test_who_applies_what_is_there_gets_no_time() -> None:
    made = rules.apply(KINDS, {"other": 1}, {"other": 1}, {}, by("one"), force=False)
    assert not made.changed
    assert [m.time for m in made.managers.values()] == [None]


def test_conflicts_are_told_by_manager_and_from_the_top() -> None:
    free = schema.of_custom(None)

    class Free(TwoVersions):
        def node(self, api_version: str) -> Node | None:
            return free

    deep = {"z": 1, "a": {"b": 1}}
    first = rules.update(Free(), {}, {"q": deep}, {}, by("m1"))
    both = rules.apply(Free(), {"q": deep}, {"q": deep}, first, by("m0"), force=False).managers
    with pytest.raises(Conflicts) as caught:
        rules.apply(Free(), {"q": deep}, {"q": {"z": 2, "a": {"b": 2}}}, both, by("m2"), force=False)
    told = [(c.manager, c.field) for c in caught.value.conflicts]
    assert told == [(m, f) for m in ('"m0"', f'"m1" using {V1}') for f in (".q.z", ".q.a.b")]


def test_a_map_of_nothing_but_empty_lists_sets_nothing() -> None:
    names = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
    inner = {"type": "object", "properties": {"names": names}}
    node = schema.of_custom({"type": "object", "properties": {"spec": inner}})
    assert typed.fields_of(node, {"spec": {"names": []}}) == {}
    assert typed.fields_of(node, {"spec": {}}) == {"f:spec": {}}
    assert typed.fields_of(node, {"spec": {"names": None}}) == {"f:spec": {"f:names": {}}}


def test_a_type_that_became_atomic_is_owned_whole() -> None:
    atomic = schema.of_custom({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}})
    before = fields.of_paths(("f:a", 'v:"x"'), ("f:a", 'v:"y"'))
    assert managers.settle(atomic, before) == {"f:a": {}}
    same = fields.of_paths(("f:a",))
    assert managers.settle(atomic, same) is same


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"x": 1}, ".x: field not declared in schema"),
        ({"old": "1"}, ".old: expected numeric (int or float), got string"),
        ({"old": True}, ".old: expected numeric (int or float), got bool"),
        ({"old": {"a": 1}}, ".old: expected numeric (int or float), got map[string]interface {}"),
        ({"metadata": [1, {"a": "b"}]}, ".metadata: expected map, got &{[1 map[a:b]]}"),
    ],
)
def test_what_does_not_fit_is_told_in_upstreams_words(value: dict[str, Any], fault: str) -> None:
    with pytest.raises(TypedError) as caught:
        rules.apply(KINDS, {}, value, {}, by("one"), force=True)
    assert str(caught.value) == fault


def test_the_oldest_updaters_become_one() -> None:
    found = {}
    for number in range(13):
        time = Time(f"2026-01-01T00:00:{number:02}Z")
        one = Manager(f"m{number:02}", managers.UPDATE, V1, "", time, fields.of_paths((f"f:{number}",)))
        found[one.key] = one
    kept = managers.capped(found)
    assert len(kept) == managers.MAX_UPDATERS
    ancient = next(m for m in kept.values() if m.name == managers.FOLDED)
    assert set(ancient.owned) == {"f:0", "f:1", "f:2", "f:3"}
    assert ancient.time == "2026-01-01T00:00:03Z"
