"""Definitions over time: names, restarts, several servers over one store, changes of the schema."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.apiserver.custom_resources import conditions, names
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.server import ApiServer
from kybern.storage.memory import MemoryStore
from kybern.testing.api_server import ADDRESS, ADMIN, Api, run
from kybern.testing.clock import FakeClock
from kybern.testing.definitions import (
    DEFINITIONS,
    custom,
    definition,
    establish,
    version,
    wait_for,
    wait_until_gone,
)

NAME = "crontabs.stable.example.com"


def typed(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}


def test_a_restart_brings_definitions_and_objects_back() -> None:
    store = MemoryStore()
    text = {"type": "string"}

    async def before(api: Api) -> str:
        where = await establish(api, definition(schema=typed(a=text), names={"shortNames": ["ct"]}))
        (await api.create(where, custom("a", spec={"a": "x"}))).ok()
        return where

    where = run(before, store=store)

    async def after(api: Api) -> None:
        assert (await api.get(f"{where}/a")).ok()["spec"] == {"a": "x"}
        rows = (await api.get("/apis/stable.example.com/v1")).ok()["resources"]
        assert [row["name"] for row in rows] == ["crontabs"]
        (await api.create(where, custom("b", spec={"a": "y"}))).ok()

    run(after, store=store)


def test_two_servers_over_one_store_serve_the_same_definitions() -> None:
    async def scenario() -> None:
        store, clock = MemoryStore(), FakeClock()
        tokens = f'{ADMIN.name},{ADMIN.name},0,"system:masters"\n'
        options = ServerOptions(static_tokens=tokens, advertise_address=ADDRESS)
        async with asyncio.TaskGroup() as tasks:
            upkeep = tasks.create_task(_serve_two(options, store, clock))
            await upkeep

    asyncio.run(scenario())


async def _serve_two(options: ServerOptions, store: MemoryStore, clock: FakeClock) -> None:
    async with asyncio.TaskGroup() as tasks:
        apis = []
        for seed in (1, 2):
            server = ApiServer(options, store, clock, random.Random(seed))
            started = asyncio.Event()
            running = tasks.create_task(_keep(server, started))
            await started.wait()
            apis.append((Api(server, clock, ADMIN, tasks), running))
        (one, first), (two, second) = apis
        where = await establish(one, definition())
        await wait_for(two, NAME, "Established", "True")
        (await two.create(where, custom("a", spec={"x": 1}))).ok()
        made = (await two.get(f"{where}/a")).ok()
        revision = made["metadata"]["resourceVersion"]
        assert (await one.get(f"{where}/a?resourceVersion={revision}")).ok() == made
        (await two.delete(f"{DEFINITIONS}/{NAME}")).ok()
        await wait_until_gone(one, f"{DEFINITIONS}/{NAME}")
        await wait_until_gone(one, where)
        await wait_until_gone(two, where)
        first.cancel()
        second.cancel()


async def _keep(server: ApiServer, started: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        started.set()


def test_a_changed_schema_holds_from_the_next_request_on() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition(schema=typed(a={"type": "string"})))
        (await api.create(where, custom("a", spec={"a": "long"}))).ok()
        async with api.watch(f"{where}?watch=true&resourceVersion=0") as watch:
            assert await watch.take(1) == [("ADDED", "a")]
            found = (await api.get(f"{DEFINITIONS}/{NAME}")).ok()
            fields = {"a": {"type": "string", "maxLength": 2}, "b": {"type": "integer", "default": 5}}
            found["spec"]["versions"] = [version("v1", typed(**fields))]
            (await api.update(f"{DEFINITIONS}/{NAME}", found)).ok()
            # Defaults show at once; what is stored and too long by now may stay as long as nobody changes it.
            assert (await api.get(f"{where}/a")).ok()["spec"] == {"a": "long", "b": 5}
            assert watch.sink.closed
        (await api.patch(f"{where}/a", {"metadata": {"labels": {"x": "y"}}})).ok()
        (await api.patch(f"{where}/a", {"spec": {"b": 6}})).ok()
        assert (await api.patch(f"{where}/a", {"spec": {"a": "other"}})).status == 422

    run(scenario)


def test_an_update_without_a_change_migrates_what_is_stored() -> None:
    store = MemoryStore()

    async def scenario(api: Api) -> None:
        where = await establish(api, definition(versions=[version("v1"), version("v2")]))
        (await api.create(where, custom("a"))).ok()
        found = (await api.get(f"{DEFINITIONS}/{NAME}")).ok()
        found["spec"]["versions"] = [{**version("v1"), "storage": False}, {**version("v2"), "storage": True}]
        (await api.update(f"{DEFINITIONS}/{NAME}", found)).ok()
        before = (await api.get(f"{where}/a")).ok()
        after = (await api.update(f"{where}/a", before)).ok()
        assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        again = (await api.update(f"{where}/a", after)).ok()
        assert again["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        record = (await store.list("/registry/stable.example.com/crontabs/")).records[0]
        assert b'"apiVersion":"stable.example.com/v2"' in record.value

    run(scenario, store=store)


def test_names_that_another_definition_has_are_not_given_twice() -> None:
    async def scenario(api: Api) -> None:
        await establish(api, definition(names={"shortNames": ["ct"]}))
        other = definition("others", "CronTab", names={"shortNames": ["ct"], "singular": "other"})
        (await api.create(DEFINITIONS, other)).ok()
        found = await wait_for(api, "others.stable.example.com", "NamesAccepted", "False")
        told = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
        assert told == {"NamesAccepted": ("False", "ListKindConflict"), "Established": ("False", "NotAccepted")}
        assert (await api.get("/apis/stable.example.com/v1/others")).status == 404
        (await api.delete(f"{DEFINITIONS}/{NAME}")).ok()
        await wait_for(api, "others.stable.example.com", "Established", "True")
        assert (await api.get("/apis/stable.example.com/v1/others")).status == 200

    run(scenario)


def test_accepted_names_stay_when_new_ones_are_taken() -> None:
    def made(plural: str, short: str, accepted: list[str]) -> CustomResourceDefinition:
        found, _ = codec.from_json(
            CustomResourceDefinition,
            {
                "metadata": {"name": plural, "uid": plural},
                "spec": {"group": "g.x", "names": {"plural": plural, "kind": plural.title(), "shortNames": [short]}},
                "status": {"acceptedNames": {"plural": plural, "kind": plural.title(), "shortNames": accepted}},
            },
        )
        return found

    verdict = names.plan_names(made("bs", "x", ["b"]), [made("as", "x", ["x"])])
    assert (verdict.reason, verdict.accepted.shortNames) == ("ShortNamesConflict", ["b"])


def test_groups_of_kubernetes_need_an_approval() -> None:
    assert conditions.judge_approval("example.com", None) is None
    told = {
        None: ("False", "MissingAnnotation"),
        "https://github.com/kubernetes/kubernetes/pull/1": ("True", "ApprovedAnnotation"),
        "unapproved, for tests": ("False", "UnapprovedAnnotation"),
        "whatever": ("False", "InvalidAnnotation"),
    }
    for annotation, wanted in told.items():
        judged = conditions.judge_approval("batch.k8s.io", annotation)
        assert judged is not None and judged[:2] == wanted


def test_status_and_scale_are_written_apart() -> None:
    async def scenario(api: Api) -> None:
        paths = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
        where = await establish(api, definition(subresources={"status": {}, "scale": paths}))
        made = (await api.create(where, custom("a", spec={"replicas": 3}, status={"replicas": 9}))).ok()
        assert "status" not in made
        body = {**made, "spec": {"replicas": 7}, "status": {"replicas": 2, "selector": "a=b"}}
        body["metadata"] = {**made["metadata"], "labels": {"x": "y"}}
        found = (await api.update(f"{where}/a/status", body)).ok()
        assert found["spec"] == {"replicas": 3} and found["status"]["replicas"] == 2
        assert "labels" not in found["metadata"] and found["metadata"]["generation"] == 1
        scale = (await api.get(f"{where}/a/scale")).ok()
        assert (scale["spec"], scale["status"]) == ({"replicas": 3}, {"replicas": 2, "selector": "a=b"})
        scale["spec"]["replicas"] = 5
        assert (await api.update(f"{where}/a/scale", scale)).ok()["spec"] == {"replicas": 5}
        assert (await api.get(f"{where}/a")).ok()["metadata"]["generation"] == 2
        refused = await api.patch(f"{where}/a", {"spec": {"replicas": "five"}})
        assert refused.status == 422 and "accessor error" in refused.json["message"]
        ignored = (await api.patch(f"{where}/a", {"status": {"replicas": 100}})).ok()
        assert ignored["status"]["replicas"] == 2

    run(scenario)


def test_selectable_fields_select_lists_and_watches() -> None:
    async def scenario(api: Api) -> None:
        fields = {"color": {"type": "string"}, "size": {"type": "integer"}}
        paths = [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]
        where = await establish(api, definition(schema=typed(**fields), selectableFields=paths))
        for name, color, size in (("a", "red", 1), ("b", "blue", 2), ("c", "red", 2)):
            (await api.create(where, custom(name, spec={"color": color, "size": size}))).ok()

        async def listed(selector: str) -> list[str]:
            found = (await api.get(f"{where}?fieldSelector={selector}")).ok()["items"]
            return [o["metadata"]["name"] for o in found]

        assert await listed("spec.color=red") == ["a", "c"]
        assert await listed("spec.color=red,spec.size=2") == ["c"]
        assert await listed("spec.color!=red") == ["b"]
        assert (await api.get(f"{where}?fieldSelector=spec.shape=round")).status == 400
        async with api.watch(f"{where}?watch=true&fieldSelector=spec.color=blue") as watch:
            assert await watch.take(1) == [("ADDED", "b")]
            (await api.patch(f"{where}/a", {"spec": {"color": "blue"}})).ok()
            (await api.patch(f"{where}/b", {"spec": {"color": "red"}})).ok()
            assert await watch.take(2) == [("ADDED", "a"), ("DELETED", "b")]

    run(scenario)


def test_columns_are_printed_as_the_definition_says() -> None:
    async def scenario(api: Api) -> None:
        columns = [
            {"name": "Image", "type": "string", "jsonPath": ".spec.image", "description": "What runs"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "On", "type": "boolean", "jsonPath": ".spec.on", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]
        where = await establish(api, definition(additionalPrinterColumns=columns))
        status = {"conditions": [{"type": "Other", "status": "no"}, {"type": "Ready", "status": "True"}]}
        spec = {"image": "x", "replicas": 2, "on": True}
        (await api.create(where, custom("a", spec=spec, status=status))).ok()
        (await api.create(where, custom("b", spec={"replicas": "text"}))).ok()
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        table = (await api.get(where, accept=accept)).ok()
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Image", "Replicas", "Ready", "On", "Age"]
        assert table["columnDefinitions"][4]["priority"] == 1
        assert [row["cells"] for row in table["rows"]] == [
            ["a", "x", 2, "True", True, "0s"],
            ["b", None, None, None, None, "0s"],
        ]

    run(scenario)


def test_a_deprecated_version_warns() -> None:
    async def scenario(api: Api) -> None:
        plain = {**version("v1"), "deprecated": True}
        own = {**version("v2"), "deprecated": True, "deprecationWarning": "use v3"}
        where = await establish(api, definition(versions=[plain, own, version("v3")]))
        assert (await api.get(where)).warnings == ["stable.example.com/v1 CronTab is deprecated"]
        assert (await api.get(where.replace("/v1/", "/v2/"))).warnings == ["use v3"]
        assert (await api.get(where.replace("/v1/", "/v3/"))).warnings == []

    run(scenario)


def test_a_version_that_is_not_served_is_not_there() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition(versions=[version("v1"), {**version("v2"), "served": False}]))
        (await api.create(where, custom("a"))).ok()
        assert (await api.get(where.replace("/v1/", "/v2/"))).status == 404
        group = (await api.get("/apis/stable.example.com")).ok()
        assert [v["version"] for v in group["versions"]] == ["v1"]

    run(scenario)


def test_no_strategic_merge_and_no_protobuf() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition())
        (await api.create(where, custom("a"))).ok()
        refused = await api.patch(f"{where}/a", {"spec": {}}, kind="strategic-merge")
        assert refused.status == 415 and "strategic" not in refused.json["message"]
        protobuf = await api.create(where, b"k8s\x00", content_type="application/vnd.kubernetes.protobuf")
        assert protobuf.status == 415

    run(scenario)


def test_a_definition_of_many_hundred_fields_is_served() -> None:
    def object_of(depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            f"text{i}": {"type": "string", "maxLength": 64, "pattern": "^[a-z]*$", "description": "words " * 20}
            for i in range(6)
        }
        fields["list"] = {"type": "array", "items": {"type": "string", "format": "ipv4"}, "maxItems": 5}
        fields["choice"] = {"type": "string", "enum": ["a", "b", "c"], "default": "a"}
        if depth:
            fields |= {f"inner{i}": object_of(depth - 1) for i in range(4)}
        return {"type": "object", "properties": fields}

    def count(schema: dict[str, Any]) -> int:
        return sum(1 + count(inner) for inner in schema.get("properties", {}).values())

    schema = {"type": "object", "properties": {"spec": object_of(3)}}
    assert count(schema) > 700

    async def scenario(api: Api) -> None:
        where = await establish(api, definition(schema=schema))
        spec = {"inner0": {"inner1": {"inner2": {"text0": "abc", "list": ["1.2.3.4"]}}}}
        made = (await api.create(where, custom("a", spec=spec))).ok()
        assert made["spec"]["inner0"]["inner1"]["inner2"]["choice"] == "a"
        spec["inner0"]["inner1"]["inner2"]["list"] = ["nowhere"]
        refused = await api.create(where, custom("b", spec=spec))
        assert refused.json["details"]["causes"][0]["field"] == "spec.inner0.inner1.inner2.list[0]"
        assert refused.seconds < 0.5

    run(scenario)


def test_columns_are_printed_up_to_the_first_that_cannot_be_followed() -> None:
    async def scenario(api: Api) -> None:
        fine, broken = ({"name": n, "type": "string", "jsonPath": p} for n, p in (("A", ".a"), ("B", ".a[")))
        where = await establish(api, definition(additionalPrinterColumns=[fine, broken, fine]))
        (await api.create(where, custom("a"))).ok()
        table = (await api.get(where, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).ok()
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "A"]

    run(scenario)


def test_an_object_too_deep_for_yaml_is_told_as_json_only() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition())
        depth = 400
        inner: Any = 1
        for _ in range(depth):
            inner = {"a": inner}
        (await api.create(where, custom("a", spec=inner))).ok()
        assert (await api.get(f"{where}/a")).status == 200
        assert (await api.get(f"{where}/a", accept="application/yaml")).status == 406

    run(scenario)


def test_what_was_wrong_before_a_stricter_schema_may_stay() -> None:
    items = {
        "type": "object",
        "required": ["k"],
        "properties": {"k": {"type": "string"}, "v": {"enum": ["ok"], "type": "string"}},
    }
    as_map = {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    rule = [{"rule": 'self != "longvalue"'}]
    strict = typed(
        a={"type": "string", "maxLength": 20, "x-kubernetes-validations": rule},
        l={"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        m=as_map,
        e={"type": "string", "enum": ["new"]},
    )
    strict["properties"]["spec"]["required"] = ["r"]
    strict["properties"]["spec"]["properties"]["r"] = {"type": "string"}
    spec = {"a": "longvalue", "l": ["b", "b"], "m": [{"k": "x", "v": "bad"}], "e": "old"}

    async def scenario(api: Api) -> None:
        where = await establish(api, definition())
        (await api.create(where, custom("a", spec=spec))).ok()
        found = (await api.get(f"{DEFINITIONS}/{NAME}")).ok()
        found["spec"]["versions"] = [version("v1", strict)]
        (await api.update(f"{DEFINITIONS}/{NAME}", found)).ok()

        async def change(**fields: Any) -> list[str]:
            answer = await api.patch(f"{where}/a?dryRun=All", {"spec": fields})
            return (
                [c["field"] for c in answer.json.get("details", {}).get("causes", ())] if answer.status != 200 else []
            )

        assert (await api.patch(f"{where}/a", {"metadata": {"labels": {"x": "y"}}})).status == 200
        assert await change(r="x") == []
        assert await change(r="x", l=["b", "b", "c"]) == []
        assert await change(r="x", m=[{"k": "new", "v": "ok"}, {"k": "x", "v": "bad"}]) == []
        assert (await change(r="x", m=[{"k": "x", "v": "worse"}]))[0] == "spec.m[0].v"
        assert (await change(r="x", e="other"))[0] == "spec.e"
        assert (await change(z=1))[0:1] == []  # pruned: nothing has changed
        assert (await change(a="short"))[0] == "spec.r"

    run(scenario)


def test_an_update_of_a_definition_keeps_what_must_stay() -> None:
    async def scenario(api: Api) -> None:
        await establish(api, definition())
        target = f"{DEFINITIONS}/{NAME}"
        found = (await api.get(target)).ok()

        async def faults(**spec: Any) -> list[str]:
            answer = await api.update(target, {**found, "spec": {**found["spec"], **spec}})
            return [c["field"] for c in answer.json["details"]["causes"]]

        names_of = found["spec"]["names"]
        assert await faults(scope="Cluster") == ["spec.scope"]
        assert await faults(names={**names_of, "kind": "Other"}) == ["spec.names.kind"]
        assert await faults(names={**names_of, "plural": "others"}) == ["spec.names.plural"]
        assert await faults(group="other.example.com") == ["spec.group"]
        assert await faults(versions=[version("v1")] * 0) != []
        status = {**found, "status": {**found["status"], "storedVersions": []}}
        assert (await api.update(f"{target}/status", status)).ok()["status"]["storedVersions"] == ["v1"]

    run(scenario)
