"""Server-side apply over HTTP: who gets what, what is refused and how. Words: those of a v1.36 API server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

CONFIGS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
KIND = {"apiVersion": "v1", "kind": "ConfigMap"}
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


async def apply(api: Api, target: str, config: Any, name: str = "applier", **query: str) -> Answer:
    asked = "&".join([f"fieldManager={name}" if name else "", *(f"{k}={v}" for k, v in query.items())])
    return await api.request("PATCH", f"{target}?{asked}", config, {"content-type": "application/apply-patch+yaml"})


def config_map(data: Any = None, name: str = "a", **meta: Any) -> dict[str, Any]:
    return {**KIND, "metadata": {"name": name, **meta}, "data": data or {}}


def deployment(**spec: Any) -> dict[str, Any]:
    labels = {"a": "b"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    return {**body, "spec": {"selector": {"matchLabels": labels}, "template": template, **spec}}


def owners_of(obj: Any, *path: str) -> list[str]:
    """Who owns a field, as name or name/subresource."""
    found = []
    for entry in obj["metadata"].get("managedFields", []):
        node = entry["fieldsV1"]
        for element in path:
            node = node.get(element) if node is not None else None
        if node is not None:
            found.append("/".join(filter(None, (entry["manager"], entry.get("subresource")))))
    return sorted(found)


def test_what_is_not_there_is_created() -> None:
    async def scenario(api: Api) -> None:
        first = await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}))
        assert first.status == 201
        assert (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}))).status == 200
        assert (await api.get(f"{CONFIGS}/a")).json == first.json

    api_server.run(scenario)


def test_a_dry_run_leaves_nothing_behind() -> None:
    async def scenario(api: Api) -> None:
        assert (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}), dryRun="All")).status == 201
        assert (await api.get(f"{CONFIGS}/a")).status == 404
        (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}))).ok()
        told = (await apply(api, f"{CONFIGS}/a", config_map({"k": "w"}), dryRun="All")).ok()
        assert told["data"] == {"k": "w"}
        assert (await api.get(f"{CONFIGS}/a")).json["data"] == {"k": "v"}

    api_server.run(scenario)


def test_another_value_of_somebody_elses_field_is_a_conflict_that_force_decides() -> None:
    async def scenario(api: Api) -> None:
        (await apply(api, f"{CONFIGS}/a", config_map({"k": "v", "l": "w"}), "first")).ok()
        (await api.patch(f"{CONFIGS}/a?fieldManager=updater", {"data": {"m": "x"}})).ok()
        wanted = config_map({"k": "1", "l": "2", "m": "3"})
        answer = await apply(api, f"{CONFIGS}/a", wanted, "second")
        assert (answer.status, answer.json["reason"]) == (409, "Conflict")
        assert answer.json["message"] == (
            'Apply failed with 3 conflicts: conflicts with "first":\n- .data.k\n- .data.l\n'
            'conflicts with "updater" using v1:\n- .data.m'
        )
        assert answer.json["details"]["causes"][0] == {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "first"',
            "field": ".data.k",
        }
        forced = (await apply(api, f"{CONFIGS}/a", wanted, "second", force="true")).ok()
        assert forced["data"] == {"k": "1", "l": "2", "m": "3"}
        assert owners_of(forced, "f:data", "f:k") == ["second"]
        assert owners_of(forced, "f:data", "f:m") == ["second"]

    api_server.run(scenario)


def test_the_same_value_is_shared_and_goes_with_its_last_owner() -> None:
    async def scenario(api: Api) -> None:
        (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}), "first")).ok()
        both = (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}), "second")).ok()
        assert owners_of(both, "f:data", "f:k") == ["first", "second"]
        one = (await apply(api, f"{CONFIGS}/a", config_map(), "first")).ok()
        assert one["data"] == {"k": "v"}
        none = (await apply(api, f"{CONFIGS}/a", config_map(), "second")).ok()
        assert "data" not in none

    api_server.run(scenario)


def test_lists_are_merged_by_their_keys() -> None:
    async def scenario(api: Api) -> None:
        first = deployment()
        first["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80}]
        (await apply(api, f"{DEPLOYMENTS}/d", first, "first")).ok()
        second = {k: v for k, v in deployment().items() if k != "spec"}
        ports = [{"containerPort": 80, "protocol": "UDP"}]
        containers = [{"name": "side", "image": "j"}, {"name": "c", "ports": ports}]
        second["spec"] = {"template": {"spec": {"containers": containers}}}
        merged = (await apply(api, f"{DEPLOYMENTS}/d", second, "second")).ok()
        found = merged["spec"]["template"]["spec"]["containers"]
        assert [(c["name"], len(c.get("ports", []))) for c in found] == [("side", 0), ("c", 2)]
        second["spec"] = {}
        left = (await apply(api, f"{DEPLOYMENTS}/d", second, "second")).ok()["spec"]["template"]["spec"]["containers"]
        assert [(c["name"], [p["protocol"] for p in c["ports"]]) for c in left] == [("c", ["TCP"])]

    api_server.run(scenario)


def test_only_who_gives_a_name_may_apply() -> None:
    async def scenario(api: Api) -> None:
        answer = await apply(api, f"{CONFIGS}/a", config_map(), "")
        assert answer.status == 422
        assert answer.json["message"] == (
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        )
        long = await apply(api, f"{CONFIGS}/a", config_map(), "x" * 129)
        assert "fieldManager: Too long: may not be more than 128 bytes" in long.json["message"]
        odd = await apply(api, f"{CONFIGS}/a", config_map(), "x%0A")
        assert "invalid character U+000A (at position 1)" in odd.json["message"]

    api_server.run(scenario)


def test_force_is_for_applies_only() -> None:
    async def scenario(api: Api) -> None:
        (await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}))).ok()
        answer = await api.patch(f"{CONFIGS}/a?force=true", {})
        assert "force: Forbidden: may not be specified for non-apply patch" in answer.json["message"]
        for word, status in (("false", 409), ("0", 409), ("1", 200)):
            assert (await apply(api, f"{CONFIGS}/a", config_map({"k": word}), "x", force=word)).status == status

    api_server.run(scenario)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid object type: /, Kind="),
        (b"[]", "cannot unmarshal array into Go value of type map[string]interface {}"),
        (b"a: [", "error decoding YAML: error converting YAML to JSON: yaml:"),
        (b"apiVersion: v1", "invalid object type: /v1, Kind="),
        (b"{apiVersion: v2, kind: ConfigMap}", "invalid object type: /v2, Kind=ConfigMap"),
        (b"{apiVersion: v1, kind: ConfigMap}", "the name of the object (a based on URL) was undeterminable"),
        (b"{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}", "does not match the name on the URL (a)"),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}}",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: []}}",
            "metadata.managedFields must be nil",
        ),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, foo: 1}",
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
        (b"{apiVersion: v1, kind: ConfigMap, metadata: 7}", ".metadata: expected map, got &{7}"),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: 1}}",
            ".data.k: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, finalizers: [x/y, x/y]}}",
            '.metadata.finalizers: duplicate entries for key [="x/y"]',
        ),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, ownerReferences: [x]}}",
            ".metadata.ownerReferences: element 0: associative list with keys may not have non-map elements",
        ),
        (
            b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, binaryData: {k: '!'}}",
            "failed to convert new object",
        ),
    ],
)
def test_what_is_no_object_of_the_kind_is_refused(body: bytes, message: str) -> None:
    async def scenario(api: Api) -> None:
        for there in (False, True):
            if there:
                (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()
            answer = await apply(api, f"{CONFIGS}/a", body)
            assert answer.status == 400
            assert message in answer.json["message"]

    api_server.run(scenario)


def test_a_key_that_is_repeated_is_told_by_its_line() -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  name: a\n"

    async def scenario(api: Api) -> None:
        strict = await apply(api, f"{CONFIGS}/a", body, fieldValidation="Strict")
        assert strict.status == 400
        assert strict.json["message"] == (
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
            '  line 5: key "name" already set in map'
        )
        warned = await apply(api, f"{CONFIGS}/a", body)
        assert [w.replace("\\", "") for w in warned.warnings] == ['line 5: key "name" already set in map']
        assert (await apply(api, f"{CONFIGS}/a", body, fieldValidation="Ignore")).warnings == []

    api_server.run(scenario)


def test_preconditions_hold() -> None:
    async def scenario(api: Api) -> None:
        answer = await apply(api, f"{CONFIGS}/a", config_map(uid="u"))
        assert answer.status == 409
        assert (
            "uid mismatch: the provided object specified uid u, and no existing object was found"
            in (answer.json["message"])
        )
        (await apply(api, f"{CONFIGS}/a", config_map())).ok()
        stale = await apply(api, f"{CONFIGS}/a", config_map({"k": "v"}, resourceVersion="1"))
        assert (stale.status, stale.json["reason"]) == (409, "Conflict")

    api_server.run(scenario)


def test_creating_by_apply_needs_the_right_to_create() -> None:
    patcher = User("patcher", "7", ("system:authenticated",))

    async def scenario(api: Api) -> None:
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        (await api.create(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})).ok()
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "patcher"}
        body = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
        (await api.create(f"{rbac}/rolebindings", body)).ok()
        answer = await apply(api.as_user(patcher), f"{CONFIGS}/a", config_map())
        assert answer.status == 403
        (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()
        (await apply(api.as_user(patcher), f"{CONFIGS}/a", config_map({"k": "v"}))).ok()

    api_server.run(scenario, users=[patcher])


def test_the_status_is_applied_where_it_lives() -> None:
    async def scenario(api: Api) -> None:
        whole = {**deployment(replicas=2), "status": {"replicas": 5}}
        created = (await apply(api, f"{DEPLOYMENTS}/d", whole, "first")).ok()
        assert owners_of(created, "f:status") == []
        told = (await apply(api, f"{DEPLOYMENTS}/d/status", whole, "second")).ok()
        assert told["status"]["replicas"] == 5
        assert owners_of(told, "f:status", "f:replicas") == ["second/status"]
        assert owners_of(told, "f:spec", "f:replicas") == ["first"]
        other = await apply(api, f"{DEPLOYMENTS}/d/status", {**whole, "status": {"replicas": 6}}, "third")
        assert other.json["message"] == (
            'Apply failed with 1 conflict: conflict with "second" with subresource "status": .status.replicas'
        )

    api_server.run(scenario)


def scale(replicas: int, **meta: Any) -> dict[str, Any]:
    body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", **meta}}
    return {**body, "spec": {"replicas": replicas}}


def test_a_scale_owns_the_replicas_of_its_object() -> None:
    async def scenario(api: Api) -> None:
        async def owners() -> tuple[int, list[str]]:
            found = (await api.get(f"{DEPLOYMENTS}/d")).json
            return found["spec"]["replicas"], owners_of(found, "f:spec", "f:replicas")

        path = f"{DEPLOYMENTS}/d/scale"
        (await apply(api, f"{DEPLOYMENTS}/d", deployment(replicas=1), "whole")).ok()
        (await api.patch(f"{path}?fieldManager=patcher", {"spec": {"replicas": 5}})).ok()
        assert await owners() == (5, ["patcher/scale"])
        again = await apply(api, f"{DEPLOYMENTS}/d", deployment(replicas=1), "whole")
        assert again.json["message"] == (
            "Apply failed with 1 conflict: "
            'conflict with "patcher" with subresource "scale" using apps/v1: .spec.replicas'
        )
        refused = await apply(api, path, scale(17), "scaler")
        assert 'conflict with "patcher" with subresource "scale" using autoscaling/v1' in refused.json["message"]
        assert (await apply(api, path, scale(17), "scaler", force="true")).ok()["spec"]["replicas"] == 17
        assert await owners() == (17, ["scaler/scale"])
        (await api.update(f"{path}?fieldManager=putter", scale(7))).ok()
        assert await owners() == (7, ["putter/scale"])
        (await apply(api, path, scale(7), "other")).ok()
        assert await owners() == (7, ["other/scale", "putter/scale"])
        assert (await apply(api, path, scale(-1), "other", force="1")).status == 422
        assert (await apply(api, f"{DEPLOYMENTS}/none/scale", scale(1))).status == 404

    api_server.run(scenario)


def test_kubectl_takes_over_what_it_applied_from_the_client() -> None:
    async def scenario(api: Api) -> None:
        last = msgspec.json.encode(config_map({"k": "v", "l": "w"})).decode()
        body = config_map({"k": "v", "l": "w"}, annotations={ANNOTATION: last})
        (await api.create(f"{CONFIGS}?fieldManager=kubectl-client-side-apply", body)).ok()
        wanted = config_map({"k": "new", "l": "w"})
        assert (await apply(api, f"{CONFIGS}/a", wanted, "somebody")).status == 409
        taken = (await apply(api, f"{CONFIGS}/a", wanted, "kubectl")).ok()
        assert owners_of(taken, "f:data", "f:k") == ["kubectl"]
        assert owners_of(taken, "f:data", "f:l") == ["kubectl", "kubectl-client-side-apply"]
        # Whoever goes back to the client's apply finds what was applied last.
        text = '{"apiVersion":"v1","data":{"k":"new","l":"w"},"kind":"ConfigMap","metadata":{"name":"a"}}\n'
        assert taken["metadata"]["annotations"] == {ANNOTATION: text}
        (await api.patch(f"{CONFIGS}/a?fieldManager=kubectl-edit", {"data": {"l": "edited"}})).ok()
        answer = await apply(api, f"{CONFIGS}/a", wanted, "kubectl")
        assert answer.json["message"] == (
            'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.l'
        )

    api_server.run(scenario)


def test_kubectl_may_make_its_client_side_manager_an_applier() -> None:
    """What `kubectl apply --server-side` does first: it rewrites managedFields by a JSON patch with a precondition."""

    async def scenario(api: Api) -> None:
        created = (await api.create(f"{CONFIGS}?fieldManager=kubectl-client-side-apply", config_map({"k": "v"}))).ok()
        entry = {**created["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": [entry]},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]},
        ]
        patched = (await api.patch(f"{CONFIGS}/a", patch, "json")).ok()
        assert patched["metadata"]["managedFields"] == [entry]
        applied = (await apply(api, f"{CONFIGS}/a", config_map(), "kubectl")).ok()
        assert "data" not in applied
        assert (await api.patch(f"{CONFIGS}/a", patch, "json")).status == 409

    api_server.run(scenario)


def test_a_scale_to_and_from_zero_leaves_replicas_to_nobody() -> None:
    async def scenario(api: Api) -> None:
        (await apply(api, f"{DEPLOYMENTS}/d", deployment(replicas=1), "whole")).ok()
        for wanted, owners in ((3, ["patcher/scale"]), (0, []), (0, []), (2, []), (4, [])):
            (await api.patch(f"{DEPLOYMENTS}/d/scale?fieldManager=patcher", {"spec": {"replicas": wanted}})).ok()
            found = (await api.get(f"{DEPLOYMENTS}/d")).json
            assert (found["spec"]["replicas"], owners_of(found, "f:spec", "f:replicas")) == (wanted, owners)

    api_server.run(scenario)


def test_an_empty_value_is_another_value() -> None:
    async def scenario(api: Api) -> None:
        config = deployment()
        container = config["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "A", "value": "1"}]
        (await apply(api, f"{DEPLOYMENTS}/d", config, "first")).ok()
        container["env"] = [{"name": "A", "value": ""}]
        answer = await apply(api, f"{DEPLOYMENTS}/d", config, "second")
        assert '.spec.template.spec.containers[name="c"].env[name="A"].value' in answer.json["message"]

    api_server.run(scenario)
