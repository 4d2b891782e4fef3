"""Whole answers in protobuf: objects, lists, events and errors."""

from __future__ import annotations

from typing import Any

from kybern.api import protobuf
from kybern.api.autoscaling_v1 import HorizontalPodAutoscaler
from kybern.api.autoscaling_v1 import Scale as ScaleStruct
from kybern.api.core_v1 import ConfigMap, ConfigMapList
from kybern.api.meta_v1 import APIResourceList, Status
from kybern.apiserver.handlers import protobuf_form
from kybern.apiserver.server import ApiServer
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

CONFIGS = "/api/v1/namespaces/default/configmaps"
PROTOBUF = protobuf.CONTENT_TYPE
META = "g=meta.k8s.io;v=v1"


def config(name: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"l": "1"}}, "data": {"a": "text of it"}}


def read(answer: Answer, struct: type[Any], api_version: str, kind: str) -> dict[str, Any]:
    """The JSON value of a protobuf answer, which must be of this kind."""
    assert answer.headers["content-type"] == PROTOBUF
    envelope = protobuf.decode_envelope(answer.body)
    assert (envelope.api_version, envelope.kind) == (api_version, kind)
    return protobuf.to_json(struct, envelope.raw)


def plain(value: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in value.items() if name not in ("kind", "apiVersion")}


def test_an_object_and_a_list_tell_what_their_json_tells() -> None:
    async def scenario(api: Api) -> None:
        made = await api.create(CONFIGS, config(), accept=PROTOBUF)
        assert made.status == 201
        for name in ("b", "c"):
            await api.create(CONFIGS, config(name))
        wanted = (await api.get(f"{CONFIGS}/a")).ok()
        for answer in (made, await api.get(f"{CONFIGS}/a", accept=f"{PROTOBUF},application/json")):
            assert read(answer, ConfigMap, "v1", "ConfigMap") == plain(wanted)
        page = (await api.get(f"{CONFIGS}?limit=2")).ok()
        told = read(await api.get(f"{CONFIGS}?limit=2", accept=PROTOBUF), ConfigMapList, "v1", "ConfigMapList")
        assert told == {**plain(page), "items": [plain(item) for item in page["items"]]}
        assert told["metadata"]["remainingItemCount"] == 1

    api_server.run(scenario)


def test_long_lists_let_others_have_a_turn_and_are_encoded_once() -> None:
    async def scenario(api: Api) -> None:
        count = protobuf_form.AT_ONCE * 2 + 1
        for number in range(count):
            await api.create(CONFIGS, config(f"c{number:04}"))
        first = await api.get(CONFIGS, accept=PROTOBUF)
        told = read(first, ConfigMapList, "v1", "ConfigMapList")
        assert told["items"] == [plain(item) for item in (await api.get(CONFIGS)).ok()["items"]]
        assert (await api.get(CONFIGS, accept=PROTOBUF)).body == first.body
        assert all(len(entry.other_forms or ()) == 1 for entry in entries(api.server))

    def entries(server: ApiServer) -> list[Any]:
        return list(server.registry.objects.stores["configmaps"].cache.entries("default"))

    api_server.run(scenario)


def test_another_version_is_encoded_as_itself() -> None:
    async def scenario(api: Api) -> None:
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}
        (await api.create(path, {"metadata": {"name": "h"}, "spec": spec})).ok()
        older = path.replace("v2", "v1") + "/h"
        told = read(
            await api.get(older, accept=PROTOBUF), HorizontalPodAutoscaler, "autoscaling/v1", "HorizontalPodAutoscaler"
        )
        assert told["spec"] == (await api.get(older)).ok()["spec"]

    api_server.run(scenario)


def test_events_are_frames_of_protobuf() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{CONFIGS}?{query}", accept=PROTOBUF) as watched:
            first = await event(watched)
            assert (first[0], first[1].kind) == ("ADDED", "ConfigMap")
            kind, document = await event(watched)
            told = protobuf.to_json(ConfigMap, document.raw)
            assert (kind, told["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
            gone = (await api.delete(f"{CONFIGS}/a")).ok()
            kind, document = await event(watched)
            told = protobuf.to_json(ConfigMap, document.raw)
            assert (kind, told["metadata"]["uid"]) == ("DELETED", gone["details"]["uid"])
            assert int(told["metadata"]["resourceVersion"]) > int(
                protobuf.to_json(ConfigMap, first[1].raw)["metadata"]["resourceVersion"]
            )

    async def event(watched: Any) -> tuple[str, protobuf.Envelope]:
        frame = await watched.sink.received.get()
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        fields = dict(protobuf.fields(frame[4:]))
        (_, document) = protobuf.fields(fields[2])[0]
        return fields[1].decode(), protobuf.decode_envelope(document)

    api_server.run(scenario)


def test_what_is_no_stored_object_has_protobuf_as_well() -> None:
    async def scenario(api: Api) -> None:
        missing = await api.get(f"{CONFIGS}/nope", accept=PROTOBUF)
        assert missing.status == 404
        status = read(missing, Status, "v1", "Status")
        assert (status["reason"], status["details"]["name"]) == ("NotFound", "nope")
        resources = read(await api.get("/apis/apps/v1", accept=PROTOBUF), APIResourceList, "v1", "APIResourceList")
        by_json = (await api.get("/apis/apps/v1")).ok()["resources"]
        assert [r["verbs"] for r in by_json] == [r["verbs"] for r in resources["resources"]]
        sets = "/apis/apps/v1/namespaces/default/replicasets"
        labels = {"a": "b"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        (await api.create(sets, {"metadata": {"name": "s"}, "spec": spec})).ok()
        scale = read(await api.get(f"{sets}/s/scale", accept=PROTOBUF), ScaleStruct, "autoscaling/v1", "Scale")
        assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (2, "a=b")
        gone = await api.delete(f"{sets}/s", accept=PROTOBUF)
        assert read(gone, Status, "v1", "Status")["status"] == "Success"

    api_server.run(scenario)


def test_metadata_alone_comes_as_protobuf_and_tables_do_not() -> None:
    async def scenario(api: Api) -> None:
        await api.create(CONFIGS, config())
        answer = await api.get(f"{CONFIGS}/a", accept=f"{PROTOBUF};as=PartialObjectMetadata;{META}")
        envelope = protobuf.decode_envelope(answer.body)
        assert (envelope.api_version, envelope.kind) == ("meta.k8s.io/v1", "PartialObjectMetadata")
        assert b"text of it" not in envelope.raw
        answer = await api.get(CONFIGS, accept=f"{PROTOBUF};as=PartialObjectMetadataList;{META}")
        assert protobuf.decode_envelope(answer.body).kind == "PartialObjectMetadataList"
        refused = await api.get(CONFIGS, accept=f"{PROTOBUF};as=Table;{META}")
        assert (refused.status, refused.headers["content-type"]) == (406, "application/json")

    api_server.run(scenario)
