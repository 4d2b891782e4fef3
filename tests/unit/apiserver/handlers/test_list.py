from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kybern.apiserver import negotiate
from kybern.apiserver.handlers import forms
from kybern.storage.interface import Revision
from kybern.testing import api_server
from kybern.testing.api_server import Api

CONFIGS = "/api/v1/namespaces/default/configmaps"


def config(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": "b"}}


async def fill(api: Api, count: int) -> None:
    for number in range(count):
        (await api.create(CONFIGS, config(f"c{number:03}", shard=str(number % 3)))).ok()


def names(page: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in page["items"]]


async def pages(api: Api, query: str) -> list[dict[str, Any]]:
    """All pages of a listing."""
    found = [(await api.get(f"{CONFIGS}?{query}")).ok()]
    while token := found[-1]["metadata"].get("continue"):
        found.append((await api.get(f"{CONFIGS}?{query}&continue={token}")).ok())
    return found


def test_a_listing_has_its_kind_and_the_revision_it_shows() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 2)
        page = (await api.get(CONFIGS)).ok()
        assert (page["kind"], page["apiVersion"]) == ("ConfigMapList", "v1")
        assert page["metadata"] == {"resourceVersion": page["items"][1]["metadata"]["resourceVersion"]}

    api_server.run(scenario)


def test_pages_tell_how_much_remains_and_hold_everything_once() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 10)
        found = await pages(api, "limit=4")
        assert [len(p["items"]) for p in found] == [4, 4, 2]
        assert [p["metadata"].get("remainingItemCount") for p in found] == [6, 2, None]
        assert [n for p in found for n in names(p)] == [f"c{n:03}" for n in range(10)]

    api_server.run(scenario)


def test_pages_show_one_moment_whatever_is_written_between_them() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 9)
        first = (await api.get(f"{CONFIGS}?limit=3")).ok()
        await api.delete(f"{CONFIGS}/c004")
        await api.create(CONFIGS, config("c003a"))
        await api.patch(f"{CONFIGS}/c005", {"data": {"a": "changed"}})
        second = (await api.get(f"{CONFIGS}?limit=3&continue={first['metadata']['continue']}")).ok()
        third = (await api.get(f"{CONFIGS}?limit=3&continue={second['metadata']['continue']}")).ok()
        assert names(second) + names(third) == ["c003", "c004", "c005", "c006", "c007", "c008"]
        assert second["items"][2]["data"] == {"a": "b"}
        assert {p["metadata"]["resourceVersion"] for p in (first, second, third)} == {
            first["metadata"]["resourceVersion"]
        }
        assert "continue" not in third["metadata"]

    api_server.run(scenario)


def test_pages_of_a_selection_are_full_and_do_not_guess_what_remains() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 10)
        found = await pages(api, "limit=2&labelSelector=shard%3D0")
        assert [names(p) for p in found] == [["c000", "c003"], ["c006", "c009"]]
        assert all("remainingItemCount" not in p["metadata"] for p in found)

    api_server.run(scenario)


def test_a_token_that_was_compacted_away_is_answered_with_one_that_goes_on() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 6)
        first = (await api.get(f"{CONFIGS}?limit=2")).ok()
        await api.create(CONFIGS, config("c002a"))
        await api.server.feed.store.compact(api.server.feed.revision)
        late = await api.get(f"{CONFIGS}?limit=2&continue={first['metadata']['continue']}")
        assert (late.status, late.json["reason"]) == (410, "Expired")
        rest = (await api.get(f"{CONFIGS}?continue={late.json['metadata']['continue']}")).ok()
        assert names(rest) == ["c002", "c002a", "c003", "c004", "c005"]

    api_server.run(scenario)


def test_a_revision_that_was_compacted_away_is_gone_even_where_nothing_has_changed_since() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 4)
        first = (await api.get(f"{CONFIGS}?limit=2")).ok()
        exact = f"{CONFIGS}?resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
        second = f"{CONFIGS}?limit=2&continue={first['metadata']['continue']}"
        await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "another-resource"}})
        assert names((await api.get(second)).ok()) == ["c002", "c003"]
        await api.server.feed.store.compact(api.server.feed.revision)
        late = await api.get(second)
        assert (late.status, late.json["reason"]) == (410, "Expired")
        assert names((await api.get(f"{CONFIGS}?continue={late.json['metadata']['continue']}")).ok()) == [
            "c002",
            "c003",
        ]
        assert (await api.get(exact)).status == 410

    api_server.run(scenario)


