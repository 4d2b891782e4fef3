"""What a hostile client sends: requests that are legal, or refused late, and cost as much as the limits allow."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST = 3 * 1024 * 1024 - 4096
_JSON = "application/json"
_YAML = "application/yaml"
_MAPS = "/api/v1/namespaces/default/configmaps"
_PODS = "/api/v1/namespaces/default/pods"
_WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    target: str
    body: bytes = b""
    media: str = _JSON
    headers: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost", "Authorization: Bearer admin"]
        lines += self.headers
        if self.body:
            lines += [f"Content-Type: {self.media}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Case:
    """`before` is made ready; `asks` are what is measured, one after the other; with `pause` seconds in between."""

    before: tuple[Ask, ...]
    asks: tuple[Ask, ...]
    pause: float = 0.0


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


def post(target: str, value: Any, **more: Any) -> Ask:
    return Ask("POST", target, json.dumps(value).encode(), **more)


def config_map(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def definition(schema: dict[str, Any], kind: str = "Widget", **more: Any) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
                    **more,
                }
            ],
        },
    }


def widget(spec: Any, name: str = "a") -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


# -- expressions -----------------------------------------------------------------------------------------------------


def _rules(rule: str, spec: Any, *, most: int = 200, times: int = 10) -> Case:
    text = {"type": "string", "maxLength": 2}
    rules = [{"rule": f"{rule} || {i} > 1000"} for i in range(times)]
    schema = {"type": "array", "maxItems": most, "items": text, "x-kubernetes-validations": rules}
    return Case((post(_DEFINITIONS, definition(schema)),), (post(_WIDGETS, widget(spec)),), pause=0.5)


@case
def rules_of_a_custom_resource() -> Case:
    return _rules("self.all(a, self.all(b, a != b || b != 'x'))", ["a"] * 300, most=300)


@case
def rules_of_a_custom_resource_that_sort() -> Case:
    return _rules("self.all(a, self.map(b, b).sort().size() > 0)", ["a"] * 90, most=90)


def policy(expressions: list[str], name: str = "p", **more: Any) -> tuple[Ask, Ask]:
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
            ]
        },
        "validations": [{"expression": e} for e in expressions],
        **more,
    }
    return (
        post(f"{_ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec}),
        post(
            f"{_ADMISSION}/validatingadmissionpolicybindings",
            {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}},
        ),
    )


def _policies(expression: str, *, times: int = 10) -> Case:
    data = {f"k{i}": "a" * 20 for i in range(2000)}
    return Case(
        policy([f"{expression} || {i} > 1000" for i in range(times)]),
        (post(_MAPS, config_map(data=data)),),
        pause=0.5,
    )


LOOPS = {
    "plain": "object.data.all(a, object.data.all(b, a != 'x' || b != 'x'))",
    "adding": "object.data.all(a, object.data.all(b, a + b != 'x'))",
    "arithmetic": "object.data.all(a, object.data.all(b, 1 + 2 * 3 - 4 > 0))",
    "building": "object.data.map(a, object.data.map(b, [a, b])).size() > 0",
    "maps": "object.data.map(a, object.data.map(b, {a: b})).size() > 0",
    "optional": "object.data.all(a, object.data.all(b, object.data[?b].orValue('x') != ''))",
    "patterns": "object.data.all(a, object.data.all(b, b.matches('^(a+)+$')))",
    "times": "object.data.all(a, object.data.all(b, duration('1h') != duration('2h')))",
    "quantities": "object.data.all(a, object.data.all(b, quantity('1Ki').isGreaterThan(quantity('1'))))",
    "addresses": "object.data.all(a, object.data.all(b, cidr('10.0.0.0/8').containsIP('10.1.1.1')))",
    "formatting": "object.data.all(a, object.data.all(b, '%s-%d'.format([b, 1]) != ''))",
    "splitting": "object.data.all(a, object.data.all(b, b.split('').size() > 0))",
    "deep equals": "object.data.all(a, object.data == object.data)",
    "ternary": "object.data.all(a, object.data.all(b, a == b ? true : (b == a ? false : true)))",
    "macros": "object.data.all(a, object.data.exists(b, object.data.exists_one(c, c == b)))",
    "urls": "object.data.all(a, object.data.all(b, url('https://example.com:80/a?b=c').getHost() != ''))",
    "authorizer": "object.data.all(a, object.data.all(b, authorizer.path('/' + a).check('get').allowed()))",
}


for _name, _text in LOOPS.items():
    CASES[f"policy: {_name}"] = functools.partial(_policies, _text)


@case
def a_policy_of_long_expressions() -> Case:
    text = " || ".join(f"object.data.k{i} == 'a'" for i in range(2500))
    ask = policy([text] * 40)[0]
    return Case((), (ask,), pause=2.0)


@case
def a_policy_of_many_expressions() -> Case:
    texts = [f"object.data.all(a, a != 'x' + '{i}')" for i in range(20_000)]
    return Case((), (policy(texts)[0],), pause=2.0)


@case
def a_definition_of_many_rules() -> Case:
    fields = {
        f"f{i}": {
            "type": "string",
            "maxLength": 5,
            "x-kubernetes-validations": [{"rule": f"self.size() > {j} || self == 'x'"} for j in range(10)],
        }
        for i in range(2000)
    }
    return Case((), (post(_DEFINITIONS, definition({"type": "object", "properties": fields})),), pause=2.0)


@case
def a_definition_of_many_fields() -> Case:
    fields = {
        f"f{i}": {"type": "object", "properties": {"a": {"type": "string", "pattern": f"a{i}"}}} for i in range(30_000)
    }
    ask = post(_DEFINITIONS, definition({"type": "object", "properties": fields}))
    return Case((), (ask, post(_WIDGETS, widget({"f1": {"a": "x"}}))), pause=2.0)


@case
def definitions_of_a_hundred_kinds_again_and_again() -> Case:
    field = {f"f{i}": {"type": "string", "description": "x" * 40} for i in range(300)}
    schema = {"type": "object", "properties": field}
    before = [post(_DEFINITIONS, definition(schema, f"Kind{i}")) for i in range(100)]
    asks = [post(_DEFINITIONS, definition(schema, f"More{i}")) for i in range(5)]
    documents = Ask("GET", "/openapi/v2"), Ask("GET", "/openapi/v3"), Ask("GET", "/openapi/v3/apis/example.com/v1")
    return Case(tuple(before), (*asks, *documents), pause=0.5)


# -- bodies ----------------------------------------------------------------------------------------------------------


@case
def yaml_of_small_items() -> Case:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nx: [" + b"1," * ((MOST - 100) // 2) + b"1]\n"
    return Case((), (Ask("POST", _MAPS, body, _YAML),))


@case
def yaml_of_small_entries() -> Case:
    entries = b"".join(b" k%06d: a\n" % i for i in range((MOST - 100) // 12))
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n" + entries
    return Case((), (Ask("POST", _MAPS, body, _YAML),))


@case
def yaml_to_apply() -> Case:
    entries = b"".join(b" k%06d: a\n" % i for i in range(60_000))
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n" + entries
    return Case((), (Ask("PATCH", f"{_MAPS}/a?fieldManager=x", body, "application/apply-patch+yaml"),))


@case
def json_of_unknown_fields() -> Case:
    body = json.dumps(config_map()).encode()[:-1] + b"".join(b',"x%d":1' % i for i in range(250_000)) + b"}"
    return Case((), (Ask("POST", _MAPS, body),))


@case
def json_of_repeated_fields() -> Case:
    body = json.dumps(config_map()).encode()[:-1] + b',"data":{' + b",".join(b'"x":"1"' for i in range(390_000)) + b"}}"
    return Case((), (Ask("POST", _MAPS, body),))


@case
def json_of_small_lists() -> Case:
    body = json.dumps(config_map()).encode()[:-1] + b',"x":[' + b"[]," * 1_000_000 + b"[]]}"
    return Case((), (Ask("POST", _MAPS, body),))


@case
def a_config_map_of_many_entries() -> Case:
    return Case((), (post(_MAPS, config_map(data={f"k{i}": "" for i in range(70_000)})),))


@case
def an_object_of_many_labels() -> Case:
    labels = {f"l{i}": "a" for i in range(150_000)}
    return Case((), (post(_MAPS, config_map(metadata={"labels": labels})),))


@case
def an_object_of_many_owners() -> Case:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": f"p{i}", "uid": f"u{i}"} for i in range(40_000)]
    return Case((), (post(_MAPS, config_map(metadata={"ownerReferences": owners})),))


@case
def an_object_of_many_finalizers() -> Case:
    finalizers = [f"example.com/f{i}" for i in range(100_000)]
    return Case((), (post(_MAPS, config_map(metadata={"finalizers": finalizers})),))


@case
def an_object_of_many_managers() -> Case:
    managers = [
        {
            "manager": f"m{i}", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {f"f:k{i}": {}}},
        }
        for i in range(16_000)
    ]  # fmt: skip
    made = post(_MAPS, config_map(metadata={"managedFields": managers}))
    patch = Ask(
        "PATCH", f"{_MAPS}/a?fieldManager=x", b'{"metadata":{"labels":{"a":"b"}}}', "application/merge-patch+json"
    )
    apply = Ask(
        "PATCH", f"{_MAPS}/a?fieldManager=y&force=true", json.dumps(config_map(data={"k1": "x"})).encode(),
        "application/apply-patch+yaml",
    )  # fmt: skip
    return Case((), (made, patch, apply))


def account() -> Ask:
    """What pods need."""
    return post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})


def pod(containers: int, env: int, name: str = "a") -> dict[str, Any]:
    one = [{"name": f"E{i}", "value": "x"} for i in range(env)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": f"c{i}", "image": "a", "env": one} for i in range(containers)]},
    }


@case
def a_pod_of_many_containers() -> Case:
    return Case((account(),), (post(_PODS, pod(30_000, 0)),))


@case
def a_pod_of_many_variables() -> Case:
    return Case((account(),), (post(_PODS, pod(1, 80_000)),))


@case
def a_role_of_many_rules() -> Case:
    rules = [{"apiGroups": [""], "resources": ["a"], "verbs": ["get"]} for _ in range(40_000)]
    role = {"metadata": {"name": "r"}, "rules": rules}
    return Case((), (post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role),))


@case
def a_network_policy_of_many_rules() -> Case:
    rules = [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]} for _ in range(60_000)]
    spec = {"metadata": {"name": "r"}, "spec": {"podSelector": {}, "ingress": rules}}
    return Case((), (post("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", spec),))


# -- patches ---------------------------------------------------------------------------------------------------------


@case
def a_strategic_patch_of_a_long_list() -> Case:
    patch = {"spec": {"containers": [{"name": "c0", "env": [{"name": f"E{i}", "value": "y"} for i in range(60_000)]}]}}
    ask = Ask("PATCH", f"{_PODS}/a", json.dumps(patch).encode(), "application/strategic-merge-patch+json")
    return Case((account(), post(_PODS, pod(1, 30_000))), (ask,))


@case
def a_strategic_patch_of_a_deployment() -> Case:
    """A template may change: the list is merged and judged again."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(1, 20_000)["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = post("/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "a"}, "spec": spec})
    env = [{"name": f"E{i}", "value": "y"} for i in reversed(range(30_000))]
    order = [{"name": f"E{i}"} for i in reversed(range(30_000))]
    patch = {
        "spec": {"template": {"spec": {"containers": [{"name": "c0", "env": env, "$setElementOrder/env": order}]}}}
    }
    ask = Ask(
        "PATCH", "/apis/apps/v1/namespaces/default/deployments/a", json.dumps(patch).encode(),
        "application/strategic-merge-patch+json",
    )  # fmt: skip
    return Case((made,), (ask,))


@case
def a_json_patch_that_doubles() -> Case:
    patch = [
        {"op": "add", "path": "/data/a", "value": "x" * 1000},
        {"op": "add", "path": "/x", "value": {"a": "b" * 100}},
    ]
    patch += [{"op": "copy", "from": "", "path": f"/x/k{i}"} for i in range(40)]
    ask = Ask("PATCH", f"{_MAPS}/a", json.dumps(patch).encode(), "application/json-patch+json")
    return Case((post(_MAPS, config_map(data={"a": "b"})),), (ask,))


@case
def a_json_patch_of_many_inserts() -> Case:
    finalizers = [f"example.com/f{i}" for i in range(60_000)]
    patch = [{"op": "add", "path": "/metadata/finalizers/0", "value": f"example.com/g{i}"} for i in range(10_000)]
    ask = Ask("PATCH", f"{_MAPS}/a", json.dumps(patch).encode(), "application/json-patch+json")
    return Case((post(_MAPS, config_map(metadata={"finalizers": finalizers})),), (ask,))


@case
def a_json_patch_of_many_copies() -> Case:
    patch = [{"op": "copy", "from": "/data/a", "path": f"/data/k{i}"} for i in range(10_000)]
    patch = [{"op": "test", "path": "/data", "value": {f"k{i}": "" for i in range(20_000)}}] * 10 + patch
    ask = Ask("PATCH", f"{_MAPS}/a", json.dumps(patch).encode(), "application/json-patch+json")
    return Case((post(_MAPS, config_map(data={f"k{i}": "" for i in range(20_000)})),), (ask,))


@case
def an_apply_of_many_entries() -> Case:
    first = json.dumps(config_map(data={f"k{i}": "a" for i in range(70_000)})).encode()
    second = json.dumps(config_map(data={f"k{i}": "b" for i in range(70_000)})).encode()
    media = "application/apply-patch+yaml"
    return Case(
        (),
        (
            Ask("PATCH", f"{_MAPS}/a?fieldManager=x", first, media),
            Ask("PATCH", f"{_MAPS}/a?fieldManager=y", second, media),
            Ask("PATCH", f"{_MAPS}/a?fieldManager=y&force=true", second, media),
        ),
    )


@case
def an_apply_of_a_list_of_maps() -> Case:
    body = json.dumps(pod(1, 25_000)).encode()
    media = "application/apply-patch+yaml"
    return Case(
        (account(),),
        (
            Ask("PATCH", f"{_PODS}/a?fieldManager=x", body, media),
            Ask("PATCH", f"{_PODS}/a?fieldManager=x", body, media),
        ),
    )


# -- custom resources ------------------------------------------------------------------------------------------------


@case
def a_pattern_on_a_long_text() -> Case:
    made = post(_DEFINITIONS, definition({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}))
    return Case((made,), (post(_WIDGETS, widget("a" * (MOST - 1000))),), pause=0.5)


@case
def patterns_on_many_texts() -> Case:
    schema = {"type": "array", "items": {"type": "string", "pattern": "(x+x+)+y", "format": "date-time"}}
    made = post(_DEFINITIONS, definition(schema))
    return Case((made,), (post(_WIDGETS, widget(["xxxxx"] * 350_000)),), pause=0.5)


@case
def a_list_that_is_a_set() -> Case:
    schema = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
    made = post(_DEFINITIONS, definition(schema))
    return Case((made,), (post(_WIDGETS, widget([f"{i}" for i in range(300_000)])),), pause=0.5)


@case
def unknown_fields_of_a_custom_resource() -> Case:
    made = post(
        _DEFINITIONS,
        definition({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}}),
    )
    return Case((made,), (post(_WIDGETS, widget([{"b": 1}] * 260_000)),), pause=0.5)


