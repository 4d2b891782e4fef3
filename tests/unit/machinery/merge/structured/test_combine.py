from __future__ import annotations

from typing import Any

import pytest

from kybern.machinery.merge.structured import combine, fields, schema

SET = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
KEYED = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "v": {"type": "integer"}, "w": {"type": "integer"}},
    },
}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
WHOLE = {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}}
NODE = schema.of_custom(
    {
        "type": "object",
        "properties": {
            "s": SET, "m": KEYED, "free": FREE, "whole": WHOLE, "l": {"type": "array", "items": {"type": "string"}},
        },
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("live", "applied", "merged"),
    [
        ("abcd", "dxb", "acdxb"),
        ("abcd", "xa", "xabcd"),
        ("abcd", "ba", "bcda"),
        ("abcd", "dcba", "dcba"),
        ("abcdef", "fzbya", "cdefzbya"),
        ("abc", "cz", "abcz"),
        ("ab", "xy", "abxy"),
        ("abcde", "bxd", "abcxde"),
        ("abcdefg", "gxca", "bdefgxca"),
        ("abcdef", "xeyb", "acdxefyb"),
        ("abcde", "ead", "bcead"),
    ],
)
def test_lists_are_merged_in_upstreams_order(live: str, applied: str, merged: str) -> None:
    assert combine.merge(NODE, {"s": list(live)}, {"s": list(applied)}) == {"s": list(merged)}
    items = {"m": [{"name": c, "v": 1} for c in live]}
    found = combine.merge(NODE, items, {"m": [{"name": c, "w": 2} for c in applied]})
    assert "".join(item["name"] for item in found["m"]) == merged
    assert all(("v" in i) == (i["name"] in live) and ("w" in i) == (i["name"] in applied) for i in found["m"])


def test_null_says_nothing_of_what_is_in_a_container() -> None:
    live: dict[str, Any] = {"s": ["a"], "free": {"a": 1}, "l": ["a"], "whole": {"a": "x"}}
    nothing = dict.fromkeys(live)
    merged = combine.merge(NODE, live, nothing)
    assert merged == {"s": ["a"], "free": {"a": 1}, "l": None, "whole": None}


def test_null_takes_the_place_of_an_empty_container() -> None:
    assert combine.merge(NODE, {"s": [], "free": {}}, {"s": None, "free": None}) == {"s": None, "free": None}


def test_a_list_goes_with_its_last_item_and_an_empty_one_stays() -> None:
    gone = fields.of_paths(("f:s", 'v:"x"'), ("f:m",), ("f:free", "f:a"))
    assert combine.remove(NODE, {"s": ["x"], "m": [], "free": {"a": 1}}, gone) == {"m": [], "free": {}}


def test_what_is_atomic_is_replaced() -> None:
    merged = combine.merge(NODE, {"l": ["a", "b"], "whole": {"a": "x"}}, {"l": ["c"], "whole": {}})
    assert merged == {"l": ["c"], "whole": {}}


def test_items_go_with_all_they_hold() -> None:
    live = {"m": [{"name": "a", "v": 1}, {"name": "b", "v": 1, "w": 2}], "s": ["x", "y"], "free": {"p": {"q": 1}}}
    gone = fields.of_paths(
        ("f:m", 'k:{"name":"a"}'), ("f:m", 'k:{"name":"b"}', "f:w"), ("f:s", 'v:"x"'), ("f:free", "f:p", "f:q"),
    )  # fmt: skip
    assert combine.remove(NODE, live, gone) == {"m": [{"name": "b", "v": 1}], "s": ["y"], "free": {"p": {}}}
    assert live["s"] == ["x", "y"]
