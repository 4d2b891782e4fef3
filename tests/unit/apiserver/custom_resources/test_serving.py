"""Definitions come, and their objects can be written, read and watched; they change, and go."""

from __future__ import annotations

from kybern.testing.api_server import Api, run
from kybern.testing.definitions import DEFINITIONS, custom, definition, establish, version, wait_for, wait_until_gone

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"image": {"type": "string"}, "replicas": {"type": "integer", "default": 1}},
        }
    },
}


def test_a_custom_object_is_written_read_listed_and_watched() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition(schema=SCHEMA))
        made = (await api.create(where, custom("a", spec={"image": "x", "odd": 1}))).ok()
        assert made["spec"] == {"image": "x", "replicas": 1}
        assert made["metadata"]["generation"] == 1 and made["metadata"]["uid"]
        assert (await api.get(f"{where}/a")).ok() == made
        listed = (await api.get(where)).ok()
        assert listed["kind"] == "CronTabList" and listed["items"] == [made]
        async with api.watch(f"{where}?watch=true&resourceVersion={listed['metadata']['resourceVersion']}") as watch:
            (await api.patch(f"{where}/a", {"spec": {"image": "y"}})).ok()
            event = await watch.next()
            assert (event["type"], event["object"]["spec"]["image"]) == ("MODIFIED", "y")
            assert event["object"]["metadata"]["generation"] == 2
            (await api.delete(f"{where}/a")).ok()
            assert (await watch.next())["type"] == "DELETED"
        assert (await api.get(f"{where}/a")).status == 404

    run(scenario)


def test_discovery_tells_what_is_defined_as_long_as_it_is() -> None:
    async def scenario(api: Api) -> None:
        group = "/apis/stable.example.com"
        assert (await api.get(group)).status == 404
        document = definition(names={"shortNames": ["ct"], "categories": ["all"]}, subresources={"status": {}})
        await establish(api, document)
        rows = (await api.get(f"{group}/v1")).ok()["resources"]
        assert [row["name"] for row in rows] == ["crontabs", "crontabs/status"]
        assert rows[0]["shortNames"] == ["ct"] and rows[0]["categories"] == ["all"]
        (await api.delete(f"{DEFINITIONS}/crontabs.stable.example.com")).ok()
        await wait_until_gone(api, group)

    run(scenario)


def test_objects_go_before_their_definition() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition())
        held = custom("a")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        (await api.create(where, held)).ok()
        (await api.create(where, custom("b"))).ok()
        name = "crontabs.stable.example.com"
        gone = (await api.delete(f"{DEFINITIONS}/{name}")).ok()
        assert gone["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        refused = await api.create(where, custom("c"))
        assert refused.status == 403 and "terminating" in refused.json["message"]
        await wait_for(api, name, "Terminating", "True")
        (await api.patch(f"{where}/a", {"metadata": {"finalizers": None}})).ok()
        await wait_until_gone(api, f"{DEFINITIONS}/{name}")
        assert (await api.get(where)).status == 404

    run(scenario)


def test_another_version_shows_the_same_objects_by_its_own_schema() -> None:
    async def scenario(api: Api) -> None:
        fields = {"image": {"type": "string"}, "more": {"type": "string", "default": "yes"}}
        other = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
        where = await establish(api, definition(versions=[version("v1", SCHEMA), version("v2", other)]))
        (await api.create(where, custom("a", spec={"image": "x"}))).ok()
        seen = (await api.get(f"{where}/a".replace("/v1/", "/v2/"))).ok()
        assert (seen["apiVersion"], seen["spec"]) == ("stable.example.com/v2", {"image": "x", "more": "yes"})

    run(scenario)