# -- reads -----------------------------------------------------------------------------------------------------------


def many(count: int = 30_000) -> tuple[Ask, ...]:
    return tuple(
        post(_MAPS, config_map(f"a{i}", metadata={"labels": {"n": f"v{i % 500}", "app": "x"}}, data={"a": "b" * 100}))
        for i in range(count)
    )


_TABLE = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"
_METADATA = "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_FEW_IN = ",".join(f"v{i}" for i in range(1, 8000, 2))
_INITIAL = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
READS = {
    "all": Ask("GET", _MAPS),
    "selected by a long list": Ask("GET", f"{_MAPS}?labelSelector=n%20in%20({_FEW_IN})"),
    "selected by many requirements": Ask("GET", f"{_MAPS}?labelSelector={','.join(f'n!=x{i}' for i in range(1500))}"),
    "selected by fields": Ask("GET", f"{_MAPS}?fieldSelector={','.join(f'metadata.name!=b{i}' for i in range(1000))}"),
    "as a table": Ask("GET", _MAPS, headers=(_TABLE,)),
    "as metadata": Ask("GET", _MAPS, headers=(_METADATA,)),
    "as YAML": Ask("GET", _MAPS, headers=("Accept: application/yaml",)),
    "as protobuf": Ask("GET", _MAPS, headers=("Accept: application/vnd.kubernetes.protobuf",)),
    "compressed": Ask("GET", _MAPS, headers=("Accept-Encoding: gzip",)),
    "indented": Ask("GET", f"{_MAPS}?pretty=true"),
    "as initial events": Ask("GET", f"{_MAPS}?{_INITIAL}"),
    "as initial events of tables": Ask("GET", f"{_MAPS}?watch=1&resourceVersion=0", headers=(_TABLE,)),
    "deleted together": Ask("DELETE", _MAPS),
}
