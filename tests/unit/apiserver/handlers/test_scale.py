"""Scales of all that has replicas, written well and badly: answers of a v1.36 API server (scale_answers.jsonl)."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import msgspec

from kybern.testing.api_server import Api, run
from kybern.testing.definitions import definition

ANSWERS = pathlib.Path(__file__).with_name("scale_answers.jsonl")
NUMBER = {"type": "integer"}
PROPERTIES = {
    "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "maximum": 50}}},
    "status": {"type": "object", "properties": {"replicas": NUMBER, "sel": {"type": "string"}}},
}
SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.sel",
}
GEARS = definition(
    "gears",
    "Gear",
    {"type": "object", "properties": PROPERTIES},
    group="gear.example.com",
    subresources={"status": {}, "scale": SCALE},
)
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
LABELS = {"a": "b"}
SPEC: dict[str, Any] = {"template": TEMPLATE, "replicas": 0, "selector": {"matchLabels": LABELS}}
OBJECTS: dict[str, Any] = {
    "/apis/apps/v1/namespaces/default/deployments": SPEC,
    "/apis/apps/v1/namespaces/default/replicasets": SPEC,
    "/apis/apps/v1/namespaces/default/statefulsets": {**SPEC, "serviceName": "x"},
    "/api/v1/namespaces/default/replicationcontrollers": {**SPEC, "selector": LABELS},
}


def test_scales_are_answered_as_recorded() -> None:
    recorded = [msgspec.json.decode(line) for line in ANSWERS.read_bytes().splitlines()]

    async def scenario(api: Api) -> list[str]:
        (await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", GEARS)).ok()
        for target, spec in OBJECTS.items():
            (await api.create(target, {"metadata": {"name": "x"}, "spec": spec})).ok()
        await asyncio.sleep(2)  # of the loop's time: until the definition is established
        gear = {"apiVersion": "gear.example.com/v1", "kind": "Gear", "metadata": {"name": "x"}, "spec": {"replicas": 1}}
        (await api.create("/apis/gear.example.com/v1/namespaces/default/gears", gear)).ok()
        return [told for row in recorded if (told := await differs(api, row))]

    assert not run(scenario)


async def differs(api: Api, row: dict[str, Any]) -> str:
    """What is answered otherwise; "" if nothing is."""
    body = msgspec.json.encode(row["body"]) if row["body"] is not None else b""
    answer = await api.request(row["method"], row["target"], body, {"content-type": row["media"]})
    found = answer.json
    if row["code"] < 300:
        same = answer.status == row["code"] and all(found.get(part) == row[part] for part in ("spec", "status"))
    else:
        causes = [[c.get("reason"), c.get("field")] for c in found.get("details", {}).get("causes", ())]
        same = (answer.status, found.get("reason"), causes) == (row["code"], row["reason"], row["causes"])
    return "" if same else f"{row} -> {answer.status} {answer.body[:300]!r}"
