"""managedFields of every write, beside what a v1.36 API server made of the same requests (managed_fields.json).

Each line of the file is one kind: its path, content and status, and the answers to the steps below, in order: status
code and managers (name, operation, apiVersion, subresource, whether it has a time, fields), or the message of a
conflict. A number stands for the manager at that place in the answer before.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kybern.apiserver.handlers import manager
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

CASES = msgspec.json.decode((pathlib.Path(__file__).parent / "managed_fields.json").read_bytes())
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
NAMESPACE = "rec"
CONFIGS = "/api/v1/namespaces/default/configmaps"


def steps_of(case: dict[str, Any]) -> Iterator[tuple[str, str, Any, str]]:
    """(method, target, body, content type) of each step."""
    base = f"{case['path']}/namespaces/{NAMESPACE}" if case["namespaced"] else case["path"]
    base += f"/{case['plural']}"
    one = f"{base}/o"
    kind = {"apiVersion": case["path"].removeprefix("/apis/").removeprefix("/api/"), "kind": case["kind"]}
    whole = {**kind, "metadata": {"name": "o", "labels": {"l": "1", "m": "2"}, "annotations": {"n": "3"}}}
    whole |= case["content"]
    little = {**kind, "metadata": {"name": "o", "labels": {"l": "9", "o": "4"}, "finalizers": ["x.y/z"]}}
    labels = {"metadata": {"labels": {"m": None, "p": "5"}, "annotations": {"n": "6"}}}
    yield "POST", f"{base}?fieldManager=creator", whole, JSON
    yield "PATCH", f"{one}?fieldManager=applier", little, APPLY
    yield "PATCH", f"{one}?fieldManager=applier&force=true", little, APPLY
    yield "PATCH", f"{one}?fieldManager=patcher", labels, MERGE
    if case["status"]:
        yield "PATCH", f"{one}/status?fieldManager=statuser", case["status"], MERGE
    all_of_it = {**whole, "metadata": {"name": "o", "labels": {"l": "7", "m": "2"}}}
    yield "PATCH", f"{one}?fieldManager=applier&force=true", all_of_it, APPLY
    yield "PATCH", f"{one}?fieldManager=applier&force=true", little, APPLY


def managers_of(obj: Any) -> list[list[Any]]:
    return [
        [e["manager"], e["operation"], e["apiVersion"], e.get("subresource", ""), "time" in e, e["fieldsV1"]]
        for e in obj["metadata"].get("managedFields", [])
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{case['path'].rsplit('/', 1)[1]}")
def test_owners_are_those_of_upstream(case: dict[str, Any]) -> None:
    async def scenario(api: Api) -> None:
        (await api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})).ok()
        before: list[Any] = []
        for (method, target, body, kind), (status, said) in zip(steps_of(case), case["answers"], strict=True):
            answer = await api.request(method, target, body, {"content-type": kind})
            assert answer.status == status, (target, answer.body[:500])
            if status == 409:
                assert answer.json["message"] == said
            if status >= 300:
                continue
            expected = [before[row] if isinstance(row, int) else row for row in said]
            found = managers_of(answer.json)
            # As text: the order of fields counts.
            assert msgspec.json.encode(found) == msgspec.json.encode(expected), (target, found)
            before = expected

    api_server.run(scenario)


# -- what clients say of managers


async def applied(api: Api, data: dict[str, Any], name: str = "applier", query: str = "", **meta: Any) -> Answer:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **meta}, "data": data}
    target = f"{CONFIGS}/a?fieldManager={name}{query}"
    return await api.request("PATCH", target, config, {"content-type": APPLY})


def names(answer: Answer) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in managers_of(answer.ok())]


@pytest.mark.parametrize("forget", [[{}], []])
def test_a_client_may_have_managers_forgotten(forget: list[Any]) -> None:
    async def scenario(api: Api) -> None:
        (await applied(api, {"k": "v"})).ok()
        patched = await api.patch(f"{CONFIGS}/a", {"metadata": {"managedFields": forget}})
        assert names(patched) == []
        # Whoever writes is not tracked until somebody applies.
        assert names(await api.patch(f"{CONFIGS}/a", {"data": {"l": "w"}})) == []
        again = await applied(api, {"m": "x"})
        assert names(again) == [("applier", "Apply"), ("before-first-apply", "Update")]
        assert managers_of(again.json)[1][5] == {"f:data": {".": {}, "f:k": {}, "f:l": {}}}

    api_server.run(scenario)


def test_a_put_that_does_not_speak_of_managers_keeps_them() -> None:
    async def scenario(api: Api) -> None:
        (await applied(api, {"k": "v"})).ok()
        body = {"metadata": {"name": "a"}, "data": {"k": "v"}}
        assert names(await api.update(f"{CONFIGS}/a", body)) == [("applier", "Apply")]
        body["metadata"]["managedFields"] = []
        assert names(await api.update(f"{CONFIGS}/a", body)) == []

    api_server.run(scenario)


def test_managers_that_make_no_sense_are_overlooked() -> None:
    async def scenario(api: Api) -> None:
        (await applied(api, {"k": "v"})).ok()
        entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
        for wrong in (
            {"operation": "Steal"},
            {"fieldsType": "FieldsV2"},
            {"fieldsV1": {"nonsense": {}}},
            {"fieldsV1": {"k:{": {}}},
            {"fieldsV1": {"f:x": 1}},
            {"fieldsV1": []},
            {"apiVersion": ""},
        ):
            given = {"fieldsV1": {"f:x": {}}, **entry, **wrong}
            patched = await api.patch(f"{CONFIGS}/a", {"metadata": {"managedFields": [given]}})
            assert names(patched) == [("applier", "Apply")], wrong

    api_server.run(scenario)


def test_managers_with_names_that_are_too_long_are_refused() -> None:
    async def scenario(api: Api) -> None:
        (await applied(api, {"k": "v"})).ok()
        entry = {"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:x": {}}}
        answer = await api.patch(f"{CONFIGS}/a", {"metadata": {"managedFields": [{**entry, "manager": "m" * 129}]}})
        assert answer.status == 422
        assert "metadata.managedFields[0].manager: Too long: may not be more than 128 bytes" in answer.json["message"]

    api_server.run(scenario)


def test_old_updaters_are_folded_into_one() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(CONFIGS, {"metadata": {"name": "a", "labels": {"l": "1"}}})).ok()
        for number in range(14):
            target = f"{CONFIGS}/a?fieldManager=m{number:02}"
            answer = await api.patch(target, {"data": {f"k{number}": "v"}})
        found = [name for name, _ in names(answer)]
        assert len(found) == 10
        assert "ancient-changes" in found
        assert "m13" in found

    api_server.run(scenario)


def test_a_write_that_changes_nothing_is_not_written() -> None:
    async def scenario(api: Api) -> None:
        first = (await applied(api, {"k": "v"})).ok()
        again = (await applied(api, {"k": "v"})).ok()
        assert again == first
        patched = (await api.patch(f"{CONFIGS}/a?fieldManager=other", {"data": {"k": "v"}})).ok()
        assert patched == first

    api_server.run(scenario)


def test_the_servers_own_objects_are_its_own() -> None:
    async def scenario(api: Api) -> None:
        answer = await api.get("/api/v1/namespaces/default")
        assert names(answer) == [("kube-apiserver", "Update")]

    api_server.run(scenario)


def test_a_manager_is_named_by_its_program() -> None:
    assert manager.name_of_agent("kubectl/v1.36.0 (linux/amd64) kubernetes/abc") == "kubectl"
    assert manager.name_of_agent("Mozilla\x7f\n 5.0") == "Mozilla 5.0"
    assert manager.name_of_agent("x" * 200 + "/1") == "x" * 128
    assert manager.name_of_agent("") == "unknown"


def test_managers_of_two_versions_share_an_object() -> None:
    async def scenario(api: Api) -> None:
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]
        metrics[0]["resource"]["target"]["averageUtilization"] = 50  # type: ignore[index]
        config: dict[str, Any] = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        config |= {"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": metrics}}
        kind = {"content-type": APPLY}
        (await api.request("PATCH", f"{path}/a?fieldManager=two", config, kind)).ok()
        spec = {"targetCPUUtilizationPercentage": 60, "maxReplicas": 4}
        older = {**config, "apiVersion": "autoscaling/v1", "spec": spec}
        conflict = await api.request("PATCH", f"{path.replace('v2', 'v1')}/a?fieldManager=one", older, kind)
        assert conflict.status == 409
        assert [c["field"] for c in conflict.json["details"]["causes"]] == [".spec.maxReplicas", ".spec.metrics"]
        forced = await api.request("PATCH", f"{path.replace('v2', 'v1')}/a?fieldManager=one&force=1", older, kind)
        rows = {row[0]: (row[2], row[5]["f:spec"]) for row in managers_of(forced.ok())}
        assert rows == {
            "one": ("autoscaling/v1", {"f:maxReplicas": {}, "f:targetCPUUtilizationPercentage": {}}),
            "two": ("autoscaling/v2", {"f:scaleTargetRef": {"f:apiVersion": {}, "f:kind": {}, "f:name": {}}}),
        }

    api_server.run(scenario)
