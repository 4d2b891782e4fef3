"""Tables, against what a v1.36 API server prints for the same objects (recorded.jsonl)."""

from __future__ import annotations

import datetime
import json
import pathlib
import re
from typing import Any

import pytest

from kybern.api import codec
from kybern.api.core_v1 import Pod
from kybern.api.flowcontrol_v1 import FlowSchema
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Time
from kybern.apiserver import table
from kybern.apiserver.table.render import printer_of
from kybern.machinery import scheme

CASES = [json.loads(line) for line in (pathlib.Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# The recording took a second now and then: ages below two minutes are told to the second.
_SECONDS = re.compile(r"\b\d{1,3}s\b|<invalid>")


def comparable(cells: list[Any]) -> list[Any]:
    return [_SECONDS.sub("<seconds>", c) if isinstance(c, str) else c for c in cells]


def rendered(obj: Any, now: datetime.datetime, **options: Any) -> dict[str, Any]:
    kind: Any = type(obj)
    document: dict[str, Any] = json.loads(table.render(scheme.resource_of(kind), [obj], now, **options))
    return document


@pytest.mark.parametrize("kind", sorted({c["object"]["kind"] for c in CASES}))
def test_objects_are_printed_as_upstream_prints_them(kind: str) -> None:
    for number, case in enumerate(CASES):
        if case["object"]["kind"] != kind:
            continue
        struct = scheme.struct_of(case["object"]["apiVersion"], case["object"]["kind"])
        assert struct is not None
        obj, _ = codec.from_json(struct, case["object"])
        document = rendered(obj, datetime.datetime.fromisoformat(case["now"]))
        columns = [[c["name"], c["type"], c["format"], c["priority"]] for c in document["columnDefinitions"]]
        assert columns == case["columns"], number
        assert comparable(document["rows"][0]["cells"]) == comparable(case["cells"]), number


def pod() -> Pod:
    return Pod(metadata=ObjectMeta(name="web", namespace="ns", creationTimestamp=Time("2025-12-31T00:00:00Z")))


def test_rows_carry_as_much_of_their_object_as_was_asked_for() -> None:
    assert rendered(pod(), NOW, include="None")["rows"][0]["object"] is None
    partial = rendered(pod(), NOW, include="Metadata", version="v1beta1")["rows"][0]["object"]
    assert (partial["kind"], partial["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1beta1")
    assert partial["metadata"]["name"] == "web"
    assert "spec" not in partial
    whole = rendered(pod(), NOW, include="Object")["rows"][0]["object"]
    assert (whole["kind"], whole["apiVersion"]) == ("Pod", "v1")
    assert "spec" in whole


def test_a_listing_says_where_it_stands() -> None:
    document = rendered(pod(), NOW, resource_version="7", continue_token="t", remaining=3)
    assert document["kind"] == "Table"
    assert document["metadata"] == {"resourceVersion": "7", "continue": "t", "remainingItemCount": 3}


def test_a_bookmark_carries_its_revision() -> None:
    kind: Any = Pod
    document = json.loads(table.bookmark(scheme.resource_of(kind), "v1", "42", {"k8s.io/initial-events-end": "true"}))
    metadata = document["rows"][0]["object"]["metadata"]
    assert metadata["resourceVersion"] == "42"
    assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_partial_objects_keep_metadata_as_it_stands() -> None:
    data = (
        b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"b":"c"}},"spec":{"x":[1,{"metadata":2}]}}'
    )
    assert json.loads(table.partial_object(data, "v1")) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "a", "labels": {"b": "c"}},
    }


def test_columns_say_what_they_mean() -> None:
    told = {c["name"]: c["description"] for c in rendered(pod(), NOW)["columnDefinitions"]}
    assert told["Name"].startswith("Name must be unique within a namespace.")
    assert told["Status"] == "The aggregate status of the containers in this pod."
    for resource in scheme.RESOURCES:
        assert any(c.description for c in printer_of(resource).columns), resource.plural


def test_rows_of_pods_that_have_ended_say_so() -> None:
    ended = pod()
    assert "conditions" not in rendered(ended, NOW)["rows"][0]
    ended.status.phase = "Failed"
    assert rendered(ended, NOW)["rows"][0]["conditions"] == [
        {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}
    ]


def test_flow_schemas_are_told_in_the_order_they_match() -> None:
    schemas = [FlowSchema(metadata=ObjectMeta(name=name)) for name in "cba"]
    for schema, precedence in zip(schemas, (10, 800, 800), strict=True):
        schema.spec.matchingPrecedence = precedence
    resource = scheme.resource_of(FlowSchema)
    document = json.loads(table.render(resource, schemas, NOW))
    assert [row["cells"][0] for row in document["rows"]] == ["c", "a", "b"]
    assert document["rows"][0]["object"]["metadata"]["name"] == "c"