def test_an_exact_revision_is_shown_as_it_was_until_it_is_forgotten() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 2)
        then = (await api.get(CONFIGS)).ok()["metadata"]["resourceVersion"]
        await api.delete(f"{CONFIGS}/c000")
        exact = f"{CONFIGS}?resourceVersion={then}&resourceVersionMatch=Exact"
        assert names((await api.get(exact)).ok()) == ["c000", "c001"]
        assert names((await api.get(f"{CONFIGS}?resourceVersion={then}")).ok()) == ["c001"]
        await api.server.feed.store.compact(Revision(api.server.feed.revision))
        assert (await api.get(exact)).status == 410

    api_server.run(scenario)


def test_not_older_than_the_future_waits_for_it() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 1)
        coming = api.server.feed.revision + 1
        async with asyncio.TaskGroup() as tasks:
            listing = tasks.create_task(api.get(f"{CONFIGS}?resourceVersion={coming}"))
            await asyncio.sleep(0)
            tasks.create_task(fill_one(api))
        assert names(listing.result().ok()) == ["c000", "late"]

    async def fill_one(api: Api) -> None:
        await api.create(CONFIGS, config("late"))

    api_server.run(scenario)


def test_selectors_choose_by_labels_and_fields() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 6)
        for query, expected in (
            ("labelSelector=shard%3D1", ["c001", "c004"]),
            ("labelSelector=shard+in+(0,2),shard!%3D0", ["c002", "c005"]),
            ("labelSelector=!shard", []),
            ("fieldSelector=metadata.name%3Dc003", ["c003"]),
            ("fieldSelector=metadata.name!%3Dc003&labelSelector=shard%3D0", ["c000"]),
        ):
            assert names((await api.get(f"{CONFIGS}?{query}")).ok()) == expected, query

    api_server.run(scenario)


def test_delete_collection_takes_what_is_selected_in_one_namespace_only() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 6)
        await api.create("/api/v1/namespaces/kube-system/configmaps", config("other", shard="0"))
        gone = (await api.delete(f"{CONFIGS}?labelSelector=shard%3D0")).ok()
        assert names(gone) == ["c000", "c003"]
        assert names((await api.get(CONFIGS)).ok()) == ["c001", "c002", "c004", "c005"]
        assert (await api.delete("/api/v1/configmaps")).status == 405
        assert {"c001", "other"} <= set(names((await api.get("/api/v1/configmaps")).ok()))

    api_server.run(scenario)


def test_delete_collection_in_a_dry_run_deletes_nothing() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 3)
        (await api.delete(f"{CONFIGS}?dryRun=All")).ok()
        assert len((await api.get(CONFIGS)).ok()["items"]) == 3

    api_server.run(scenario)


MATCHING = "resourceVersionMatch is forbidden"
UNLESS = f"resourceVersionMatch: Forbidden: {MATCHING} unless resourceVersion is provided"
CONTINUED = f"resourceVersionMatch: Forbidden: {MATCHING} when continue is provided"
UNASKED = f"resourceVersionMatch: Forbidden: {MATCHING} for watch unless sendInitialEvents is provided"
REQUIRES = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
LISTED = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
EXACT_0 = 'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'


