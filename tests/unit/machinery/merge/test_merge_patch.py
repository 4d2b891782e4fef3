from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery.merge import merge_patch
from kybern.machinery.merge.errors import MalformedPatch


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(document: Any, patch: Any, result: Any) -> None:
    assert merge_patch.apply(document, patch) == result


def test_arguments_are_not_changed() -> None:
    document = {"a": {"b": 1}, "c": 2}
    merge_patch.apply(document, {"a": {"b": None}, "c": None})
    assert document == {"a": {"b": 1}, "c": 2}


def test_deep_nesting_is_refused() -> None:
    patch: Any = {}
    for _ in range(5000):
        patch = {"a": patch}
    with pytest.raises(MalformedPatch, match="nested too deeply"):
        merge_patch.apply({}, patch)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=10,
)


@given(document=JSON, patch=JSON)
def test_applying_twice_changes_nothing(document: Any, patch: Any) -> None:
    once = merge_patch.apply(document, patch)
    assert merge_patch.apply(once, patch) == once


@given(document=JSON, patch=st.dictionaries(st.sampled_from("abcd"), JSON))
def test_keys_the_patch_does_not_name_stay(document: Any, patch: Any) -> None:
    result = merge_patch.apply(document, patch)
    for key, value in document.items() if isinstance(document, dict) else ():
        if key not in patch:
            assert result[key] == value
    for key, value in patch.items():
        assert (key in result) == (value is not None)
