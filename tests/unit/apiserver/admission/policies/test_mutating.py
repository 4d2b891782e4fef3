"""Mutating policies over a real API server; the answers are those of a kube-apiserver v1.36."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.testing.api_server import Answer, Api, run

GROUP = "/apis/admissionregistration.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "command": ["x"]}]},
        },
    },
}
CONTAINERS = "Object.spec.template.spec.containers"


def apply(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def pod_spec(inner: str) -> dict[str, Any]:
    return apply(
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{" + inner + "}}}}"
    )


def policy(*mutations: dict[str, Any], name: str = "m", **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    rule["operations"] = ["CREATE", "UPDATE"]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "reinvocationPolicy": "Never",
            "mutations": list(mutations),
            **spec,
        },
    }


async def put(api: Api, *policies: dict[str, Any]) -> None:
    for one in policies:
        name = one["metadata"]["name"]
        bound = {"metadata": {"name": name}, "spec": {"policyName": name}}
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding"}
        (await api.create(f"{GROUP}/mutatingadmissionpolicies", one)).ok()
        (await api.create(f"{GROUP}/mutatingadmissionpolicybindings", {**kind, **bound})).ok()


def answer(*policies: dict[str, Any]) -> Answer:
    async def scenario(api: Api) -> Answer:
        await put(api, *policies)
        return await api.create(DEPLOYMENTS, DEPLOYMENT)

    return run(scenario)


def replicas(made: dict[str, Any]) -> Any:
    return made["spec"]["replicas"]


def annotations(made: dict[str, Any]) -> Any:
    return made["metadata"].get("annotations")


def containers(made: dict[str, Any]) -> Any:
    return [(c["name"], c["image"]) for c in made["spec"]["template"]["spec"]["containers"]]


@pytest.mark.parametrize(
    ("mutations", "spec", "show", "wanted"),
    [
        ([apply("Object{spec: Object.spec{replicas: 5}}")], {}, replicas, 5),
        ([apply('Object{spec: {"replicas": 6}}')], {}, replicas, 6),
        ([apply('Object{kind: "Foo"}')], {}, replicas, 1),
        ([apply('Object{metadata: Object.metadata{annotations: {"a": "b"}}}')], {}, annotations, {"a": "b"}),
        (
            [apply('Object{metadata: Object.metadata{annotations: Object.metadata.annotations{a: "b"}}}')],
            {},
            annotations,
            {"a": "b"},
        ),
        (
            [pod_spec("containers: [" + CONTAINERS + '{name: "n", image: "j"}]')],
            {},
            containers,
            [("c", "i"), ("n", "j")],
        ),
        ([pod_spec("containers: [" + CONTAINERS + '{name: "c", image: "j"}]')], {}, containers, [("c", "j")]),
        (
            [apply("Object{spec: Object.spec{?replicas: optional.none(), ?paused: optional.of(true)}}")],
            {},
            lambda made: (replicas(made), made["spec"]["paused"]),
            (1, True),
        ),
        ([apply("Object{spec: Object.spec{replicas: object.spec.zz}}")], {"failurePolicy": "Ignore"}, replicas, 1),
        ([patch('[JSONPatch{op: "add", path: "/spec/replicas", value: 7}]')], {}, replicas, 7),
        (
            [
                patch(
                    '[JSONPatch{op: "test", path: "/spec/replicas", value: 9}, '
                    'JSONPatch{op: "add", path: "/spec/replicas", value: 7}]'
                )
            ],
            {},
            replicas,
            1,
        ),
        (
            [patch('[JSONPatch{op: "add", path: "/metadata/annotations", value: {"x": "y"}}]')],
            {},
            annotations,
            {"x": "y"},
        ),
        (
            [
                patch('[JSONPatch{op: "add", path: "/metadata/annotations", value: {"x": "y"}}]'),
                patch(
                    '[JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("a/b"), value: "c"}]'
                ),
            ],
            {},
            annotations,
            {"a/b": "c", "x": "y"},
        ),
        (
            [
                apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}"),
                apply("Object{spec: Object.spec{replicas: object.spec.replicas * 10}}"),
            ],
            {},
            replicas,
            20,
        ),
        (
            [apply("Object{spec: Object.spec{replicas: variables.x}}")],
            {"variables": [{"name": "x", "expression": "object.spec.replicas + 41"}]},
            replicas,
            42,
        ),
        (
            [apply("Object{spec: Object.spec{replicas: 3}}")],
            {"matchConditions": [{"name": "a", "expression": "object.spec.replicas > 5"}]},
            replicas,
            1,
        ),
    ],
)
def test_a_policy_changes_the_object(mutations: Any, spec: Any, show: Any, wanted: Any) -> None:
    assert show(answer(policy(*mutations, **spec)).ok()) == wanted


FAILED = "error applying patch: "


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (
            apply("Object{spec: Object.foo{replicas: 5}}"),
            (
                'type mismatch: unexpected type name "Object.foo", expected "Object.spec", '
                "which matches field name path from root Object type"
            ),
        ),
        (
            apply('Object{spec: Object.spec{replicas: "x"}}'),
            (
                f"{FAILED}failed to convert patch object to typed object: "
                ".spec.replicas: expected numeric (int or float), got string"
            ),
        ),
        (
            apply("Object{spec: Object.spec{replicas: null}}"),
            (
                f"{FAILED}failed to convert patch object to typed object: "
                ".spec.replicas: expected numeric (int or float), got structpb.NullValue"
            ),
        ),
        (
            apply('Object{spec: Object.spec{zz: "x"}}'),
            f"{FAILED}failed to convert patch object to typed object: .spec.zz: field not declared in schema",
        ),
        (
            pod_spec("containers: [" + CONTAINERS + '{name: "c", command: ["y"]}]'),
            (
                f"{FAILED}invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
                ".spec.template.spec.containers[0].command"
            ),
        ),
        (
            apply('Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {"c": "d"}}}}'),
            f"{FAILED}invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            apply("Object{spec: Object.spec{replicas: object.spec.zz}}"),
            "expression 'Object{spec: Object.spec{replicas: object.spec.zz}}' resulted in error: no such key: zz",
        ),
        (
            patch('[JSONPatch{op: "remove", path: "/spec/zz"}]'),
            "JSON Patch: error in remove for path: '/spec/zz': Unable to remove nonexistent key: zz: missing value",
        ),
        (patch('[JSONPatch{op: "zz", path: "/spec/zz"}]'), "JSON Patch: Unexpected kind: zz"),
    ],
)
def test_a_mutation_that_cannot_be_made_refuses_the_write(mutation: dict[str, Any], why: str) -> None:
    refused = answer(policy(mutation))
    assert (refused.status, refused.json["reason"]) == (403, "Invalid")
    assert refused.json["message"] == f"policy 'm' with binding 'm' denied request: {why}"


def test_what_a_policy_makes_is_validated() -> None:
    refused = answer(policy(apply("Object{spec: Object.spec{replicas: -3}}")))
    assert refused.status == 422
    assert refused.json["details"]["causes"][0]["field"] == "spec.replicas"


def test_a_policy_that_wants_to_is_asked_again_when_a_later_one_changed_the_object() -> None:
    first = policy(
        apply("Object{metadata: Object.metadata{annotations: {'seen': string(object.spec.replicas)}}}"),
        name="a",
        reinvocationPolicy="IfNeeded",
    )
    second = policy(apply("Object{spec: Object.spec{replicas: 9}}"), name="b")
    assert annotations(answer(first, second).ok()) == {"seen": "9"}
    first["spec"]["reinvocationPolicy"] = "Never"
    assert annotations(answer(first, second).ok()) == {"seen": "1"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mutations": [apply("1")]}, 'Invalid value: "1": must evaluate to Object but got int'),
        ({"mutations": [apply("Object.spec{}")]}, "must evaluate to Object but got Object.spec"),
        ({"mutations": [patch("[]")]}, 'Invalid value: "[]": must evaluate to list(JSONPatch) but got list(dyn)'),
        ({"mutations": [patch("JSONPatch{}")]}, "must evaluate to list(JSONPatch) but got JSONPatch"),
        ({"mutations": [patch('[JSONPatch{foo: "a"}]')]}, "undefined field 'foo'"),
        (
            {"mutations": [patch("[JSONPatch{op: 1}]")]},
            "expected type of field 'op' is 'string' but provided type is 'int'",
        ),
    ],
)
def test_a_policy_whose_expressions_are_none_is_refused(spec: dict[str, Any], message: str) -> None:
    async def scenario(api: Api) -> Answer:
        made = policy()
        made["spec"] |= spec
        return await api.create(f"{GROUP}/mutatingadmissionpolicies", made)

    refused = run(scenario)
    assert refused.status == 422
    assert message in refused.json["message"]
