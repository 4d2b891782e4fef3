"""Defaulting, against what a v1.36 API server answered for the same objects (recorded.jsonl: sent and got)."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from kybern.api import codec
from kybern.machinery import defaults, scheme

CASES = [json.loads(line) for line in (pathlib.Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]


def without_empty(value: Any) -> Any:
    """Empty strings and nulls mean absent on the wire; which of them is sent differs by kind and is no default."""
    if isinstance(value, dict):
        return {k: without_empty(v) for k, v in value.items() if v not in (None, "")}
    if isinstance(value, list):
        return [without_empty(v) for v in value]
    return value


def _names() -> list[str]:
    return [f"{i}-{case['sent']['kind']}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=_names())
def test_an_object_is_completed_as_upstream_completes_it(case: dict[str, Any]) -> None:
    sent, got = case["sent"], case["got"]
    struct = scheme.struct_of(sent["apiVersion"], sent["kind"])
    assert struct is not None
    obj, _ = codec.from_json(struct, sent)
    defaults.apply(obj)
    completed = codec.to_json(obj)
    if "status" not in got:
        completed.pop("status", None)
    wanted, _ = codec.from_json(struct, got)
    expected = codec.to_json(wanted)
    if "status" not in got:
        expected.pop("status", None)
    assert without_empty(completed) == without_empty(expected)


@pytest.mark.parametrize("case", CASES, ids=_names())
def test_defaulting_twice_changes_nothing_more(case: dict[str, Any]) -> None:
    struct = scheme.struct_of(case["sent"]["apiVersion"], case["sent"]["kind"])
    assert struct is not None
    obj, _ = codec.from_json(struct, case["sent"])
    defaults.apply(obj)
    once = codec.encode(obj)
    defaults.apply(obj)
    assert codec.encode(obj) == once
