from __future__ import annotations

import pathlib
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kybern.api import codec
from kybern.machinery.merge import json_patch
from kybern.machinery.merge.errors import MalformedPatch, PatchError, PatchFailed, PatchTestFailed, PatchTooLarge

CASES = pathlib.Path(__file__).with_name("json_patch_cases.yaml")
FAILURES = {"malformed": MalformedPatch, "failed": PatchFailed, "test": PatchTestFailed}


def cases() -> list[Any]:
    """(document, patch, result or None, failure or "") of each case."""
    table = yaml.load(CASES.read_text(), yaml.CSafeLoader)
    document = table["document"]
    found = []
    for case in table["cases"]:
        changed = document | case.get("result", {})
        result = {key: value for key, value in changed.items() if value != "gone"}
        found.append((document, case["patch"], result, case.get("fails", "")))
    return found


@pytest.mark.parametrize(
    ("document", "patch", "result", "fails"), cases(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_table_holds(document: Any, patch: Any, result: Any, fails: str) -> None:
    before = codec.encode([document, patch])
    if fails:
        with pytest.raises(FAILURES[fails]) as failure:
            json_patch.apply(document, patch)
        assert type(failure.value) is FAILURES[fails]
    else:
        assert json_patch.apply(document, patch) == result
    assert codec.encode([document, patch]) == before, "arguments are not changed"


def test_the_whole_document_can_be_replaced_and_tested() -> None:
    assert json_patch.apply({"a": 1}, [{"op": "replace", "path": "", "value": [1]}]) == [1]
    assert json_patch.apply({"a": 1}, [{"op": "test", "path": "", "value": {"a": 1.0}}]) == {"a": 1}


def test_more_than_ten_thousand_operations_are_refused() -> None:
    operations = [{"op": "test", "path": "/a", "value": 1}] * 10_000
    assert json_patch.apply({"a": 1}, operations) == {"a": 1}
    with pytest.raises(PatchTooLarge, match="10000, got 10001"):
        json_patch.apply({"a": 1}, [*operations, operations[0]])


def test_copies_that_double_the_document_are_stopped() -> None:
    operations = [{"op": "copy", "from": "/a", "path": f"/a/{i}"} for i in range(100)]
    with pytest.raises(PatchTooLarge, match="copy operations"):
        json_patch.apply({"a": {"x": "y" * 100}}, operations)


def test_deep_nesting_is_refused() -> None:
    value: Any = {}
    for _ in range(5000):
        value = {"a": value}
    with pytest.raises(MalformedPatch, match="nested too deeply"):
        json_patch.apply({}, [{"op": "add", "path": "/a", "value": value}])
    with pytest.raises(MalformedPatch, match="nested too deeply"):
        json_patch.apply(value, [])


def test_a_value_added_twice_is_two_values() -> None:
    shared: dict[str, Any] = {}
    operations = [
        {"op": "add", "path": "/a", "value": shared},
        {"op": "add", "path": "/b", "value": shared},
        {"op": "add", "path": "/a/x", "value": 1},
    ]
    assert json_patch.apply({}, operations) == {"a": {"x": 1}, "b": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "/", "~", "0"]), inner),
    max_leaves=12,
)


@given(before=st.dictionaries(st.sampled_from("abc"), JSON), after=st.dictionaries(st.sampled_from("abc"), JSON))
def test_a_difference_made_by_another_library_leads_from_one_to_the_other(before: Any, after: Any) -> None:
    operations = jsonpatch.make_patch(before, after).patch
    assert codec.encode(json_patch.apply(before, operations)) is not None
    assert json_patch.apply(before, operations) == after


PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "-1", "~1", "~0", ""]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": PATHS},
        optional={"from": PATHS, "value": JSON},
    ),
    max_size=5,
)


@given(document=JSON, operations=OPERATIONS | JSON)
def test_whatever_the_patch_is_the_answer_is_a_value_or_a_patch_error(document: Any, operations: Any) -> None:
    before = codec.encode([document, operations])
    try:
        json_patch.apply(document, operations)
    except PatchError as error:
        assert str(error)
    assert codec.encode([document, operations]) == before
