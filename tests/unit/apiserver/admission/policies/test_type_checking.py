"""The status of a policy: what its expressions would say of the kinds it names, as a kube-apiserver v1.36 words it."""

from __future__ import annotations

import asyncio
from typing import Any

from kybern.testing.api_server import Api, run
from kybern.testing.definitions import definition

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


def policy(*validations: dict[str, Any], resources: tuple[str, ...] = ("deployments",), **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": list(resources)}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec},
    }


def status_of(policy_: dict[str, Any]) -> dict[str, Any]:
    async def scenario(api: Api) -> dict[str, Any]:
        (await api.create(POLICIES, policy_)).ok()
        async with asyncio.timeout(60):
            while True:
                found: dict[str, Any] = (await api.get(f"{POLICIES}/p")).ok().get("status", {})
                if "observedGeneration" in found:
                    return found
                await asyncio.sleep(0.1)

    return run(scenario)


def test_a_policy_that_fits_has_no_warnings() -> None:
    status = status_of(policy({"expression": "object.spec.replicas > 1 && object.metadata.labels.foo == 'a'"}))
    assert status == {"observedGeneration": 1, "typeChecking": {}}


def test_what_does_not_fit_is_told_for_each_kind() -> None:
    status = status_of(
        policy(
            {"expression": "object.spec.replicas > '1'", "messageExpression": "'wants ' + object.spec.replicas"},
            {"expression": "object.spec.strategy.rollingUpdate.maxSurge == 1 && object.spec.zz == 2"},
            {"expression": "variables.x == 'a'"},
            {"expression": "params.data.x == 1"},
            {"expression": "object.spec.template.spec.containers.all(c, c.resources.limits.cpu == 1)"},
            resources=("deployments", "replicasets"),
            variables=[{"name": "x", "expression": "object.spec.replicas"}],
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        )
    )
    warnings = {w["fieldRef"]: w["warning"] for w in status["typeChecking"]["expressionWarnings"]}
    assert warnings["spec.validations[0].expression"] == "\n".join(
        f"apps/v1, Kind={kind}: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n"
        " | object.spec.replicas > '1'\n | .....................^\n"
        for kind in ("Deployment", "ReplicaSet")
    )
    assert "applied to '(string, int)'" in warnings["spec.validations[0].messageExpression"]
    of_deployment, of_set = warnings["spec.validations[1].expression"].split("\n\n")
    assert "undefined field 'zz'" in of_deployment
    assert "strategy" not in of_deployment.split("\n")[0]
    assert "undefined field 'strategy'" in of_set
    assert "applied to '(int, string)'" in warnings["spec.validations[2].expression"]
    assert "applied to '(string, int)'" in warnings["spec.validations[3].expression"]
    assert "undefined field 'limits'" in warnings["spec.validations[4].expression"]


def test_wildcards_and_subresources_are_not_checked() -> None:
    status = status_of(policy({"expression": "object.zz == 1"}, resources=("*", "deployments/scale")))
    assert status == {"observedGeneration": 1, "typeChecking": {}}


REPLICAS = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
DEFINITION = definition(schema={"type": "object", "properties": {"spec": REPLICAS}})


def test_custom_resources_are_checked_by_their_schema() -> None:
    made = policy(
        {"expression": "object.spec.replicas > '1'"},
        {"expression": "object.spec.maxRetries < 10"},
        {"expression": "object.metadata.labels.a == 'b'"},
        resources=("crontabs",),
    )
    made["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = ["stable.example.com"]

    async def scenario(api: Api) -> list[str]:
        (await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)).ok()
        await asyncio.sleep(2)  # of the loop's time: until it is established
        (await api.create(POLICIES, made)).ok()
        await asyncio.sleep(2)
        status = (await api.get(f"{POLICIES}/p")).ok()["status"]
        return [w["warning"].split("\n")[0] for w in status["typeChecking"]["expressionWarnings"]]

    assert run(scenario) == [
        (
            "stable.example.com/v1, Kind=CronTab: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
            "'(int, string)'"
        ),
        "stable.example.com/v1, Kind=CronTab: ERROR: <input>:1:12: undefined field 'maxRetries'",
    ]
