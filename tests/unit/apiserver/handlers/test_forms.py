"""One object in many forms: versions, tables, metadata only, YAML, protobuf."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from kybern.api.protobuf_fields import FIELDS
from kybern.apiserver.handlers import forms
from kybern.testing import api_server
from kybern.testing.api_server import Api

DEFAULT = "/api/v1/namespaces/default"
CONFIGS = f"{DEFAULT}/configmaps"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIALS = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def config(name: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"l": "1"}}, "data": {"a": "b", "n": "1"}}


def untyped(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}


def test_items_of_a_list_do_not_repeat_what_its_kind_says() -> None:
    async def scenario(api: Api) -> None:
        made = [(await api.create(CONFIGS, config(name))).ok() for name in ("a", "b")]
        listed = (await api.get(CONFIGS)).ok()
        assert (listed["kind"], listed["items"]) == ("ConfigMapList", [untyped(m) for m in made])

    api_server.run(scenario)


def test_an_item_whose_type_stands_elsewhere_loses_it_as_well() -> None:
    data = b'{"metadata":{"name":"a"},"apiVersion":"v1","kind":"ConfigMap"}'
    assert forms._without_type(data, b'{"kind":') == b'{"metadata":{"name":"a"}}'


def test_a_table_has_a_row_an_object() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config("a"))
        await api.create(CONFIGS, config("b"))
        whole = (await api.get(CONFIGS)).ok()
        table = (await api.get(CONFIGS, accept=TABLE)).ok()
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert table["metadata"]["resourceVersion"] == whole["metadata"]["resourceVersion"]
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert [row["cells"][:2] for row in table["rows"]] == [["a", 2], ["b", 2]]
        first = table["rows"][0]["object"]
        assert first["kind"] == "PartialObjectMetadata"
        assert first["metadata"] == whole["items"][0]["metadata"]
        rows = (await api.get(f"{CONFIGS}?includeObject=Object", accept=TABLE)).ok()["rows"]
        assert rows[0]["object"]["data"] == {"a": "b", "n": "1"}
        rows = (await api.get(f"{CONFIGS}?includeObject=None", accept=TABLE)).ok()["rows"]
        assert rows[0].get("object") is None
        page = (await api.get(f"{CONFIGS}?limit=1", accept=TABLE)).ok()
        assert page["metadata"]["continue"]
        assert (await api.get(f"{CONFIGS}?includeObject=All", accept=TABLE)).status == 400

    api_server.run(scenario)


@pytest.mark.thorough
def test_rows_of_a_watched_table_are_as_old_as_their_telling() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        for seconds, age in ((0, "0s"), (90, "90s"), (3600, "61m")):
            await api.clock.advance(seconds)  # type: ignore[attr-defined]
            async with api.watch(f"{CONFIGS}?watch=1", accept=TABLE) as watched:
                event = await watched.next()
                assert event["object"]["kind"] == "Table"
                assert event["object"]["rows"][0]["cells"] == ["a", 2, age]

    api_server.run(scenario)


def test_only_the_first_event_of_a_watch_tells_the_columns() -> None:
    def columns(event: dict[str, Any]) -> bool:
        return event["object"]["columnDefinitions"] is not None

    async def scenario(api: Api) -> None:
        options = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{CONFIGS}?{options}", accept=TABLE) as watched:
            assert columns(await watched.next())  # the bookmark: there is nothing yet
            await api.create(CONFIGS, config("a"))
            assert not columns(await watched.next())
        await api.create(CONFIGS, config("b"))
        async with api.watch(f"{CONFIGS}?watch=1", accept=TABLE) as watched:
            assert [columns(await watched.next()) for _ in "ab"] == [True, False]
            await api.delete(f"{CONFIGS}/a")
            assert not columns(await watched.next())
        revision = (await api.get(CONFIGS)).ok()["metadata"]["resourceVersion"]
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={revision}", accept=TABLE) as watched:
            for name in ("c", "d"):
                await api.create(CONFIGS, config(name))
            assert [columns(await watched.next()) for _ in "cd"] == [True, False]

    api_server.run(scenario)


def test_metadata_only_to_get_to_list_and_to_watch() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(CONFIGS, config())).ok()
        one = (await api.get(f"{CONFIGS}/a", accept=PARTIAL)).ok()
        assert one == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}
        many = (await api.get(CONFIGS, accept=PARTIALS)).ok()
        assert many["kind"] == "PartialObjectMetadataList"
        assert many["items"] == [one]
        async with api.watch(f"{CONFIGS}?watch=1", accept=PARTIAL) as watched:
            assert (await watched.next())["object"] == one
            await api.delete(f"{CONFIGS}/a")
            gone = await watched.next()
            assert (gone["type"], gone["object"]["kind"]) == ("DELETED", "PartialObjectMetadata")
        assert (await api.get(CONFIGS, accept=PARTIAL)).status == 406
        assert (await api.get(f"{CONFIGS}/a", accept=PARTIALS)).status in (404, 406)

    api_server.run(scenario)


def test_a_client_gets_the_first_form_that_can_be_had() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        for accept, content_type, kind in (
            (f"application/json,{PROTOBUF}", "application/json", "ConfigMap"),
            ("text/html,*/*;q=0.5", "application/json", "ConfigMap"),
            (f"{TABLE},application/json", "application/json", "Table"),
            ("application/json;as=Table;g=meta.k8s.io;v=v9,application/json", "application/json", "ConfigMap"),
            ("application/json;q=0.1,application/yaml", "application/yaml", "ConfigMap"),
        ):
            answer = await api.get(f"{CONFIGS}/a", accept=accept)
            assert answer.headers["content-type"] == content_type, accept
            assert yaml.safe_load(answer.body)["kind"] == kind, accept

    api_server.run(scenario)


def test_yaml_goes_in_and_comes_out() -> None:
    text = b"# a comment\nmetadata:\n  name: a\ndata:\n  yes: 'on'\n  multi: |\n    one\n    two\n"

    async def scenario(api: Api) -> None:
        made = await api.create(CONFIGS, text, content_type="application/yaml", accept="application/yaml")
        assert made.status == 201
        read = yaml.safe_load(made.body)
        assert read["data"] == {"true": "on", "multi": "one\ntwo\n"}
        assert (await api.get(f"{CONFIGS}/a")).ok() == read
        changed = made.body.replace(b"two", b"three")
        updated = await api.request("PUT", f"{CONFIGS}/a", changed, {"content-type": "application/yaml"})
        assert updated.ok()["data"]["multi"] == "one\nthree\n"
        listed = yaml.safe_load((await api.get(CONFIGS, accept="application/yaml")).body)
        assert listed["items"] == [untyped(updated.json)]

    api_server.run(scenario)


# -- protobuf, encoded by hand from the table of fields -------------------------------------------------------------


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def piece(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(message: str, value: dict[str, Any]) -> bytes:
    """A JSON value as a message of the table, as far as these tests need it."""
    module = message.partition(".")[0]
    out = b""
    for entry in FIELDS[message].split():
        number, name, kind = entry.split(":")
        name = name.rstrip("?")
        if name not in value:
            continue
        label, kind = (kind[0], kind[1:]) if kind[0] in "*%" else ("", kind)
        items = value[name] if label == "*" else list(value[name].items()) if label == "%" else [value[name]]
        for item in items:
            if label == "%":
                out += piece(int(number), piece(1, item[0].encode()) + piece(2, one(module, kind, item[1])))
            elif kind in ("i", "b"):
                out += varint(int(number) << 3) + varint(int(item))
            else:
                out += piece(int(number), one(module, kind, item))
    return out


def one(module: str, kind: str, item: Any) -> bytes:
    match kind:
        case "s":
            return bytes(item.encode())
        case "y":
            return base64.b64decode(item)
        case "Q":
            return piece(1, item.encode())
        case "O":
            return varint(1 << 3) + varint(1) + piece(3, item.encode()) if isinstance(item, str) else (
                varint(2 << 3) + varint(item))  # fmt: skip
        case _:
            return encode(kind if "." in kind else f"{module}.{kind}", item)


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + piece(1, piece(1, api_version.encode()) + piece(2, kind.encode())) + piece(2, raw)


@pytest.mark.parametrize(
    ("target", "api_version", "message", "value"),
    [
        (CONFIGS, "v1", "core_v1.ConfigMap", {**config(), "binaryData": {"b": "AP8="}, "immutable": True}),
        (f"{DEFAULT}/secrets", "v1", "core_v1.Secret",
         {"metadata": {"name": "a"}, "data": {"k": "AAECAw=="}, "type": "Opaque"}),
        (f"{DEFAULT}/services", "v1", "core_v1.Service",
         {"metadata": {"name": "a"}, "spec": {"selector": {"x": "y"}, "type": "ClusterIP",
          "ports": [{"name": "p", "port": 80, "targetPort": "http"}, {"name": "q", "port": 81, "targetPort": 8081}]}}),
        ("/apis/apps/v1/namespaces/default/deployments", "apps/v1", "apps_v1.Deployment",
         {"metadata": {"name": "a", "labels": {"l": "1"}}, "spec": {
          "replicas": 0, "selector": {"matchLabels": {"x": "y"}},
          "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [
              {"name": "c", "image": "i", "env": [{"name": "E", "value": "v"}],
               "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}]}}}}),
    ],
)  # fmt: skip
def test_what_is_sent_as_protobuf_is_what_is_sent_as_json(
    target: str, api_version: str, message: str, value: dict[str, Any]
) -> None:
    async def scenario(api: Api) -> None:
        kind = message.partition(".")[2]
        by_json = (await api.create(f"{target}?dryRun=All", value)).ok()
        body = envelope(api_version, kind, encode(message, value))
        by_protobuf = (await api.create(target, body, content_type=PROTOBUF)).ok()
        for obj in (by_json, by_protobuf):
            for name in ("uid", "resourceVersion"):
                obj["metadata"].pop(name, None)
            for name in ("clusterIP", "clusterIPs"):
                obj.get("spec", {}).pop(name, None)
        assert by_protobuf == by_json
        wrong = envelope(api_version, "Node", encode(message, value))
        assert (await api.create(target, wrong, content_type=PROTOBUF)).status == 400

    api_server.run(scenario)


def test_delete_options_come_as_protobuf_too() -> None:
    async def scenario(api: Api) -> None:
        made = (await api.create(CONFIGS, config())).ok()
        options: dict[str, Any] = {"preconditions": {"uid": "other"}}
        body = envelope("v1", "DeleteOptions", encode("meta_v1.DeleteOptions", options))
        assert (await api.delete(f"{CONFIGS}/a", body, content_type=PROTOBUF)).status == 409
        options = {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Background"}
        body = envelope("v1", "DeleteOptions", encode("meta_v1.DeleteOptions", options))
        assert (await api.delete(f"{CONFIGS}/a", body, content_type=PROTOBUF)).status == 200

    api_server.run(scenario)


# -- versions -------------------------------------------------------------------------------------------------------


def test_events_of_both_groups_are_one() -> None:
    core = f"{DEFAULT}/events"
    newer = "/apis/events.k8s.io/v1/namespaces/default/events"

    async def scenario(api: Api) -> None:
        old = {
            "metadata": {"name": "old", "namespace": "default"}, "reason": "R", "message": "m", "type": "Normal",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "count": 3,
            "source": {"component": "c", "host": "h"}, "firstTimestamp": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        (await api.create(core, old)).ok()
        seen = (await api.get(f"{newer}/old")).ok()
        assert (seen["apiVersion"], seen["kind"]) == ("events.k8s.io/v1", "Event")
        assert (seen["note"], seen["regarding"]["name"], seen["deprecatedCount"]) == ("m", "p", 3)
        assert seen["deprecatedSource"] == {"component": "c", "host": "h"}
        new = {
            "metadata": {"name": "new", "namespace": "default"}, "reason": "R", "note": "n", "type": "Normal",
            "action": "A", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reportingController": "c.io/x", "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000001Z",
        }  # fmt: skip
        (await api.create(newer, new)).ok()
        back = (await api.get(f"{core}/new")).ok()
        assert (back["message"], back["involvedObject"]["name"]) == ("n", "p")
        assert back["reportingComponent"] == "c.io/x"
        assert back["eventTime"] == "2026-01-01T00:00:00.000001Z"
        for target in (core, newer):
            assert [e["metadata"]["name"] for e in (await api.get(target)).ok()["items"]] == ["new", "old"]
        async with api.watch(f"{newer}?watch=1&fieldSelector=reason%3DR") as watched:
            assert {(await watched.next())["object"]["apiVersion"] for _ in range(2)} == {"events.k8s.io/v1"}
        patched = (await api.patch(f"{newer}/new", {"metadata": {"labels": {"a": "b"}}})).ok()
        assert patched["metadata"]["labels"] == {"a": "b"} and patched["note"] == "n"
        assert (await api.get(f"{core}/new")).ok()["metadata"]["labels"] == {"a": "b"}

    api_server.run(scenario)


def test_autoscalers_of_both_versions_are_one() -> None:
    first, second = (f"/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers" for v in ("v1", "v2"))

    async def scenario(api: Api) -> None:
        target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
        old = {
            "metadata": {"name": "h"},
            "spec": {"maxReplicas": 5, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 60},
        }
        (await api.create(first, old)).ok()
        new = (await api.get(f"{second}/h")).ok()
        cpu = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
        }
        assert new["spec"]["metrics"] == [cpu]
        memory = {
            "type": "Resource",
            "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}},
        }
        new["spec"]["metrics"] = [cpu, memory]
        (await api.update(f"{second}/h", new)).ok()
        again = (await api.get(f"{first}/h")).ok()
        assert again["spec"]["targetCPUUtilizationPercentage"] == 60
        again["spec"]["maxReplicas"] = 6
        (await api.update(f"{first}/h", again)).ok()
        final = (await api.get(f"{second}/h")).ok()
        assert final["spec"]["metrics"] == [cpu, memory]  # what v1 can't say is not lost through it
        assert final["spec"]["maxReplicas"] == 6

    api_server.run(scenario)


# -- beside resources -----------------------------------------------------------------------------------------------


def test_discovery_openapi_version_health_and_metrics_are_served() -> None:
    async def scenario(api: Api) -> None:
        assert (await api.get("/api")).ok()["versions"] == ["v1"]
        groups = {g["name"] for g in (await api.get("/apis")).ok()["groups"]}
        assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups
        assert "paths" in (await api.get("/openapi/v3")).ok()
        assert (await api.get("/version")).ok()["minor"] == "36"
        for path in ("/healthz", "/livez", "/readyz", "/readyz/ping", "/"):
            assert (await api.get(path)).status == 200, path
        await api.get(f"{DEFAULT}/pods/x/made-up-by-a-client")
        await api.get(f"{CONFIGS}/none")
        text = (await api.get("/metrics")).body.decode()
        assert 'apiserver_request_total{code="404"' in text
        assert 'resource="configmaps"' in text
        assert "made-up-by-a-client" not in text
        assert (await api.request("HEAD", CONFIGS)).status == 405  # as upstream: no path of objects has HEAD

    api_server.run(scenario)
