from __future__ import annotations

import pathlib
from typing import Any

import msgspec
import pytest

from kybern.api import codec
from kybern.apiserver.registry.ownership import BuiltIn
from kybern.machinery import defaults, scheme
from kybern.machinery.merge.structured import compare, fields, first, managers

_RECORDED = pathlib.Path(__file__).parents[3] / "apiserver/registry/managed_fields.json"
CASES = msgspec.json.decode(_RECORDED.read_bytes())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])
def test_the_text_is_what_compare_says(case: dict[str, Any]) -> None:
    version = case["path"].removeprefix("/apis/").removeprefix("/api/")
    resource = scheme.kind_of(version, case["kind"])
    struct = scheme.struct_of(version, case["kind"])
    assert resource is not None
    assert struct is not None
    meta = {"name": "a", "labels": {'odd"key': "1"}, "finalizers": ["b/c", "a/b"]}
    obj, _ = codec.from_json(struct, {"metadata": meta, **case["content"], **(case["status"] or {})})
    defaults.apply(obj)
    value, source = codec.to_json(obj), BuiltIn([resource])
    node, empty = source.node(version), source.empty(version)
    assert node is not None
    expected = managers.strip(compare.compare(node, empty, value).changed)
    for _ in range(2):  # the second time with what was remembered of shapes
        text = first.text_of(node, empty, value, first.hidden_of(managers.SERVERS_OWN))
        assert text.encode() == fields.render(expected).text
