"""What a kube-apiserver v1.36 estimated the costs of some 200 rules at, told from the factors in its refusals.

costs.json holds the schema and the costs (two or three digits are exact; null: beyond all limits).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kybern.machinery import cel
from kybern.machinery.cel import estimate, schema_types, sizes

RECORDED = json.loads((Path(__file__).parent / "costs.json").read_text())
DECLARED = schema_types.declare(RECORDED["schema"])
assert DECLARED is not None
ENVIRONMENT = cel.Environment({"self": DECLARED.type}, DECLARED.objects)


@pytest.mark.parametrize(("text", "wanted"), RECORDED["costs"].items())
def test_a_rule_is_estimated_as_upstream_does(text: str, wanted: float | None) -> None:
    assert DECLARED is not None
    cost = estimate.cost_of(cel.compile(text, ENVIRONMENT).node, DECLARED.schema)
    if wanted is None:
        assert cost > 1_000_000_000
    else:
        assert cost == pytest.approx(wanted, rel=0.08, abs=1)


@pytest.mark.parametrize(
    ("schema", "most"),
    [
        ({"type": "array", "maxItems": 5, "items": {"type": "string"}}, 5),
        ({"type": "array", "items": {"type": "integer"}}, 3145728 // 2),
        ({"type": "array", "items": {"type": "boolean"}}, 3145728 // 5),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, 3145728 // 7),
        ({"type": "object", "maxProperties": 7, "additionalProperties": {"type": "integer"}}, 7),
        ({"type": "string", "maxLength": 10}, 40),
        ({"type": "string"}, 3145726),
        ({"type": "string", "enum": ["a", "abc"]}, 3),
        ({"type": "integer"}, 0),
    ],
)
def test_sizes_are_those_that_a_request_can_hold(schema: dict[str, object], most: int) -> None:
    declared = schema_types.declare(schema)
    assert declared is not None
    assert sizes.max_elements(declared.schema) == most


def test_a_deep_bomb_is_estimated_at_once() -> None:
    text = "self.list.all(a, " * 30 + "true" + ")" * 30
    assert estimate.cost_of(cel.compile(text, ENVIRONMENT).node, DECLARED.schema if DECLARED else None) > 10**18