def unsupported(match: str, *values: str) -> str:
    shown = ", ".join(f'"{v}"' for v in values)
    return f'resourceVersionMatch: Unsupported value: "{match}": supported values: {shown}'


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("resourceVersionMatch=Exact", [UNLESS]),
        ("resourceVersionMatch=NotOlderThan&sendInitialEvents=true", [UNLESS, LISTED]),
        ("resourceVersionMatch=Exact&resourceVersion=0&sendInitialEvents=false", [EXACT_0, LISTED]),
        ("resourceVersionMatch=Exact&continue=x", [UNLESS, CONTINUED]),
        ("resourceVersionMatch=Exact&resourceVersion=1&continue=x", [CONTINUED]),
        ("resourceVersionMatch=Exact&resourceVersion=0&continue=x", [CONTINUED, EXACT_0]),
        (
            "resourceVersionMatch=Bogus&sendInitialEvents=true&continue=x",
            [UNLESS, CONTINUED, unsupported("Bogus", "Exact", "NotOlderThan", ""), LISTED],
        ),
        ("watch=1&resourceVersionMatch=NotOlderThan", [UNASKED]),
        ("watch=1&resourceVersionMatch=Exact", [UNASKED, unsupported("Exact", "NotOlderThan")]),
        ("watch=1&continue=x", [CONTINUED]),
        ("watch=1&sendInitialEvents=true", [REQUIRES]),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Bogus&continue=x",
            [REQUIRES, unsupported("Bogus", "NotOlderThan"), CONTINUED],
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused_in_upstreams_words(query: str, faults: list[str]) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.get(f"{CONFIGS}?{query}")
        assert answer.status == 422
        shown = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
        assert answer.json["message"] == f'ListOptions.meta.k8s.io "" is invalid: {shown}'

    api_server.run(scenario)


def test_whatever_is_at_hand_is_told_whole() -> None:
    async def scenario(api: Api) -> None:
        for name in "abc":
            (await api.create(CONFIGS, {"metadata": {"name": name}})).ok()
        for query in ("limit=1&resourceVersion=0", "limit=1&resourceVersion=0&resourceVersionMatch=NotOlderThan"):
            page = (await api.get(f"{CONFIGS}?{query}")).ok()
            assert len(page["items"]) == 3
            assert "continue" not in page["metadata"]

    api_server.run(scenario)


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize("accept", ["application/json", TABLE, METADATA, PROTOBUF, "application/yaml"])
def test_a_long_listing_is_told_in_slices_and_is_that_of_its_revision(accept: str) -> None:
    async def scenario(api: Api) -> None:
        for number in range(140):
            config = {"metadata": {"name": f"c{number:03}"}, "data": {"text": "x" * 3000}}
            (await api.create(CONFIGS, config)).ok()
        store = api.server.registry.objects.stores["configmaps"]
        served = api.server.registry.get("", "v1", "configmaps")
        assert served is not None
        accepted = negotiate.choose(accept, False, served.has_protobuf)
        form = api.server.handlers.forms.form_of(served, accepted, "Metadata")
        entries = list(store.cache.entries("default"))
        whole = forms.encoded(form.list_bytes(entries, api.server.feed.revision, "", None), accepted)
        found = await api.request("GET", CONFIGS, headers={"accept": accept})
        assert found.body == whole
        assert len(entries) >= 140

        limited = await api.request("GET", f"{CONFIGS}?limit=100", headers={"accept": accept})
        assert len(limited.body) > 100 * 50

    api_server.run(scenario)


def test_writes_go_on_while_a_long_listing_is_told() -> None:
    async def scenario(api: Api) -> None:
        for number in range(100):
            (await api.create(CONFIGS, {"metadata": {"name": f"c{number:03}"}, "data": {"text": "x" * 5000}})).ok()
        async with asyncio.TaskGroup() as tasks:
            listing = tasks.create_task(api.get(CONFIGS), name="list")
            await asyncio.sleep(0)
            for number in range(99, 90, -1):
                (await api.delete(f"{CONFIGS}/c{number:03}")).ok()
        assert len(names(listing.result().ok())) in range(100, 103)  # and kube-root-ca.crt, or not
        assert len(names((await api.get(CONFIGS)).ok())) < 95

    api_server.run(scenario)


def test_pages_of_what_is_selected_hold_everything_once() -> None:
    async def scenario(api: Api) -> None:
        await fill(api, 30)
        found = await pages(api, "limit=4&labelSelector=shard%3D1")
        assert [len(p["items"]) for p in found] == [4, 4, 2]
        assert all(p["metadata"].get("remainingItemCount") is None for p in found)
        assert [n for p in found for n in names(p)] == [f"c{n:03}" for n in range(1, 30, 3)]

    api_server.run(scenario)
