"""Whatever a client sends, it gets a Status with the right code, soon: no 5xx of ours, no exception, no hang.

Tables of known attacks for every verb, and generated documents. What the wire refuses before it is a request (bodies
over 3 MiB: 413, heads that cannot be read) is tested with it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kybern.apiserver.request import Request
from kybern.machinery import scheme
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api
from kybern.wire.http1.head import parse_line

pytestmark = pytest.mark.thorough

DEFAULT = "/api/v1/namespaces/default"
CONFIGS = f"{DEFAULT}/configmaps"
REFUSED = frozenset({400, 404, 405, 406, 409, 410, 413, 415, 422})
SECONDS = 60.0  # a hang, on however busy a machine

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json")


def alias_bomb(width: int = 9, depth: int = 9) -> bytes:
    """Nine lines that say 9**9 nodes."""
    lines = ["a0: &a0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, depth)]
    return "\n".join(lines).encode()


# Bodies that are no object of any kind. Each must be refused by every write with 400 or 422.
NOT_OBJECTS: dict[str, bytes] = {
    "a cut object": b'{"metadata":{"name":"a"',
    "a cut text": b'{"metadata":{"name":"a',
    "a bare word": b"hello",
    "a text": b'"hello"',
    "a number": b"17",
    "true": b"true",
    "an array": b"[]",
    "an array of objects": b'[{"metadata":{"name":"a"}}]',
    "two objects": b'{"metadata":{"name":"a"}}{"metadata":{"name":"b"}}',
    "a comma too many": b'{"metadata":{"name":"a",}}',
    "single quotes": b"{'metadata':{'name':'a'}}",
    "no quotes": b'{metadata:{"name":"a"}}',
    "a byte order mark": b'\xef\xbb\xbf{"metadata":{"name":"a"}}',
    "UTF-16": '{"metadata":{"name":"a"}}'.encode("utf-16"),
    "a NUL": b"\x00",
    "a raw NUL in a text": b'{"metadata":{"name":"a\x00b"}}',
    "a raw newline in a text": b'{"metadata":{"name":"a\nb"}}',
    "invalid UTF-8": b'{"metadata":{"name":"\xff\xfe"}}',
    "overlong UTF-8": b'{"metadata":{"name":"\xc0\xaf"}}',
    "an encoded surrogate": b'{"metadata":{"name":"\xed\xa0\x80"}}',
    "a lone surrogate": b'{"metadata":{"name":"\\ud800"}}',
    "a surrogate before a text": b'{"metadata":{"name":"\\ud800\\u0041"}}',
    "a bad escape": b'{"metadata":{"name":"\\x41"}}',
    "NaN": b'{"metadata":{"name":"a","generation":NaN}}',
    "Infinity": b'{"metadata":{"name":"a","generation":-Infinity}}',
    "a leading zero": b'{"metadata":{"name":"a","generation":01}}',
    "a lone minus": b'{"metadata":{"name":"a","generation":-}}',
    "a float for an integer": b'{"metadata":{"name":"a","generation":1.5}}',
    "a float too large": b'{"metadata":{"name":"a","generation":1e999}}',
    "an integer too large": b'{"metadata":{"name":"a","generation":' + b"9" * 100 + b"}}",
    "an endless integer": b'{"metadata":{"name":"a","generation":' + b"9" * 100_000 + b"}}",
    "deep arrays": b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep arrays, open": b"[" * 100_000,
    "deep unknown fields": b'{"x":' * 600 + b"1" + b"}" * 600,
    "a text for metadata": b'{"metadata":"a"}',
    "a list for metadata": b'{"metadata":[]}',
    "a number for a name": b'{"metadata":{"name":7}}',
    "a list for labels": b'{"metadata":{"name":"a","labels":["b"]}}',
    "a number for a label": b'{"metadata":{"name":"a","labels":{"b":7}}}',
    "a text for finalizers": b'{"metadata":{"name":"a","finalizers":"b"}}',
    "a word for a time": b'{"metadata":{"name":"a","creationTimestamp":"yesterday"}}',
    "a day that there is not": b'{"metadata":{"name":"a","creationTimestamp":"2026-02-30T00:00:00Z"}}',
    "a number for a time": b'{"metadata":{"name":"a","creationTimestamp":5}}',
    "a list for a kind": b'{"kind":[],"metadata":{"name":"a"}}',
    "another kind": b'{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}',
    "another version": b'{"apiVersion":"v7","kind":"ConfigMap","metadata":{"name":"a"}}',
}

NOT_YAML: dict[str, bytes] = {
    "an alias bomb": alias_bomb(),
    "an alias of itself": b"a: &a [*a]",
    "an alias of nothing": b"a: *b",
    "a tag of Python's": b"!!python/object/apply:os.system [id]",
    "a tag of nobody's": b"a: !mine x",
    "a tab for a space": b"a:\n\tb: c",
    "an open quote": b'a: "b',
    "an open list": b"a: [b",
    "a list": b"- a\n- b",
    "a mapping for a key": b"? {a: b}\n: c",
    "a list for a key": b"[a]: b",
    "nothing for a key": b"metadata: {name: a}\ndata: {~: b}",
    "two documents": b"metadata: {name: a}\n---\nmetadata: {name: b}",
    "a merge of a text": b"<<: a\nmetadata: {name: a}",
    "not a number": b"metadata: {name: a, generation: .nan}",
    "infinity": b"metadata: {name: a, generation: .inf}",
    "deep lists": b"a: " + b"[" * 5000 + b"]" * 5000,
    "deep mappings": b"a: " + b"{a: " * 5000 + b"}" * 5000,
    "invalid UTF-8": b"a: \xff\xfe",
    "a NUL": b"a: \x00",
    "a date for a name": b"metadata: {name: 2020-01-01T00:00:00Z}",
    "a directive": b"%YAML 9.9\n---\na: b",
    "many anchors": b"\n".join(b"a%d: &a%d x" % (n, n) for n in range(20_000)),
}

NOT_PROTOBUF: dict[str, bytes] = {
    "no magic": b"{}",
    "magic alone": b"k8s\x00",
    "a cut tag": b"k8s\x00\x0a",
    "a cut length": b"k8s\x00\x0a\xff",
    "a length beyond the end": b"k8s\x00\x12\xff\xff\xff\xff\x0fabc",
    "an endless varint": b"k8s\x00\x08" + b"\xff" * 64,
    "a group": b"k8s\x00\x0b\x0c",
    "garbage": b"k8s\x00" + bytes(range(256)),
    "garbage inside": b"k8s\x00\x12\x20" + bytes(range(0x80, 0xA0)),
    "text that is not UTF-8": b"k8s\x00\x12\x06\x0a\x04\x0a\x02\xff\xfe",
    "nested without end": b"k8s\x00\x12" + b"\x7e" + b"\x0a\x7c" * 63,
}

MEDIA_TYPES = (
    "text/plain",
    "text/html; charset=utf-8",
    "application/cbor",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json-patch+json",
    "*/*",
    "json",
    "a" * 10_000,
)

BAD_QUERIES = (
    "limit=abc",
    "limit=1.5",
    "limit=",
    "limit=0x10",
    "limit=%C2%B2",
    "limit=" + "9" * 30,
    "limit=" + "9" * 5000,
    "timeoutSeconds=abc",
    "timeoutSeconds=1e3",
    "resourceVersion=abc",
    "resourceVersion=-1",
    "resourceVersion=1.0",
    "resourceVersion=%D9%A1",
    "resourceVersion=" + "9" * 100,
    "resourceVersionMatch=Exact",
    "resourceVersion=1&resourceVersionMatch=Nope",
    "resourceVersion=0&resourceVersionMatch=Exact",
    "continue=abc",
    "continue=e30",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MWU5OTksInN0YXJ0IjoiYSJ9",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6dHJ1ZSwic3RhcnQiOiJhIn0",
    "continue=" + "W1tb" * 5000,
    "continue=e30&resourceVersion=5",
    "sendInitialEvents=true",
    "labelSelector=!!",
    "labelSelector=a%3D%3D%3Db",
    "labelSelector=a+in+()b",
    "labelSelector=a+in+(",
    "labelSelector=%3D",
    "labelSelector=a%3D" + "b" * 64,
    "labelSelector=" + "(" * 10_000,
    "labelSelector=%F0%9F%92%A9",
    "fieldSelector=metadata.name",
    "fieldSelector=nope%3Da",
    "fieldSelector=metadata.name%3D%5C",
    "fieldSelector=metadata.name%3Da%3Db",
    "fieldSelector=" + "%2C".join(["x%3Dy"] * 1000),
)

BAD_DELETE_QUERIES = (
    "gracePeriodSeconds=abc",
    "gracePeriodSeconds=" + "9" * 40,
    "propagationPolicy=Nope",
    "dryRun=Nope",
    "dryRun=All&dryRun=Nope",
    "propagationPolicy=Orphan&orphanDependents=true",
)

BAD_DELETE_BODIES = (
    b"{",
    b"[]",
    b'"x"',
    b"7",
    b'{"kind":"Pod"}',
    b'{"kind":7}',
    b'{"preconditions":"x"}',
    b'{"gracePeriodSeconds":"x"}',
    b'{"gracePeriodSeconds":1e400}',
    b'{"propagationPolicy":"Nope"}',
    b'{"propagationPolicy":7}',
    b'{"dryRun":["Nope"]}',
    b'{"dryRun":"All"}',
    b'{"orphanDependents":"yes"}',
    b"[" * 100_000,
    b"\xff",
)

BAD_PATHS = (
    "/api/v1/namespaces/default/configmaps/a/status",
    "/api/v1/namespaces/default/configmaps/a/nope",
    "/api/v1/namespaces/default/configmaps/a/status/deep/er",
    "/api/v1/namespaces/default/configmaps//a",
    "/api/v1/namespaces//configmaps",
    "/api/v1//configmaps",
    "/api//v1/configmaps",
    "//api/v1/configmaps",
    "/api/v1/namespaces/default/configmaps/a//",
    "/api/v1/namespaces/default/configmaps/..",
    "/api/v1/namespaces/default/configmaps/.",
    "/api/v1/namespaces/default/configmaps/%2e%2e",
    "/api/v1/namespaces/default/configmaps/a%2Fb",
    "/api/v1/namespaces/default%2Fconfigmaps/a",
    "/api/v1/namespaces/default/configmaps/" + "a" * 5000,
    "/api/v1/namespaces/default/configmaps/a b".replace(" ", "%20"),
    "/api/v1/namespaces/default/configmaps/%F0%9F%92%A9",
    "/api/v1/namespaces/default/configmaps/%E2%80%AE",
    "/api/v1/namespaces/default/configmaps/%0A",
    "/api/v1/namespaces/nope/configmaps/a",
    "/api/v1/namespaces/default/nopes",
    "/api/v1/namespaces/default/nodes",
    "/api/v1/nodes/nope/status",
    "/api/v1/configmaps/a",
    "/api/v2/configmaps",
    "/api/v1/proxy/pods",
    "/api/v1/watch",
    "/api/v1/watch/pods/a/b/c/d/e",
    "/apis/apps/v1/configmaps",
    "/apis/apps/v9/deployments",
    "/apis/nope.io/v1/things",
    "/apis/" + "/".join(["x"] * 1000),
    "/nope",
    "/openapi/v9",
    "/openapi/v3/nope",
    "/version/nope",
)

BAD_TARGETS = ("/api/%", "/api/%zz", "/api/%00", "/api/%ff", "/api?x=%zz", "/api?x=%ff", "/api/v1/\xff")

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW")


def check(answer: Answer, about: object, allowed: Iterable[int] = REFUSED) -> None:
    """It is one of these codes, as a Status that says so, in time."""
    assert answer.status in allowed, f"{about!r:.300}: {answer.status} {answer.body[:300]!r}"
    assert answer.seconds < SECONDS, f"{about!r:.300} took {answer.seconds:.1f} s"
    status = answer.json
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", answer.status)
    assert len(answer.body) < 20_000, f"{about!r:.300}: an answer of {len(answer.body)} bytes"


def test_an_unknown_health_check_is_told_as_text_as_upstream_does() -> None:
    async def scenario(api: Api) -> None:
        answer = await api.get("/healthz/nope")
        assert (answer.status, answer.body) == (404, b"404 page not found\n")

    api_server.run(scenario)


async def check_alive(api: Api) -> None:
    """The server still serves, and kept nothing of it."""
    assert [c["metadata"]["name"] for c in (await api.get(CONFIGS)).ok()["items"]] == ["there"]


async def prepare(api: Api) -> None:
    (await api.create(CONFIGS, {"metadata": {"name": "there"}})).ok()
    (await api.create(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})).ok()


def documents() -> Iterable[tuple[str, str, bytes]]:
    for name, body in NOT_OBJECTS.items():
        yield name, JSON, body
    for name, body in NOT_YAML.items():
        yield name, YAML, body
    for name, body in NOT_PROTOBUF.items():
        yield name, PROTOBUF, body
    for media in (JSON, PROTOBUF):
        yield "nothing", media, b""


def test_no_bad_body_is_created_or_updated() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for name, media, body in documents():
            headers = {"content-type": media}
            for method, target in (("POST", CONFIGS), ("PUT", f"{CONFIGS}/there"), ("PUT", f"{CONFIGS}/a")):
                for strictness in ("Strict", "Warn", "Ignore"):
                    answer = await api.request(method, f"{target}?fieldValidation={strictness}", body, headers)
                    check(answer, (name, media, method, strictness), (400, 404, 422))
        await check_alive(api)

    api_server.run(scenario)


def test_no_bad_body_passes_for_any_kind() -> None:
    """The same, for every resource that is served: each kind has its own Struct, defaults and rules."""
    chosen = ("a cut object", "an array", "a lone surrogate", "deep objects", "a text for metadata", "NaN")

    async def scenario(api: Api) -> None:
        await prepare(api)
        for resource in scheme.RESOURCES:
            if "create" not in resource.verbs:
                continue
            root = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
            scope = "/namespaces/default" if resource.namespaced else ""
            for name in chosen:
                target = f"{root}{scope}/{resource.plural}"
                check(await api.create(target, NOT_OBJECTS[name]), (name, target), (400, 404, 405, 422))
            empty = await api.create(target, b"{}")
            assert empty.status in (201, 400, 404, 405, 422), f"{target}: {empty.status} {empty.body[:300]!r}"
        await check_alive(api)

    api_server.run(scenario)


# What stands where something else is expected.
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    1.5,
    "",
    "x",
    "\u0000",
    "💩",
    [],
    [None],
    [[]],
    {},
    {"": {}},
)


def test_no_odd_value_anywhere_in_an_object_is_a_fault() -> None:
    """Every field of a large pod, service and deployment in turn, replaced by something odd."""
    pod = {
        "metadata": {"name": "p", "labels": {"a": "b"}, "ownerReferences": [{"name": "o", "kind": "K"}]},
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80, "name": "http"}],
                    "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}},
                    "readinessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "securityContext": {"runAsUser": 1, "capabilities": {"add": ["X"]}},
                }
            ],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        },
    }
    service = {
        "metadata": {"name": "s"},
        "spec": {
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30001}],
            "clusterIPs": ["10.96.0.9"],
            "selector": {"a": "b"},
            "type": "NodePort",
            "externalIPs": ["1.2.3.4"],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}},
        },
    }
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}
    deployment = {
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 1,
            "selector": {
                "matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
            },
            "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
        },
    }
    cron_job = {
        "metadata": {"name": "j"},
        "spec": {
            "schedule": "* * * * *",
            "timeZone": "Etc/UTC",
            "jobTemplate": {
                "spec": {
                    "completions": 1,
                    "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
                    "podFailurePolicy": {
                        "rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}}]
                    },
                }
            },
        },
    }
    hpa = {
        "metadata": {"name": "h", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": "5"}},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}, "targetCPUUtilizationPercentage": 5},
    }
    policy = {
        "metadata": {"name": "n"},
        "spec": {
            "podSelector": {},
            "ingress": [
                {
                    "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                    "ports": [{"port": 80, "endPort": 90, "protocol": "TCP"}],
                }
            ],
        },
    }
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"namespace": "default"},
        "series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"},
        "source": {"host": "h"},
    }
    targets = (
        (f"{DEFAULT}/pods", pod),
        (f"{DEFAULT}/services", service),
        ("/apis/apps/v1/namespaces/default/deployments", deployment),
        ("/apis/batch/v1/namespaces/default/cronjobs", cron_job),
        ("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", hpa),
        ("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", policy),
        (f"{DEFAULT}/events", event),
    )

    async def scenario(api: Api) -> None:
        await prepare(api)
        for target, obj in targets:
            for path, odd in itertools.product(list(paths(obj)), ODD_VALUES):
                answer = await api.create(f"{target}?dryRun=All", replaced(obj, path, odd))
                assert answer.seconds < SECONDS
                if answer.status != 201:
                    check(answer, (target, path, odd), (400, 403, 404, 422))
        await check_alive(api)

    api_server.run(scenario)


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*here, key)
        yield from paths(child, (*here, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with one place changed."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


BAD_PATCHES: tuple[bytes, ...] = (
    *NOT_OBJECTS.values(),
    b"",
    b'{"metadata":{"resourceVersion":"x"}}',
    b'{"metadata":null}',
    b'{"apiVersion":{}}',
    b'{"data":[]}',
    b'{"data":{"a":{"deep":1}}}',
    b'{"metadata":{"name":"b"}}',
    b'{"metadata":{"labels":{"$patch":7}}}',
    b'{"metadata":{"$deleteFromPrimitiveList/finalizers":7}}',
    b'{"metadata":{"$setElementOrder/finalizers":{"a":1},"finalizers":7}}',
    b'[{"op":"add"}]',
    b'[{"op":"add","path":7,"value":1}]',
    b'[{"op":"add","path":"nope","value":1}]',
    b'[{"op":"add","path":"/data/x/y/z","value":1}]',
    b'[{"op":"replace","path":"","value":[]}]',
    b'[{"op":"remove","path":""}]',
    b'[{"op":"remove","path":"/metadata/name"}]',
    b'[{"op":"remove","path":"/metadata/uid"}]',
    b'[{"op":"replace","path":"/metadata","value":7}]',
    b'[{"op":"copy","from":"/nope","path":"/data"}]',
    b'[{"op":"move","from":"","path":"/data"}]',
    b'[{"op":"test","path":"/data","value":{"no":"t"}}]',
    b'[{"op":"nope","path":"/data"}]',
    b"[7]",
    b"[[]]",
    b"[" + b",".join([b'{"op":"add","path":"/data/a","value":"b"}'] * 10_001) + b"]",
    b"[" + b",".join([b'{"op":"copy","from":"/metadata","path":"/metadata/annotations"}'] * 64) + b"]",
)


def test_no_bad_patch_is_applied() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        before = (await api.get(f"{CONFIGS}/there")).body
        for media, body in itertools.product((*PATCHES, "application/apply-patch+yaml", JSON), BAD_PATCHES):
            for target in (f"{CONFIGS}/there", f"{CONFIGS}/nope", f"{DEFAULT}/pods/nope/status"):
                answer = await api.request("PATCH", f"{target}?dryRun=All", body, {"content-type": media})
                if answer.status != 200:  # a patch may well change nothing
                    check(answer, (media, body), REFUSED)
                assert answer.seconds < SECONDS
        assert (await api.get(f"{CONFIGS}/there")).body == before
        await check_alive(api)

    api_server.run(scenario)


def test_what_is_not_spoken_here_is_415() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for media in MEDIA_TYPES:
            headers = {"content-type": media}
            body = b'{"metadata":{"name":"a"}}'
            check(await api.request("POST", CONFIGS, body, headers), media, (415,))
            check(await api.request("PUT", f"{CONFIGS}/there", body, headers), media, (415,))
            check(await api.request("DELETE", f"{CONFIGS}/there", b"{}", headers), media, (415,))
            if media not in PATCHES:
                check(await api.request("PATCH", f"{CONFIGS}/there", b"{}", headers), media, (415,))
        await check_alive(api)

    api_server.run(scenario)


@pytest.mark.parametrize(
    "accept", ["text/plain", "application/cbor", "a/b/c", "json", "application/json;as=Nope", "x" * 9000]
)
def test_what_cannot_be_given_is_406(accept: str) -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for method, target in (
            ("GET", CONFIGS),
            ("GET", f"{CONFIGS}/there"),
            ("GET", f"{CONFIGS}?watch=1"),
            ("DELETE", f"{CONFIGS}/there"),
            ("DELETE", CONFIGS),
        ):
            check(await api.request(method, target, b"", {"accept": accept}), (method, target, accept), (406,))
        check(await api.request("POST", CONFIGS, {"metadata": {"name": "a"}}, {"accept": accept}), accept, (406,))
        await check_alive(api)

    api_server.run(scenario)


def test_no_bad_query_is_guessed_at() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for query in BAD_QUERIES:
            check(await api.get(f"{CONFIGS}?{query}"), query, (400, 422))
            check(await api.delete(f"{CONFIGS}?{query}"), query, (400, 422))
        for query in BAD_QUERIES:
            if not query.startswith(("sendInitialEvents", "continue")):
                check(await api.get(f"{CONFIGS}?watch=1&{query}"), query, (400, 422))
        for query in BAD_DELETE_QUERIES:
            check(await api.delete(f"{CONFIGS}/there?{query}"), query, (400, 422))
            check(await api.delete(f"{CONFIGS}?{query}"), query, (400, 422))
        for query in ("dryRun=Nope", "fieldValidation=Nope"):
            check(await api.create(f"{CONFIGS}?{query}", {"metadata": {"name": "a"}}), query, (422,))
            check(await api.update(f"{CONFIGS}/there?{query}", {"metadata": {"name": "there"}}), query, (422,))
            check(await api.patch(f"{CONFIGS}/there?{query}", {}), query, (422,))
        await check_alive(api)

    api_server.run(scenario)


def test_no_bad_options_delete_anything() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for body in BAD_DELETE_BODIES:
            for target in (f"{CONFIGS}/there", CONFIGS):
                check(await api.delete(target, body), (target, body), (400, 422))
        await check_alive(api)

    api_server.run(scenario)


def test_no_path_and_no_method_is_a_fault() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for method, path in itertools.product(VERBS, BAD_PATHS):
            body = b'{"metadata":{"name":"a"}}' if method in ("POST", "PUT", "PATCH") else b""
            answer = await api.request(method, path, body)
            if answer.body == b"404 page not found\n":  # of paths that no API group has, as upstream
                assert answer.status == 404
            elif not answer.body:  # of a document that is not there, as upstream
                assert answer.status in REFUSED, (method, path)
                assert method == "HEAD" or path.startswith("/openapi/v3/"), (method, path)
            elif answer.status != 200:
                check(answer, (method, path))
        await check_alive(api)

    api_server.run(scenario)


def test_a_target_that_cannot_be_read_is_400() -> None:
    for target in BAD_TARGETS:
        with pytest.raises(Exception) as caught:
            parse_line(b"GET " + target.encode("latin-1") + b" HTTP/1.1")
        assert getattr(caught.value, "code", None) == 400, target


def test_bad_scales_evictions_bindings_and_reviews() -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        await api.create(
            f"{DEFAULT}/replicationcontrollers",
            {
                "metadata": {"name": "rc"},
                "spec": {
                    "replicas": 1,
                    "selector": {"a": "b"},
                    "template": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            },
        )
        scale = f"{DEFAULT}/replicationcontrollers/rc/scale"
        reviews = (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        )
        for name, media, body in documents():
            headers = {"content-type": media}
            for target in (f"{DEFAULT}/pods/p/binding", f"{DEFAULT}/bindings", f"{DEFAULT}/pods/p/eviction", *reviews):
                answer = await api.request("POST", target, body, headers)
                if name not in ("a date for a name", "many anchors"):  # fine for a question, which needs no name
                    check(answer, (name, target), (400, 404, 422))
            if name != "many anchors":
                check(await api.request("PUT", scale, body, headers), (name, scale), (400, 404, 422))
        for body in (
            b'{"spec":{"replicas":-1}}',
            b'{"spec":{"replicas":"x"}}',
            b'{"spec":{"replicas":99999999999}}',
            b'{"metadata":{"resourceVersion":"x"}}',
            b'{"metadata":{"name":"other"}}',
            b'{"spec":7}',
        ):
            for media in PATCHES[:2]:
                check(await api.request("PATCH", scale, body, {"content-type": media}), body, (400, 409, 422))
        await check_alive(api)

    api_server.run(scenario)


def test_events_and_autoscalers_that_lie_in_annotations_are_no_fault() -> None:
    """One version's fields live in another's annotations, which anybody may write."""
    name = "autoscaling.alpha.kubernetes.io/"
    lies = (
        "5",
        "[5]",
        "{}",
        "[{}]",
        '"x"',
        "null",
        "[[[",
        '[{"type":7}]',
        '[{"type":"Resource","resource":7}]',
        "[" * 9999,
    )

    async def scenario(api: Api) -> None:
        await prepare(api)
        for version, (number, lie) in itertools.product(("v1", "v2"), enumerate(lies)):
            root = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
            annotations = {f"{name}{part}": lie for part in ("metrics", "behavior", "conditions", "current-metrics")}
            obj = {
                "metadata": {"name": f"h{version}{number}", "annotations": annotations},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
            }
            made = await api.create(root.format(version), obj)
            assert made.status in (201, 400, 422), made
            if made.status == 201:
                for other in ("v1", "v2"):
                    assert (await api.get(f"{root.format(other)}/h{version}{number}")).status == 200

    api_server.run(scenario)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
# Documents that get past the first look: the known fields with anything in them.
near_objects = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["v1", "v2", "", 7]) | json_values,
        "kind": st.sampled_from(["ConfigMap", "Pod", "", 7]) | json_values,
        "metadata": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "name": st.text(max_size=8) | json_values,
                "labels": json_values,
                "annotations": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3) | json_values,
                "finalizers": json_values,
                "ownerReferences": st.lists(json_values, max_size=2),
                "creationTimestamp": st.text(max_size=25) | json_values,
                "managedFields": st.lists(json_values, max_size=2),
            },
        ),
        "data": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3) | json_values,
        "binaryData": json_values,
        "immutable": json_values,
    },
)


def generated(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, derandomize=True
    )


def try_all(bodies: list[tuple[str, str, str, bytes]]) -> None:
    """Send each (method, target, media type, body); answers are a success or a right refusal."""

    async def scenario(api: Api) -> None:
        await prepare(api)
        for method, target, media, body in bodies:
            answer = await api.request(method, target, body, {"content-type": media})
            assert answer.seconds < SECONDS
            if not 200 <= answer.status < 300:
                check(answer, (method, target, media, body))

    api_server.run(scenario)


@generated(25)
@given(st.lists(near_objects | json_values, min_size=20, max_size=20))
def test_generated_documents_are_taken_or_refused(values: list[Any]) -> None:
    requests = []
    for value in values:
        body = json.dumps(value).encode("utf-8", "surrogatepass")
        requests += [("POST", f"{CONFIGS}?dryRun=All", JSON, body), ("PUT", f"{CONFIGS}/there?dryRun=All", YAML, body)]
        requests += [("PATCH", f"{CONFIGS}/there?dryRun=All", media, body) for media in PATCHES]
        requests += [("DELETE", f"{CONFIGS}/there?dryRun=All", JSON, body)]
    try_all(requests)


@generated(25)
@given(st.lists(st.binary(max_size=60), min_size=20, max_size=20))
def test_generated_bytes_are_refused(blobs: list[bytes]) -> None:
    requests = []
    for blob in blobs:
        requests += [("POST", f"{CONFIGS}?dryRun=All", media, blob) for media in (JSON, YAML)]
        requests += [("POST", f"{DEFAULT}/pods?dryRun=All", PROTOBUF, b"k8s\x00" + blob)]
        requests += [("POST", f"{DEFAULT}/pods?dryRun=All", PROTOBUF, b"k8s\x00\x12" + bytes([len(blob)]) + blob)]
        requests += [("PATCH", f"{CONFIGS}/there?dryRun=All", PATCHES[0], blob)]
    try_all(requests)


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12) | st.sampled_from(
    ["a", "in", "(", ")", ",", "=", "!=", "!", "notin", "metadata.name", "0", "-1", "9" * 25, "true", "All", "\\", " "]
)


@generated(25)
@given(st.lists(st.lists(words, min_size=1, max_size=5), min_size=30, max_size=30))
def test_generated_queries_are_taken_or_refused(texts: list[list[str]]) -> None:
    names = (
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "labelSelector",
        "fieldSelector",
        "timeoutSeconds",
        "sendInitialEvents",
        "allowWatchBookmarks",
        "dryRun",
        "propagationPolicy",
        "gracePeriodSeconds",
        "orphanDependents",
        "includeObject",
        "fieldValidation",
    )

    async def scenario(api: Api) -> None:
        await prepare(api)
        for number, parts in enumerate(texts):
            text = "".join(parts)
            name = names[number % len(names)]
            for method, path in (("GET", CONFIGS), ("GET", f"{CONFIGS}/there"), ("DELETE", f"{CONFIGS}/nope")):
                headers = {"authorization": "Bearer admin", "accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
                request = Request(method, path, path, {name: [text]}, headers)
                answer: Any = api.server.application(request)
                answer = await answer if not hasattr(answer, "status") else answer
                assert answer.status == 200 or answer.status in REFUSED | {504}, (name, text, answer)

    api_server.run(scenario)


@generated(25)
@given(st.lists(st.lists(words, min_size=1, max_size=7), min_size=30, max_size=30), st.sampled_from(VERBS))
def test_generated_paths_are_taken_or_refused(texts: list[list[str]], method: str) -> None:
    async def scenario(api: Api) -> None:
        await prepare(api)
        for number, parts in enumerate(texts):
            head = ("/", "/api/v1/", "/apis/", "/api/v1/namespaces/default/", "/apis/apps/v1/namespaces/")[number % 5]
            path = head + "/".join(parts)
            request = Request(method, path, path, {}, {"authorization": "Bearer admin"})
            answer: Any = api.server.application(request)
            answer = await answer if not hasattr(answer, "status") else answer
            assert answer.status in REFUSED | {200, 301}, (path, answer)

    api_server.run(scenario)
