"""Scale, binding and eviction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kybern.testing import api_server
from kybern.testing.api_server import Api

DEFAULT = "/api/v1/namespaces/default"
PODS = f"{DEFAULT}/pods"
APPS = "/apis/apps/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


async def make_deployment(api: Api) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    made: dict[str, Any] = (await api.create(f"{APPS}/deployments", {"metadata": {"name": "d"}, "spec": spec})).ok()
    return made


async def make_pods(api: Api, *names: str) -> None:
    (await api.create(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})).ok()
    for name in names:
        meta = {"name": name, "labels": {"app": "web"}}
        (await api.create(PODS, {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}})).ok()


def binding(name: str, node: str = "n1", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "target": {"kind": "Node", "name": node}}


async def run_pod(api: Api, name: str) -> None:
    (await api.create(f"{PODS}/{name}/binding", binding(name))).ok()
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    (await api.patch(f"{PODS}/{name}/status", {"status": ready})).ok()


async def make_budget(api: Api, allowed: int, name: str = "b") -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    made = (await api.create(BUDGETS, {"metadata": {"name": name}, "spec": spec})).ok()
    status = {"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
              "observedGeneration": made["metadata"]["generation"]}  # fmt: skip
    (await api.patch(f"{BUDGETS}/{name}/status", {"status": status})).ok()


def test_a_scale_is_another_face_of_the_object() -> None:
    async def scenario(api: Api) -> None:
        made = await make_deployment(api)
        scale = (await api.get(f"{APPS}/deployments/d/scale")).ok()
        assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert scale["spec"] == {"replicas": 2}
        assert scale["status"] == {"replicas": 0, "selector": "app=d"}
        assert scale["metadata"]["uid"] == made["metadata"]["uid"]
        after = (await api.update(f"{APPS}/deployments/d/scale", {**scale, "spec": {"replicas": 5}})).ok()
        assert after["spec"] == {"replicas": 5}
        stored = (await api.get(f"{APPS}/deployments/d")).ok()
        assert (stored["spec"]["replicas"], stored["metadata"]["generation"]) == (5, 2)
        stale = await api.update(f"{APPS}/deployments/d/scale", {**scale, "spec": {"replicas": 6}})
        assert stale.status == 409
        patched = (await api.patch(f"{APPS}/deployments/d/scale", {"spec": {"replicas": 0}})).ok()
        assert patched["spec"].get("replicas", 0) == 0
        assert (await api.patch(f"{APPS}/deployments/d/scale", {"spec": {"replicas": -1}})).status == 422
        assert (await api.get(f"{APPS}/deployments/none/scale")).status == 404

    api_server.run(scenario)


@pytest.mark.parametrize("target", [f"{PODS}/p/binding", f"{DEFAULT}/bindings"])
def test_a_pod_is_bound_once(target: str) -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "p")
        answer = await api.create(target, binding("p"))
        assert (answer.status, answer.json["status"]) == (201, "Success")
        pod = (await api.get(f"{PODS}/p")).ok()
        assert pod["spec"]["nodeName"] == "n1"
        assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [("PodScheduled", "True")]
        again = await api.create(target, binding("p", "n2"))
        assert (again.status, again.json["reason"]) == (409, "Conflict")
        assert (await api.get(f"{PODS}/p")).ok()["spec"]["nodeName"] == "n1"

    api_server.run(scenario)


def test_one_of_two_schedulers_wins_a_pod() -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "p")
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(api.create(f"{PODS}/p/binding", binding("p", f"n{n}"))) for n in range(8)]
        assert sorted(a.result().status for a in answers) == [201] + [409] * 7

    api_server.run(scenario)


def test_a_binding_that_names_nothing_or_another_is_refused() -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "p")
        assert (await api.create(f"{PODS}/p/binding", {"metadata": {"name": "p"}, "target": {}})).status == 422
        assert (await api.create(f"{PODS}/p/binding", binding("q"))).status == 400
        assert (await api.create(f"{PODS}/q/binding", binding("q"))).status == 404
        assert (await api.create(f"{PODS}/p/binding", binding("p", uid="other"))).status == 409
        assert "nodeName" not in (await api.get(f"{PODS}/p")).ok()["spec"]

    api_server.run(scenario)


def test_an_eviction_takes_from_the_budget_until_it_is_used_up() -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "a", "b")
        await run_pod(api, "a")
        await run_pod(api, "b")
        await make_budget(api, 1)
        dry = await api.create(f"{PODS}/a/eviction?dryRun=All", {"metadata": {"name": "a"}})
        assert dry.status == 201
        assert (await api.get(f"{BUDGETS}/b")).ok()["status"]["disruptionsAllowed"] == 1
        async with asyncio.TaskGroup() as tasks:
            answers = [
                tasks.create_task(api.create(f"{PODS}/{name}/eviction", {"metadata": {"name": name}})) for name in "ab"
            ]
        first, second = (a.result() for a in answers)
        assert (first.status, second.status) == (201, 429)
        assert second.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
        budget = (await api.get(f"{BUDGETS}/b")).ok()
        assert budget["status"]["disruptionsAllowed"] == 0
        assert list(budget["status"]["disruptedPods"]) == ["a"]
        evicted = (await api.get(f"{PODS}/a")).ok()
        assert evicted["metadata"]["deletionTimestamp"]
        condition = evicted["status"]["conditions"][-1]
        assert (condition["type"], condition["reason"]) == ("DisruptionTarget", "EvictionByEvictionAPI")
        assert "deletionTimestamp" not in (await api.get(f"{PODS}/b")).ok()["metadata"]

    api_server.run(scenario)


def test_what_does_not_run_yet_needs_no_budget_and_two_budgets_are_too_many() -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "a", "b")
        await make_budget(api, 0)
        assert (await api.create(f"{PODS}/a/eviction", {"metadata": {"name": "a"}})).status == 201
        assert (await api.get(f"{PODS}/a")).status == 404
        await run_pod(api, "b")
        await make_budget(api, 5, "second")
        assert (await api.create(f"{PODS}/b/eviction", {"metadata": {"name": "b"}})).status == 500
        assert (await api.create(f"{PODS}/none/eviction", {"metadata": {"name": "none"}})).status == 404

    api_server.run(scenario)


def test_a_budget_not_yet_counted_allows_nothing() -> None:
    async def scenario(api: Api) -> None:
        await make_pods(api, "a")
        await run_pod(api, "a")
        await make_budget(api, 1)
        (await api.patch(f"{BUDGETS}/b", {"spec": {"minAvailable": 2}})).ok()
        answer = await api.create(f"{PODS}/a/eviction", {"metadata": {"name": "a"}})
        assert answer.status == 429
        assert "still being processed" in answer.json["details"]["causes"][0]["message"]

    api_server.run(scenario)
