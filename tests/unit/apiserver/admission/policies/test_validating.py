"""Validating policies over a real API server; the answers are those of a kube-apiserver v1.36."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kybern.apiserver import audit
from kybern.testing.api_server import Answer, Api, run

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "v"}}
CONFIG_MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}
DENIED = "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "


def policy(*validations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec},
    }


def binding(actions: tuple[str, ...] = ("Deny",), **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": list(actions), **spec},
    }


def says(expression: str, **more: str) -> dict[str, Any]:
    return {"expression": expression, **more}


def answer(
    policy_: dict[str, Any],
    binding_: dict[str, Any] | None = None,
    obj: dict[str, Any] | None = None,
    *before: dict[str, Any],
) -> Answer:
    """Of a create under one policy."""

    async def scenario(api: Api) -> Answer:
        for one in before:
            (await api.create(MAPS, one)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicies", policy_)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", binding_ or binding())).ok()
        return await api.create(MAPS, obj or OBJECT)

    return run(scenario)


@pytest.mark.parametrize(
    ("validations", "spec", "message"),
    [
        ([says('object.data.k == "w"')], {}, 'failed expression: object.data.k == "w"'),
        ([says("false", message="m")], {}, "m"),
        ([says("true"), says("false", message="second")], {}, "second"),
        ([says("false", messageExpression='"got " + object.data.k')], {}, "got v"),
        ([says("false", messageExpression="object.data.zz + ''", message="fallback")], {}, "fallback"),
        ([says("false", messageExpression="''", message="fallback")], {}, "fallback"),
        ([says("false", messageExpression=r"'a\nb'", message="fallback")], {}, "fallback"),
        ([says("1 == 2", messageExpression="object.data.zz + ''")], {}, "failed expression: 1 == 2"),
        (
            [says('object.data.zz == "a"')],
            {},
            "expression 'object.data.zz == \"a\"' resulted in error: no such key: zz",
        ),
        (
            [says('variables.x == "w"')],
            {"variables": [{"name": "x", "expression": "object.data.k"}]},
            'failed expression: variables.x == "w"',
        ),
        (
            [says('variables.x == "w"')],
            {"variables": [{"name": "x", "expression": "object.data.zz"}]},
            (
                "expression 'variables.x == \"w\"' resulted in error: "
                'composited variable "x" fails to evaluate: no such key: zz'
            ),
        ),
        (
            [says("variables.y > 3")],
            {"variables": [{"name": "x", "expression": "1 + 1"}, {"name": "y", "expression": "variables.x + 1"}]},
            "failed expression: variables.y > 3",
        ),
        (
            [says("false")],
            {"matchConditions": [{"name": "c", "expression": "object.data.zz == 'a'"}]},
            "expression 'object.data.zz == 'a'' resulted in error: no such key: zz",
        ),
        (
            [says('params.data.k == "a"')],
            {"paramKind": CONFIG_MAPS},
            "expression 'params.data.k == \"a\"' resulted in error: no such key: data",
        ),
        ([says("false", messageExpression='"u=" + request.userInfo.username')], {}, "u=admin"),
        (
            [says("false", messageExpression='"ns=" + namespaceObject.metadata.name + namespaceObject.status.phase')],
            {},
            "ns=defaultActive",
        ),
        (
            [says('object.metadata.namespace == "x"')],
            {},
            'failed expression: object.metadata.namespace == "x"',
        ),
        (
            [says("authorizer.requestResource.check('get').allowed()"), says("oldObject != null", message="new")],
            {},
            "new",
        ),
    ],
)
def test_a_policy_refuses_in_upstreams_words(
    validations: list[dict[str, Any]], spec: dict[str, Any], message: str
) -> None:
    refused = answer(policy(*validations, **spec))
    assert refused.status == 422
    status = refused.json
    assert status["message"] == DENIED + message
    assert status["reason"] == "Invalid"
    assert status["details"]["causes"] == [{"message": status["message"].partition("forbidden: ")[2]}]


@pytest.mark.parametrize(("reason", "code"), [("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)])
def test_a_validation_chooses_its_reason(reason: str, code: int) -> None:
    refused = answer(policy(says("false", message="m", reason=reason)))
    assert (refused.status, refused.json["reason"]) == (code, reason)


def test_the_first_refusal_is_told() -> None:
    refused = answer(policy(says("false", message="m1", reason="Forbidden"), says("false", message="m2")))
    assert refused.json["message"] == DENIED + "m1"


@pytest.mark.parametrize(
    ("validation", "spec"),
    [
        (says("object.data.k == 'v'"), {}),
        (says("object.data.zz == 'v'"), {"failurePolicy": "Ignore"}),
        (says("false"), {"matchConditions": [{"name": "c", "expression": "false"}]}),
        (says("false"), {"matchConditions": [{"name": "c", "expression": "object.data.zz == 'v'"}],
                         "failurePolicy": "Ignore"}),
    ],
)  # fmt: skip
def test_a_policy_lets_pass(validation: dict[str, Any], spec: dict[str, Any]) -> None:
    answer(policy(validation, **spec)).ok()


def test_warnings_are_headers_and_audit_alone_is_silent() -> None:
    two = policy(says("false", message="m1"), says("false", message="m2"))
    warned = answer(two, binding(("Warn", "Audit")))
    assert warned.status == 201
    about = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': "
    assert warned.warnings == [f"{about}m1", f"{about}m2"]
    silent = answer(two, binding(("Audit",)))
    assert silent.status == 201
    assert not silent.warnings


MISSING = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"


@pytest.mark.parametrize(
    ("kind", "reference", "message"),
    [
        (CONFIG_MAPS, {"name": "zz", "parameterNotFoundAction": "Deny"}, MISSING),
        (CONFIG_MAPS, {"selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Deny"}, MISSING),
        (CONFIG_MAPS, {"name": "zz", "parameterNotFoundAction": "Allow"}, None),
        (CONFIG_MAPS, {"name": "limits", "parameterNotFoundAction": "Deny"}, "failed expression: params.data.k == 'a'"),
        (CONFIG_MAPS, {"selector": {"matchLabels": {"own": "params"}}, "parameterNotFoundAction": "Deny"},
         "failed expression: params.data.k == 'a'"),
        ({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"},
         {"name": "zz", "namespace": "default", "parameterNotFoundAction": "Deny"},
         "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
    ],
)  # fmt: skip
def test_parameters_come_from_the_binding(kind: Any, reference: Any, message: str | None) -> None:
    limits = {**OBJECT, "metadata": {"name": "limits", "labels": {"own": "params"}}, "data": {"k": "b"}}
    found = answer(policy(says("params.data.k == 'a'"), paramKind=kind), binding(paramRef=reference), None, limits)
    if message is None:
        found.ok()
    else:
        assert found.json["message"] == DENIED + message


def test_a_kind_of_parameters_that_is_not_served_is_the_policys_fault() -> None:
    kind = {"apiVersion": "zz.io/v1", "kind": "Foo"}
    reference = {"name": "zz", "parameterNotFoundAction": "Deny"}
    refused = answer(policy(says("params == null"), paramKind=kind), binding(paramRef=reference))
    assert refused.json["message"] == (
        "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: "
        "failed to find resource referenced by paramKind: 'zz.io/v1, Kind=Foo'"
    )


def test_a_cost_bomb_is_ended_and_refused() -> None:
    loops = 'object.data.l.split("")'
    text = f'{loops}.all(a, {loops}.all(b, {loops}.all(c, a != "z" && b != "z" && c != "z")))'
    refused = answer(policy(says(text)), None, {**OBJECT, "data": {"l": "a" * 200}})
    assert refused.json["message"].endswith("resulted in error: operation cancelled: actual cost limit exceeded")
    assert refused.seconds < 10


def test_a_policy_follows_rules_and_selectors_and_is_in_force_at_once() -> None:
    async def scenario(api: Api) -> None:
        selective = binding(matchResources={"objectSelector": {"matchLabels": {"a": "b"}}})
        (await api.create(f"{GROUP}/validatingadmissionpolicies", policy(says("false")))).ok()
        (await api.create(MAPS, OBJECT)).ok()  # not bound yet
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", selective)).ok()
        (await api.create(MAPS, {**OBJECT, "metadata": {"name": "y"}})).ok()
        labelled = {**OBJECT, "metadata": {"name": "z", "labels": {"a": "b"}}}
        assert (await api.create(MAPS, labelled)).status == 422
        (await api.delete(f"{GROUP}/validatingadmissionpolicybindings/b")).ok()
        (await api.create(MAPS, labelled)).ok()

    run(scenario)


def test_deletions_are_judged_with_the_old_object() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(MAPS, OBJECT)).ok()
        keep = says("request.operation != 'DELETE' || oldObject.data.k != 'v'", message="kept")
        (await api.create(f"{GROUP}/validatingadmissionpolicies", policy(keep))).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", binding())).ok()
        assert (await api.delete(f"{MAPS}/x")).json["message"] == DENIED + "kept"

    run(scenario)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"validations": [says("object.data.k")]}, ("spec.validations[0].expression: Invalid value: "
         '"object.data.k": must evaluate to bool but got dyn')),
        ({"validations": [says("variables.y == 1")], "variables": [{"name": "x", "expression": "1"}]},
         "undefined field 'y'"),
        ({"validations": [says("variables.x == 'w'")], "variables": [{"name": "x", "expression": "1"}]},
         "found no matching overload for '_==_' applied to '(int, string)'"),
        ({"validations": [says("params == null")]}, "undeclared reference to 'params' (in container '')"),
        ({"validations": [says("true", messageExpression="1")]}, "must evaluate to string but got int"),
        ({"validations": [says("true", messageExpression="string(authorizer)")]},
         "undeclared reference to 'authorizer'"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
         ("spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] "
         "but got int")),
        ({"validations": [says("true")], "matchConditions": [{"name": "c", "expression": "1"}]},
         'spec.matchConditions[0].expression: Invalid value: "1": must evaluate to bool but got int'),
        ({"validations": [says("true")], "matchConditions": [{"name": "c", "expression": "variables.x"}]},
         "undeclared reference to 'variables'"),
        ({"validations": [says("true")], "variables": [{"name": "x", "expression": "int('a')"}]},
         ("spec.variables[0].expression: Internal error: program instantiation failed: "
         "type conversion error from 'string' to 'int'")),
        ({"validations": [says("1 +")]}, "compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input"),
    ],
)  # fmt: skip
def test_a_policy_whose_expressions_are_none_is_refused(spec: dict[str, Any], message: str) -> None:
    async def scenario(api: Api) -> Answer:
        made = policy()
        made["spec"] |= spec
        return await api.create(f"{GROUP}/validatingadmissionpolicies", made)

    refused = run(scenario)
    assert refused.status == 422
    assert message in refused.json["message"]


def test_a_namespace_is_in_its_own_namespace_but_has_no_namespace_object() -> None:
    async def scenario(api: Api) -> Answer:
        text = '"%s %s".format([namespaceObject == null, request.namespace])'
        made = policy(says("false", messageExpression=text))
        made["spec"]["matchConstraints"]["resourceRules"][0]["resources"] = ["namespaces"]
        (await api.create(f"{GROUP}/validatingadmissionpolicies", made)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", binding())).ok()
        return await api.create("/api/v1/namespaces", {"metadata": {"name": "new"}})

    assert run(scenario).json["message"].endswith("denied request: true new")


class Recorder:
    """The audit of one request."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}

    def annotate(self, key: str, value: str) -> None:
        self.annotations.setdefault(key, value)


def test_failures_and_annotations_are_audited() -> None:
    recorder = Recorder()

    async def scenario(api: Api) -> None:
        noted = [
            {"key": "who", "valueExpression": "request.userInfo.username"},
            {"key": "nothing", "valueExpression": "null"},
        ]
        made = policy(says("true"), says("false", message="m"), auditAnnotations=noted)
        (await api.create(f"{GROUP}/validatingadmissionpolicies", made)).ok()
        (await api.create(f"{GROUP}/validatingadmissionpolicybindings", binding(("Audit",)))).ok()
        audit.enter(recorder)
        (await api.create(MAPS, OBJECT)).ok()

    run(scenario)
    failures = msgspec.json.decode(recorder.annotations.pop("validation.policy.admission.k8s.io/validation_failure"))
    assert failures == [
        {"message": "m", "policy": "p", "binding": "b", "expressionIndex": 1, "validationActions": ["Audit"]}
    ]
    assert recorder.annotations == {"p/who": "admin"}
