from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kybern.api import codec
from kybern.machinery import scheme
from kybern.machinery.merge import merge_patch, strategic
from kybern.machinery.merge.errors import MalformedPatch, PatchError, PatchFailed

POD = "io.k8s.api.core.v1.Pod"
CASES = pathlib.Path(__file__).with_name("strategic_cases.yaml")
FAILURES = {"malformed": MalformedPatch, "failed": PatchFailed}


def cases() -> list[Any]:
    """(why, document, patch, result or None, failure or "") of each case."""
    found = []
    for group in yaml.load(CASES.read_text(), yaml.CSafeLoader):
        frame = {"apiVersion": group["apiVersion"], "kind": group["kind"], "metadata": {"name": "x"}}
        for case in group["cases"]:
            result = frame | case["result"] if "result" in case else None
            found.append((case["why"], frame | group["document"], case["patch"], result, case.get("fails", "")))
    return found


def definition_of(document: Any) -> str:
    resource = scheme.kind_of(document["apiVersion"], document["kind"])
    assert resource is not None
    return resource.definition


@pytest.mark.parametrize(
    ("why", "document", "patch", "result", "fails"), cases(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_table_holds(why: str, document: Any, patch: Any, result: Any, fails: str) -> None:
    before = codec.encode([document, patch])
    if fails:
        with pytest.raises(FAILURES[fails]):
            strategic.apply(document, patch, definition_of(document))
    else:
        assert strategic.apply(document, patch, definition_of(document)) == result
    assert codec.encode([document, patch]) == before, "arguments are not changed"


def test_messages_name_the_place() -> None:
    document = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}]}]}}
    for patch, message in [
        ({"spec": {"containers": [{"name": "a", "ports": [{"hostPort": 2}]}]}},
         r"spec.containers\[name=a\].ports: an item does not contain the declared merge key: containerPort"),
        ({"spec": {"containers": [{"name": "a", "$patch": "x"}]}}, "spec.containers: unknown patch type: x"),
        ({"spec": {"containers": ["a"]}},
         r"spec.containers: list element types are not identical: \['map', 'string'\]"),
        ({"spec": {"$setElementOrder/x": []}},
         'spec: unable to find api field in struct PodSpec for the json field "x"'),
    ]:  # fmt: skip
        with pytest.raises(PatchError, match=message):
            strategic.apply(document, patch, POD)


def test_free_form_fields_are_merged_as_maps() -> None:
    """Raw extensions have no fields in the schema: whatever they hold is merged like by a merge patch."""
    definition = "io.k8s.api.apps.v1.ControllerRevision"
    document = {"data": {"spec": {"list": [1], "map": {"a": 1}}}}
    patch = {"data": {"spec": {"list": [2], "map": {"a": None, "b": 2}}}}
    assert strategic.apply(document, patch, definition) == {"data": {"spec": {"list": [2], "map": {"b": 2}}}}


def test_long_lists_take_linear_time() -> None:
    items = [{"name": f"n{i}", "value": "v"} for i in range(20_000)]
    document = {"spec": {"containers": [{"name": "a", "env": items}]}}
    patch = {
        "spec": {
            "containers": [
                {
                    "name": "a",
                    "env": [{"name": f"n{i}", "value": "w"} for i in range(0, 20_000, 2)],
                    "$setElementOrder/env": [{"name": f"n{i}"} for i in range(20_000)],
                }
            ]
        }
    }
    patched = strategic.apply(document, patch, POD)["spec"]["containers"][0]["env"]
    assert [item["name"] for item in patched] == [item["name"] for item in items]
    assert patched[0]["value"] == "w"


def test_deep_nesting_is_refused() -> None:
    document: Any = {}
    patch: Any = {}
    for _ in range(5000):
        document, patch = {"a": document}, {"a": patch}
    for old in ({}, {"data": document}):
        with pytest.raises(MalformedPatch, match="nested too deeply"):
            strategic.apply(old, {"data": patch}, "io.k8s.api.apps.v1.ControllerRevision")


NAMES = st.sampled_from("abcdefgh")
ITEMS = st.lists(NAMES, max_size=6, unique=True)


@given(old=ITEMS, patch=ITEMS, deleted=ITEMS)
def test_merging_keeps_every_item_and_the_patchs_order(old: list[str], patch: list[str], deleted: list[str]) -> None:
    deleted = [name for name in deleted if name not in patch]
    document = {"spec": {"volumes": [{"name": name, "old": True} for name in old]}}
    items = [{"name": name, "new": True} for name in patch]
    gone = [{"name": name, "$patch": "delete"} for name in deleted]
    volumes = strategic.apply(document, {"spec": {"volumes": [*items, *gone]}}, POD)["spec"]["volumes"]
    names = [volume["name"] for volume in volumes]
    assert sorted(names) == sorted((set(old) | set(patch)) - set(deleted))
    assert [name for name in names if name in patch] == patch
    left = [name for name in old if name not in patch and name not in deleted]
    assert [name for name in names if name not in patch] == left
    for volume in volumes:
        assert (volume["name"] in patch) == ("new" in volume)
        assert (volume["name"] in old) == ("old" in volume)


@given(old=ITEMS, patch=ITEMS, order=st.permutations("abcdefgh"))
def test_an_order_is_kept_and_applying_twice_changes_nothing(
    old: list[str], patch: list[str], order: list[str]
) -> None:
    ordered = [name for name in order if name in patch]
    change = {"metadata": {"finalizers": ordered, "$setElementOrder/finalizers": order}}
    once = strategic.apply({"metadata": {"finalizers": old}}, change, POD)
    assert once["metadata"]["finalizers"] == [name for name in order if name in {*old, *patch}]
    assert strategic.apply(once, change, POD) == once


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(NAMES, JSON, max_size=4)


@given(document=MAPS, patch=MAPS)
def test_without_lists_to_merge_and_directives_it_is_a_merge_patch(document: Any, patch: Any) -> None:
    definition = "io.k8s.api.apps.v1.ControllerRevision"
    expected = merge_patch.apply({"data": document}, {"data": patch})
    assert strategic.apply({"data": document}, {"data": patch}, definition) == expected


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "replace", "delete"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "spec", "containers", "name", "env", "args", "finalizers", "volumes", "$patch", "$retainKeys",
             "$setElementOrder/containers", "$setElementOrder/env", "$deleteFromPrimitiveList/finalizers"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(document=ANYTHING, patch=ANYTHING)
def test_whatever_the_patch_is_the_answer_is_a_value_or_a_patch_error(document: Any, patch: Any) -> None:
    try:
        strategic.apply(document, patch, POD)
    except PatchError as error:
        assert str(error)
