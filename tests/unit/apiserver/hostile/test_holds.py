"""Requests that compute for long: others are answered meanwhile. How long each takes, `python -m tools.holds` says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest

from kybern.testing import live_server
from kybern.testing.live_server import Live

pytestmark = pytest.mark.thorough

MAPS = "/api/v1/namespaces/default/configmaps"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEAST = 5  # answers to others meanwhile


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, method: str, target: str, body: bytes = b"", media: str = "application/json") -> int:
        """The status; the body is read and left."""
        head = f"{method} {target} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer admin\r\nContent-Type: {media}\r\n"
        self._writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await self._writer.drain()
        answer = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in answer.decode("latin-1").lower().split("\r\n") if ": " in line)
        await self._reader.readexactly(int(fields["content-length"]))
        return int(answer[9:12])

    def close(self) -> None:
        self._writer.close()


async def connect(live: Live) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", live.port, limit=1 << 20))


def config_map(name: str, **more: Any) -> bytes:
    return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more})


async def answers_meanwhile(live: Live, method: str, target: str, body: bytes, media: str) -> tuple[int, int]:
    """The status of a long request, and how many others were answered before it."""
    heavy, light = await connect(live), await connect(live)
    count = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            long = tasks.create_task(heavy.ask(method, target, body, media), name="long")
            while not long.done():
                assert await light.ask("GET", f"{MAPS}/small") == 200
                count += not long.done()
        return long.result(), count
    finally:
        heavy.close()
        light.close()


def check(target: str, body: bytes, *, method: str = "POST", media: str = "application/json", before: Any = ()) -> None:
    async def scenario(live: Live) -> tuple[int, int]:
        with contextlib.closing(await connect(live)) as client:
            for where, value in ((MAPS, config_map("small")), *before):
                assert await client.ask("POST", where, value) == 201
        return await answers_meanwhile(live, method, target, body, media)

    status, count = live_server.run(scenario)
    assert status < 500
    assert count >= LEAST, f"only {count} others were answered meanwhile"


def policy(name: str, expression: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    return (
        (POLICIES, msgspec.json.encode({"metadata": {"name": name}, "spec": spec})),
        (BINDINGS, msgspec.json.encode({"metadata": {"name": name}, "spec": bound})),
    )


@pytest.mark.parametrize(
    "expression",
    [
        "object.data.all(a, object.data.all(b, a + b != 'x'))",
        "object.data.all(a, object.data == object.data)",
        "object.data.all(a, object.data.all(b, cidr('10.0.0.0/8').containsIP('10.1.1.1')))",
    ],
)
def test_a_policy_that_spends_its_cost_keeps_nobody_waiting(expression: str) -> None:
    body = config_map("large", data={f"k{i}": "a" * 20 for i in range(2000)})
    check(MAPS, body, before=policy("p", expression))


def test_the_reading_of_a_large_manifest_keeps_nobody_waiting() -> None:
    entries = b"".join(b" k%06d: a\n" % i for i in range(60_000))
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n" + entries
    check(MAPS, body, media="application/yaml")


def test_an_object_of_many_labels_keeps_nobody_waiting() -> None:
    labels = {f"l{i}": "a" for i in range(100_000)}
    check(MAPS, msgspec.json.encode({"metadata": {"name": "a", "labels": labels}}))


def test_an_object_of_many_owners_keeps_nobody_waiting() -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": f"p{i}", "uid": f"u{i}"} for i in range(30_000)]
    check(MAPS, msgspec.json.encode({"metadata": {"name": "a", "ownerReferences": owners}}))


def test_an_object_of_many_managers_keeps_nobody_waiting() -> None:
    managers = [
        {
            "manager": f"m{i}", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {f"f:k{i}": {}}},
        }
        for i in range(15_000)
    ]  # fmt: skip
    check(MAPS, msgspec.json.encode({"metadata": {"name": "a", "managedFields": managers}}))


def test_an_apply_of_many_entries_keeps_nobody_waiting() -> None:
    body = config_map("a", data={f"k{i}": "b" for i in range(50_000)})
    check(f"{MAPS}/a?fieldManager=x", body, method="PATCH", media="application/apply-patch+yaml")


def test_a_patch_of_many_operations_keeps_nobody_waiting() -> None:
    before = ((MAPS, config_map("a", data={f"k{i}": "" for i in range(20_000)})),)
    same = {"op": "test", "path": "/data", "value": {f"k{i}": "" for i in range(20_000)}}
    patch = [same, *({"op": "copy", "from": "/data/k1", "path": f"/data/n{i}"} for i in range(9_000))]
    body = msgspec.json.encode(patch)
    check(f"{MAPS}/a", body, method="PATCH", media="application/json-patch+json", before=before)


def test_a_definition_of_many_fields_keeps_nobody_waiting() -> None:
    inner = {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}], "maxLength": 5}
    spec = {"type": "object", "properties": {f"f{i}": inner for i in range(600)}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    definition = {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    check(DEFINITIONS, msgspec.json.encode(definition))
