"""Policies about custom resources, and policies whose parameters are custom resources."""

from __future__ import annotations

import asyncio
from typing import Any

from kybern.testing.api_server import Api, run
from kybern.testing.definitions import definition

GROUP = "/apis/admissionregistration.k8s.io/v1"
LIMITS = "/apis/example.com/v1/namespaces/default/limits"
MAPS = "/api/v1/namespaces/default/configmaps"
SPEC = {
    "most": {"type": "integer"},
    "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
}
SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": SPEC}}}
DEFINITION = definition("limits", "Limit", SCHEMA, group="example.com")
LIMIT = {"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "l"}, "spec": {"most": 2}}


def policy(kind: str, group: str, plural: str, **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [plural]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, **spec},
    }


def binding(kind: str, **spec: Any) -> dict[str, Any]:
    version = "admissionregistration.k8s.io/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "b"}, "spec": {"policyName": "p", **spec}}


async def define(api: Api) -> None:
    (await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)).ok()
    await asyncio.sleep(2)  # of the loop's time: until it is established


def test_parameters_may_be_custom_resources_and_are_current() -> None:
    async def scenario(api: Api) -> None:
        await define(api)
        made = policy(
            "ValidatingAdmissionPolicy",
            "",
            "configmaps",
            paramKind={"apiVersion": "example.com/v1", "kind": "Limit"},
            validations=[{"expression": "size(object.data) <= params.spec.most", "message": "too much"}],
        )
        reference = {"name": "l", "namespace": "default", "parameterNotFoundAction": "Deny"}
        bound = binding("ValidatingAdmissionPolicyBinding", paramRef=reference, validationActions=["Deny"])
        (await api.create(LIMITS, LIMIT)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicies", made)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", bound)).ok()
        three = {"metadata": {"name": "m"}, "data": {"a": "", "b": "", "c": ""}}
        assert "too much" in (await api.create(MAPS, three)).json["message"]
        (await api.patch(f"{LIMITS}/l", {"spec": {"most": 3}})).ok()
        (await api.create(MAPS, three)).ok()

    run(scenario)


def test_custom_resources_are_judged_and_changed_by_policies() -> None:
    async def scenario(api: Api) -> None:
        await define(api)
        text = "Object{spec: Object.spec{most: object.spec.most * 10, names: ['b']}}"
        mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}
        made = policy(
            "MutatingAdmissionPolicy", "example.com", "limits", mutations=[mutation], reinvocationPolicy="Never"
        )
        (await api.create(f"{GROUP}/mutatingadmissionpolicies", made)).ok()
        (await api.create(f"{GROUP}/mutatingadmissionpolicybindings", binding("MutatingAdmissionPolicyBinding"))).ok()
        judge = policy(
            "ValidatingAdmissionPolicy",
            "example.com",
            "limits",
            validations=[{"expression": "object.spec.most < 100", "messageExpression": "string(object.spec.most)"}],
        )
        bound = binding("ValidatingAdmissionPolicyBinding", validationActions=["Deny"])
        (await api.create(f"{GROUP}/validatingadmissionpolicies", judge)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", bound)).ok()
        spec = {"most": 2, "names": ["a"]}
        assert (await api.create(LIMITS, {**LIMIT, "spec": spec})).ok()["spec"] == {"most": 20, "names": ["a", "b"]}
        refused = await api.create(LIMITS, {**LIMIT, "metadata": {"name": "k"}, "spec": {"most": 50}})
        assert refused.json["message"].endswith("denied request: 500")

    run(scenario)
