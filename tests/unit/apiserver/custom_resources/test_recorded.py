"""What a v1.36 API server answered, asked of ours: definitions broken in one place, objects, validation rules.

The files say what was sent and which faults were named; the corpus they were taken from is told in the decision record.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.apiserver.custom_resources import definition as definitions
from kybern.apiserver.custom_resources.definition import shape
from kybern.machinery import defaults
from kybern.testing.api_server import Api, run
from kybern.testing.definitions import definition as make
from kybern.testing.definitions import establish, version

HERE = pathlib.Path(__file__).parent


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (HERE / name).read_text().splitlines()
    return [msgspec.json.decode(line) for line in lines]


def cases() -> Iterator[Any]:
    for case in recorded("definitions.jsonl"):
        yield pytest.param(case, id=case["what"].replace(" ", "-"))


@pytest.mark.parametrize("case", list(cases()))
def test_a_definition_is_judged_as_upstream_judges_it(case: dict[str, Any]) -> None:
    document = {"metadata": {"name": case.get("name", "foos.t.example.com")}, "spec": case["spec"]}
    definition, _ = codec.from_json(CustomResourceDefinition, document)
    defaults.apply(definition)
    shape.settle(definition)
    definition.status.storedVersions = [v.name for v in definition.spec.versions if v.storage][:1]
    errors = definitions.check_create(definition)
    assert sorted([e.reason, e.field] for e in errors) == case["faults"], [str(e) for e in errors]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["what"].replace(" ", "-")) for c in recorded("places.jsonl")])
def test_a_rule_costs_as_much_as_upstream_says_wherever_it_stands(case: dict[str, Any]) -> None:
    rule = " && ".join(["1 == 1"] * 150)
    schema = msgspec.json.decode(msgspec.json.encode(case["schema"]).decode().replace("$RULE", rule))
    document = make(versions=[version("v1", {"type": "object", "properties": {"x": schema}})])
    definition, _ = codec.from_json(CustomResourceDefinition, document)
    defaults.apply(definition)
    shape.settle(definition)
    definition.status.storedVersions = ["v1"]
    errors = definitions.check_create(definition)
    assert sorted([e.field, e.message] for e in errors) == case["faults"]


def faults_of(body: dict[str, Any]) -> list[list[str]]:
    causes = body.get("details", {}).get("causes") or []
    return sorted([c["reason"], c.get("field", ""), c["message"]] for c in causes)


def test_objects_are_pruned_defaulted_and_judged_as_upstream_does_it() -> None:
    head, *found = recorded("objects.jsonl")

    async def scenario(api: Api) -> None:
        document = make("foos", "Foo", group="t.example.com", versions=[version("v1", head["schema"])])
        where = await establish(api, document)
        for case in found:
            spec = case["spec"]
            sent = {
                "apiVersion": "t.example.com/v1",
                "kind": "Foo",
                "metadata": {"name": case.get("name", "x")},
                "spec": {"must": "x", **spec} if isinstance(spec, dict) else spec,
                **case.get("more", {}),
            }
            answer = await api.create(f"{where}?dryRun=All", sent)
            if "stored" in case:
                assert answer.ok()["spec"] == case["stored"], spec
                continue
            assert answer.status == case["code"], (spec, answer.json)
            assert faults_of(answer.json) == sorted(case["causes"]), spec
            if "message" in case:
                assert answer.json["message"] == case["message"]

    run(scenario)


def test_rules_say_what_they_say_upstream() -> None:
    head, *found = recorded("rules.jsonl")

    async def scenario(api: Api) -> None:
        document = make("foos", "Foo", group="c.example.com", versions=[version("v1", head["schema"])])
        where = await establish(api, document)
        for case in found:
            name = case["name"]
            sent = {"apiVersion": "c.example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": case["spec"]}
            if "old" in case:
                await api.delete(f"{where}/{name}")
                (await api.create(where, {**sent, "spec": case["old"]})).ok()
                answer = await api.patch(f"{where}/{name}?dryRun=All", {"spec": case["spec"]})
            else:
                answer = await api.create(f"{where}?dryRun=All", sent)
            assert faults_of(answer.json) == sorted(case["causes"]), case

    run(scenario)
