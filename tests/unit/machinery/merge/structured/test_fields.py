from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api.scalars import FieldsV1
from kybern.machinery.merge.structured import fields

_ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'k:{"port":80}', 'k:{"port":443}', 'v:"s"', "v:7", "i:0"])
_PATHS = st.lists(st.lists(_ELEMENTS, min_size=1, max_size=3).map(tuple), max_size=6)


def members(owned: fields.Fields) -> set[fields.Path]:
    return set(fields.members(owned))


@given(_PATHS, _PATHS)
def test_the_algebra_is_that_of_sets(left: list[fields.Path], right: list[fields.Path]) -> None:
    one, two = fields.of_paths(*left), fields.of_paths(*right)
    assert members(one) == set(left)
    assert members(fields.union(one, two)) == set(left) | set(right)
    assert members(fields.difference(one, two)) == set(left) - set(right)
    assert members(fields.intersection(one, two)) == set(left) & set(right)
    below = {p for p in left if any(p[: len(q)] == q for q in right)}
    assert members(fields.without(one, two)) == set(left) - below
    assert all(fields.has(one, path) for path in left)


@given(_PATHS)
def test_text_and_set_are_a_round_trip(paths: list[fields.Path]) -> None:
    owned = fields.of_paths(*paths)
    text = fields.render(owned)
    assert fields.parse(text) == owned
    assert fields.render(fields.parse(text)) == text


def test_the_text_is_in_upstreams_order() -> None:
    owned = fields.of_paths(
        ("f:z",), ("f:a", 'k:{"port":443}'), ("f:a", 'k:{"port":80}'), ("f:a",), ("f:a", 'k:{"port":80}', "f:x"),
    )  # fmt: skip
    text = b'{"f:a":{".":{},"k:{\\"port\\":80}":{".":{},"f:x":{}},"k:{\\"port\\":443}":{}},"f:z":{}}'
    assert fields.render(owned).text == text


def test_elements_have_one_spelling() -> None:
    assert fields.canonical('k:{ "b": 1, "a":"x" }') == 'k:{"a":"x","b":1}'
    assert fields.canonical('v: "x"') == 'v:"x"'
    assert fields.canonical("i:007") == "i:7"


@pytest.mark.parametrize("wrong", [b"[]", b"7", b'{"f:a":1}', b'{"x:a":{}}', b'{"k:{":{}}', b'{"i:x":{}}', b'{"":{}}'])
def test_what_is_no_set_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError):
        fields.parse(FieldsV1(wrong))


def test_a_set_of_any_depth_is_refused_in_time() -> None:
    with pytest.raises(ValueError):
        fields.parse(FieldsV1(b'{"f:a":' * 400 + b"{}" + b"}" * 400))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:a"), ".spec.a"),
        (("f:l", 'k:{"name":"x","port":80}'), '.l[name="x",port=80]'),
        (("f:l", 'v:"x"'), '.l[="x"]'),
        (("f:l", "i:3"), ".l[3]"),
    ],
)
def test_paths_are_told_as_upstream_tells_them(path: fields.Path, text: str) -> None:
    assert fields.path_text(path) == text


def test_leaf_is_never_changed() -> None:
    sets: list[Any] = [fields.of_paths(("f:a",)), fields.of_paths(("f:a", "f:b"))]
    fields.union(*sets)
    fields.difference(*sets)
    assert fields.LEAF == {}
