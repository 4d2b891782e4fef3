from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kybern.apiserver.watch_cache import cache as cache_module
from kybern.storage.interface import Revision
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api

CONFIGS = "/api/v1/namespaces/default/configmaps"
END = "k8s.io/initial-events-end"


def config(name: str, value: str = "b", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": value}}


async def write(api: Api, *names: str) -> str:
    """Create these; returns the last one's resourceVersion."""
    made: dict[str, Any] = {}
    for name in names:
        made = (await api.create(CONFIGS, config(name))).ok()
    return str(made["metadata"]["resourceVersion"])


def version(event: dict[str, Any]) -> int:
    return int(event["object"]["metadata"]["resourceVersion"])


def test_without_a_version_the_state_comes_first() -> None:
    async def scenario(api: Api) -> None:
        await write(api, "a", "b")
        for query in ("watch=true", "watch=1&resourceVersion=0", "watch"):
            async with api.watch(f"{CONFIGS}?{query}") as watched:
                assert await watched.take(2) == [("ADDED", "a"), ("ADDED", "b")]

    api_server.run(scenario)


def test_every_change_is_told_once_in_order() -> None:
    async def scenario(api: Api) -> None:
        start = await write(api, "zero")
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={start}") as watched:
            await write(api, "a")
            changed = (await api.patch(f"{CONFIGS}/a", {"data": {"x": "y"}})).ok()
            await api.delete(f"{CONFIGS}/a")
            added, modified, deleted = [await watched.next() for _ in range(3)]
            assert [e["type"] for e in (added, modified, deleted)] == ["ADDED", "MODIFIED", "DELETED"]
            assert modified["object"] == changed
            assert version(added) < version(modified) < version(deleted)
            assert deleted["object"]["data"] == changed["data"]
            assert watched.waiting() == 0

    api_server.run(scenario)


def test_a_watch_resumes_where_it_was_left() -> None:
    async def scenario(api: Api) -> None:
        first = await write(api, "a")
        await write(api, "b", "c")
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={first}") as watched:
            assert await watched.take(2) == [("ADDED", "b"), ("ADDED", "c")]

    api_server.run(scenario)


def test_a_watch_from_before_the_events_in_memory_reads_history() -> None:
    async def scenario(api: Api) -> None:
        first = await write(api, "a")
        store = api.server.registry.objects.stores["configmaps"]
        await write(api, *(f"n{n}" for n in range(50)))
        store.cache.complete_since = api.server.feed.revision  # as after a restart
        await api.create("/api/v1/namespaces", {"metadata": {"name": "elsewhere"}})
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={first}") as watched:
            await write(api, "last")
            told = await watched.take(51)
            assert told == [*(("ADDED", f"n{n}") for n in range(50)), ("ADDED", "last")]
            assert watched.waiting() == 0

    api_server.run(scenario)


def test_a_quiet_resource_is_followed_after_a_restart_too() -> None:
    """Nothing of it in the history: the watch must still arrive in the present, and get bookmarks."""

    async def before(api: Api) -> str:
        await write(api, "a")
        seen = str(api.server.feed.revision)
        await api.create("/api/v1/namespaces", {"metadata": {"name": "elsewhere"}})
        return seen

    store = MemoryStore()
    seen = api_server.run(before, store=store)

    async def after(api: Api) -> None:
        assert int(seen) < api.server.registry.objects.stores["configmaps"].cache.complete_since
        query = f"watch=1&allowWatchBookmarks=true&resourceVersion={seen}"
        async with api.watch(f"{CONFIGS}?{query}") as watched:
            await asyncio.sleep(0.01)
            await api.server.feed.bookmark_all()
            event = await watched.next()
            assert (event["type"], version(event)) == ("BOOKMARK", api.server.feed.revision)

    api_server.run(after, store=store)


def test_a_forgotten_revision_is_expired() -> None:
    async def scenario(api: Api) -> None:
        first = await write(api, "a")
        await write(api, "b", "c")
        store = api.server.registry.objects.stores["configmaps"]
        store.cache.complete_since = api.server.feed.revision
        await api.server.feed.store.compact(api.server.feed.revision)
        answer = await api.get(f"{CONFIGS}?watch=1&resourceVersion={first}")
        assert (answer.status, answer.json["reason"]) == (410, "Expired")

    api_server.run(scenario)


def test_a_watch_of_the_future_is_told_that_it_is_too_early() -> None:
    async def scenario(api: Api) -> None:
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion=999999") as watched:
            event = await watched.next()
            assert (event["type"], event["object"]["code"]) == ("ERROR", 504)

    api_server.run(scenario)


def test_streamed_lists_end_with_a_marked_bookmark() -> None:
    async def scenario(api: Api) -> None:
        last = await write(api, "a", "b")
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{CONFIGS}?{query}") as watched:
            assert await watched.take(2) == [("ADDED", "a"), ("ADDED", "b")]
            mark = await watched.next()
            assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
            assert mark["object"]["metadata"]["annotations"] == {END: "true"}
            assert version(mark) >= int(last)
            await write(api, "c")
            assert await watched.take(1) == [("ADDED", "c")]

    api_server.run(scenario)


def test_bookmarks_come_to_those_who_asked_for_them() -> None:
    async def scenario(api: Api) -> None:
        start = await write(api, "a")
        async with (
            api.watch(f"{CONFIGS}?watch=1&resourceVersion={start}&allowWatchBookmarks=true") as asked,
            api.watch(f"{CONFIGS}?watch=1&resourceVersion={start}") as silent,
        ):
            await api.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
            await asyncio.sleep(0)
            await api.clock.advance(61)  # type: ignore[attr-defined]
            mark = await asked.next()
            assert (mark["type"], version(mark)) == ("BOOKMARK", api.server.feed.revision)
            assert silent.waiting() == 0

    api_server.run(scenario)


def test_objects_come_and_go_with_what_is_selected() -> None:
    async def scenario(api: Api) -> None:
        start = await write(api, "zero")
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={start}&labelSelector=tier%3Dweb") as watched:
            await api.create(CONFIGS, config("a", tier="db"))
            await api.patch(f"{CONFIGS}/a", {"metadata": {"labels": {"tier": "web"}}})
            await api.patch(f"{CONFIGS}/a", {"data": {"x": "y"}})
            await api.patch(f"{CONFIGS}/a", {"metadata": {"labels": {"tier": None}}})
            await api.patch(f"{CONFIGS}/a", {"data": {"x": "z"}})
            await api.delete(f"{CONFIGS}/a")
            events = [await watched.next() for _ in range(3)]
            assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
            # It is told as it was last selected, at the revision of the change.
            assert events[2]["object"]["metadata"]["labels"] == {"tier": "web"}
            assert version(events[2]) > version(events[1])
            assert watched.waiting() == 0

    api_server.run(scenario)


def test_a_name_in_the_path_or_in_a_selector_watches_one_object() -> None:
    async def scenario(api: Api) -> None:
        await write(api, "a", "b")
        targets = (
            f"{CONFIGS}?watch=1&fieldSelector=metadata.name%3Db",
            "/api/v1/watch/namespaces/default/configmaps/b",
            f"{CONFIGS}/b?watch=1",
        )
        for target in targets[:2]:
            async with api.watch(target) as watched:
                assert await watched.take(1) == [("ADDED", "b")]
                await api.patch(f"{CONFIGS}/a", {"data": {"n": target}})
                await api.patch(f"{CONFIGS}/b", {"data": {"n": target}})
                assert await watched.take(1) == [("MODIFIED", "b")]

    api_server.run(scenario)


def test_a_watch_ends_when_its_time_is_up() -> None:
    async def scenario(api: Api) -> None:
        async with (
            asyncio.timeout(5),
            api.watch(f"{CONFIGS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1") as watched,
        ):
            mark = await watched.next()
            assert mark["type"] == "BOOKMARK"

    api_server.run(scenario)


def test_no_bookmark_leads_back_behind_what_the_client_has_seen() -> None:
    """At another server it has seen what this one has not heard of; its time is up before this one has."""

    async def scenario(api: Api) -> None:
        query = "watch=1&resourceVersion=999999&timeoutSeconds=1&allowWatchBookmarks=1"
        answer = await api.get(f"{CONFIGS}?{query}")
        assert (answer.status, answer.body) == (200, b"")

    api_server.run(scenario)


def test_the_longest_time_that_can_be_asked_for_is_no_fault() -> None:
    async def scenario(api: Api) -> None:
        await write(api, "a")
        async with api.watch(f"{CONFIGS}?watch=1&timeoutSeconds=9223372036854775807") as watched:
            assert await watched.take(1) == [("ADDED", "a")]

    api_server.run(scenario)


def test_a_slow_client_is_cut_off_and_forgotten() -> None:
    async def scenario(api: Api) -> None:
        start = await write(api, "a")
        hub = api.server.registry.objects.stores["configmaps"].hub
        async with api.watch(f"{CONFIGS}?watch=1&resourceVersion={start}") as watched:
            await write(api, "b")
            assert hub.watchers == 1
            watched.sink.buffered = 9 << 20
            await write(api, "c")
            assert watched.sink.closed
            assert hub.watchers == 0
            assert await watched.take(1) == [("ADDED", "b")]
            assert watched.waiting() == 0

    api_server.run(scenario)


def test_what_happens_while_the_client_reads_the_state_is_not_lost() -> None:
    async def scenario(api: Api) -> None:
        await write(api, *(f"n{n:04}" for n in range(600)))
        async with api.watch(f"{CONFIGS}?watch=1") as watched:
            watched.sink.room.clear()  # the client reads nothing
            await watched.next()
            await api.delete(f"{CONFIGS}/n0599")
            await write(api, "new")
            await asyncio.sleep(0)
            watched.sink.room.set()
            told = await watched.take(599 + 2)
            assert told[-3:] == [("ADDED", "n0599"), ("DELETED", "n0599"), ("ADDED", "new")]

    api_server.run(scenario)


@pytest.mark.thorough
def test_ten_thousand_watchers_come_and_go_without_a_trace() -> None:
    async def scenario(api: Api) -> None:
        start = await write(api, "a")
        store = api.server.registry.objects.stores["configmaps"]
        sinks = [api_server.MemorySink() for _ in range(10_000)]
        async with asyncio.TaskGroup() as tasks:
            for number, sink in enumerate(sinks):
                selector = f"&labelSelector=shard%3Ds{number % 100}" if number % 2 else ""
                target = f"{CONFIGS}?watch=1&resourceVersion={start}{selector}"
                answer = await api._ask("GET", target, b"", {})
                tasks.create_task(api_server.follow(answer, sink))
            await asyncio.sleep(0)
            assert store.hub.watchers == 10_000
            await api.create(CONFIGS, config("b", shard="s1"))
            for _ in range(10_000 // 64 + 100):  # some are told in each turn of the loop
                await asyncio.sleep(0)
            assert sum(sink.received.qsize() for sink in sinks) == 5_000 + 100
            for sink in sinks:
                sink.abort()
        assert store.hub.watchers == 0
        assert not (store.hub._scopes or store.hub._general or store.hub._indexed)

    api_server.run(scenario)


def test_the_server_s_end_ends_watches() -> None:
    async def scenario(api: Api) -> api_server.MemorySink:
        await write(api, "a")
        sink = api_server.MemorySink()
        answer = await api._ask("GET", f"{CONFIGS}?watch=1", b"", {})
        running = api._tasks.create_task(api_server.follow(answer, sink))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        assert api.server.registry.objects.stores["configmaps"].hub.watchers == 0
        return sink

    assert api_server.run(scenario).received.qsize() == 1


def test_memory_of_events_is_bounded_by_their_size() -> None:
    async def scenario(api: Api) -> None:
        cache = api.server.registry.objects.stores["configmaps"].cache
        big = "x" * 900_000
        await api.create(CONFIGS, config("big", big))
        for number in range(40):
            (await api.update(f"{CONFIGS}/big", config("big", big[:-2] + f"{number:02}"))).ok()
        assert cache._event_bytes <= cache_module.EVENT_BYTES_KEPT
        assert cache.complete_since > 0
        assert cache.events_after(Revision(cache.complete_since - 1)) is None
        after = cache.events_after(cache.complete_since)
        assert after is not None
        assert after[0].revision == cache.complete_since + 1

    api_server.run(scenario)


def test_waiting_for_a_revision_that_never_comes_leaves_nothing_behind() -> None:
    async def scenario(api: Api) -> None:
        feed = api.server.feed
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(feed.wait_until(10**9 + n)) for n in range(10)]
            await asyncio.sleep(0)
            for wait in waits:
                wait.cancel()
        assert not feed._waiting

    api_server.run(scenario)
