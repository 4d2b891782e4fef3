"""Objects of several versions that a webhook converts: `v1` has hostPort, `v2` has host and port."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kybern.apiserver.custom_resources.convert import without_revision
from kybern.testing.api_server import Api, run
from kybern.testing.definitions import ANY, DEFINITIONS, custom, definition, establish, version
from kybern.testing.webhooks import FakeWebhooks

URL = "https://convert.example.com/crd"


def convert(review: dict[str, Any]) -> dict[str, Any]:
    request = review["request"]
    return respond(review, [converted(o, request["desiredAPIVersion"]) for o in request["objects"]])


def respond(review: dict[str, Any], objects: list[Any], status: str = "Success") -> dict[str, Any]:
    result = {"status": status} | ({} if status == "Success" else {"message": "no way"})
    response = {"uid": review["request"]["uid"], "result": result, "convertedObjects": objects}
    return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response}


def converted(obj: dict[str, Any], target: str) -> dict[str, Any]:
    made = {**obj, "apiVersion": target}
    if target.endswith("/v2"):
        made["host"], _, made["port"] = made.pop("hostPort", ":").partition(":")
    else:
        made["hostPort"] = f"{made.pop('host', '')}:{made.pop('port', '')}"
    return made


def two_versions(storage: str = "v1") -> dict[str, Any]:
    text = {"type": "string"}
    one = {"type": "object", "properties": {"hostPort": text}}
    two = {"type": "object", "properties": {"host": text, "port": text}}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": URL}}
    versions = [
        {**version("v1", one, selectableFields=[{"jsonPath": ".hostPort"}]), "storage": storage == "v1"},
        {**version("v2", two, selectableFields=[{"jsonPath": ".host"}]), "storage": storage == "v2"},
    ]
    return definition(versions=versions, conversion={"strategy": "Webhook", "webhook": webhook})


def play(scenario: Any, hook: Any = convert) -> FakeWebhooks:
    hooks = FakeWebhooks({URL: hook})

    async def start(api: Api) -> None:
        one = await establish(api, two_versions())
        playing: Coroutine[Any, Any, None] = scenario(api, one, one.replace("/v1/", "/v2/"))
        await playing

    run(start, webhooks=hooks)
    return hooks


def v2(name: str, **fields: Any) -> dict[str, Any]:
    return custom(name, api_version="stable.example.com/v2", **fields)


def test_objects_are_read_in_either_version() -> None:
    async def scenario(api: Api, one: str, two: str) -> None:
        (await api.create(one, custom("a", hostPort="h:1"))).ok()
        seen = (await api.get(f"{two}/a")).ok()
        assert (seen["apiVersion"], seen["host"], seen["port"]) == ("stable.example.com/v2", "h", "1")
        assert seen["metadata"]["resourceVersion"] == (await api.get(f"{one}/a")).ok()["metadata"]["resourceVersion"]
        (await api.create(two, v2("b", host="x", port="2"))).ok()
        assert [o["hostPort"] for o in (await api.get(one)).ok()["items"]] == ["h:1", "x:2"]
        assert [o["host"] for o in (await api.get(two)).ok()["items"]] == ["h", "x"]

    hooks = play(scenario)
    count = sum(len(review["request"]["objects"]) for _, review in hooks.seen)
    assert count == 3  # a to v2, b to v1, and back to v2 for the answer: what was converted once is kept


def test_writes_in_a_version_that_is_not_stored_are_converted() -> None:
    async def scenario(api: Api, one: str, two: str) -> None:
        (await api.create(two, v2("a", host="h", port="1"))).ok()
        changed = (await api.patch(f"{two}/a", {"port": "2"})).ok()
        assert (changed["host"], changed["port"]) == ("h", "2")
        assert (await api.get(f"{one}/a")).ok()["hostPort"] == "h:2"
        again = (await api.update(f"{two}/a", {**changed, "host": "i"})).ok()
        assert again["host"] == "i" and again["metadata"]["generation"] == 3
        (await api.delete(f"{two}/a")).ok()
        assert (await api.get(one)).ok()["items"] == []

    play(scenario)


def test_a_watch_tells_converted_objects_in_order() -> None:
    async def scenario(api: Api, one: str, two: str) -> None:
        (await api.create(one, custom("a", hostPort="h:1"))).ok()
        async with api.watch(f"{two}?watch=true") as watch:
            event = await watch.next()
            assert (event["type"], event["object"]["host"]) == ("ADDED", "h")
            (await api.patch(f"{one}/a", {"hostPort": "i:2"})).ok()
            event = await watch.next()
            assert (event["type"], event["object"]["host"]) == ("MODIFIED", "i")
            (await api.delete(f"{one}/a")).ok()
            event = await watch.next()
            assert (event["type"], event["object"]["port"]) == ("DELETED", "2")

    play(scenario)


def test_selectable_fields_are_those_of_the_version_asked() -> None:
    async def scenario(api: Api, one: str, two: str) -> None:
        for name, place in (("a", "h:1"), ("b", "i:1")):
            (await api.create(one, custom(name, hostPort=place))).ok()
        assert [o["metadata"]["name"] for o in (await api.get(f"{two}?fieldSelector=host=i")).ok()["items"]] == ["b"]
        found = (await api.get(f"{one}?fieldSelector=hostPort=h:1")).ok()["items"]
        assert [o["metadata"]["name"] for o in found] == ["a"]
        assert (await api.get(f"{one}?fieldSelector=host=i")).status == 400
        async with api.watch(f"{two}?watch=true&fieldSelector=host=i") as watch:
            assert await watch.take(1) == [("ADDED", "b")]
            (await api.patch(f"{one}/a", {"hostPort": "i:9"})).ok()
            assert await watch.take(1) == [("ADDED", "a")]
            (await api.patch(f"{one}/b", {"hostPort": "z:9"})).ok()
            assert await watch.take(1) == [("DELETED", "b")]

    play(scenario)


def test_a_webhook_that_fails_or_cheats_is_told_to_the_client() -> None:
    def renaming(review: dict[str, Any]) -> dict[str, Any]:
        target = review["request"]["desiredAPIVersion"]
        objects = [converted(o, target) for o in review["request"]["objects"]]
        for obj in objects:
            obj["metadata"] = {**obj["metadata"], "name": "other"}
        return respond(review, objects)

    for hook, told in (
        (lambda review: respond(review, [], "Failed"), "no way"),
        (lambda review: respond(review, []), "returned 0 objects, expected 1"),
        (lambda review: b"x", "JSON is malformed"),
        (lambda review: (500, b""), "an error on the server"),
        (renaming, "metadata.name must not change"),
    ):

        async def scenario(api: Api, one: str, two: str, told: str = told) -> None:
            (await api.create(one, custom("a", hostPort="h:1"))).ok()
            failed = await api.get(f"{two}/a")
            assert failed.status == 500, failed.json
            assert "conversion webhook for stable.example.com/v1, Kind=CronTab failed" in failed.json["message"]
            assert told in failed.json["message"], failed.json["message"]
            assert (await api.get(f"{one}/a")).status == 200

        play(scenario, hook)


def test_labels_are_the_webhooks_to_change_and_other_metadata_is_not() -> None:
    def labelling(review: dict[str, Any]) -> dict[str, Any]:
        objects = [converted(o, review["request"]["desiredAPIVersion"]) for o in review["request"]["objects"]]
        for obj in objects:
            obj["metadata"] = {**obj["metadata"], "labels": {"by": "hook"}, "finalizers": ["evil.example.com/x"]}
        return respond(review, objects)

    async def scenario(api: Api, one: str, two: str) -> None:
        (await api.create(one, custom("a", hostPort="h:1"))).ok()
        metadata = (await api.get(f"{two}/a")).ok()["metadata"]
        assert metadata["labels"] == {"by": "hook"} and "finalizers" not in metadata

    play(scenario, labelling)


def test_a_new_storage_version_takes_over_what_is_stored() -> None:
    async def scenario(api: Api, one: str, two: str) -> None:
        (await api.create(one, custom("a", hostPort="h:1"))).ok()
        name = "crontabs.stable.example.com"
        changed = (await api.get(f"{DEFINITIONS}/{name}")).ok()
        changed["spec"] = {**changed["spec"], "versions": two_versions("v2")["spec"]["versions"]}
        assert (await api.update(f"{DEFINITIONS}/{name}", changed)).ok()["status"]["storedVersions"] == ["v1", "v2"]
        (await api.create(two, v2("b", host="i", port="2"))).ok()
        assert [o["hostPort"] for o in (await api.get(one)).ok()["items"]] == ["h:1", "i:2"]
        assert [o["host"] for o in (await api.get(two)).ok()["items"]] == ["h", "i"]
        (await api.patch(f"{one}/a", {"hostPort": "k:3"})).ok()
        assert (await api.get(f"{two}/a")).ok()["host"] == "k"

    play(scenario)


def test_without_a_webhook_versions_differ_by_name_alone() -> None:
    async def scenario(api: Api) -> None:
        where = await establish(api, definition(versions=[version("v1", ANY), version("v2", ANY)]))
        (await api.create(where, custom("a", spec={"x": 1}))).ok()
        other = (await api.get(f"{where}/a".replace("/v1/", "/v2/"))).ok()
        assert (other["apiVersion"], other["spec"]) == ("stable.example.com/v2", {"x": 1})

    run(scenario)


def test_only_the_objects_own_revision_is_taken_out_of_its_bytes() -> None:
    inner = b'"spec":{"of":{"metadata":{"resourceVersion":"7"}}}}'
    bare = b'{"kind":"A","apiVersion":"b/v1","metadata":{"name":"x"},' + inner
    told = b'{"kind":"A","apiVersion":"b/v1","metadata":{"resourceVersion":"5","name":"x"},' + inner
    assert without_revision(told) == (bare, 5)
    assert without_revision(bare) == (bare, 0)
