"""Caches that come and go while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.registry.object_codec import StructCodec
from kybern.apiserver.watch_cache.cache import Event, ResourceCache
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.watch_cache.hub import Hub
from kybern.machinery import scheme
from kybern.storage.memory import MemoryStore

PREFIX = "/registry/example.com/things/"


def value(name: str) -> bytes:
    return codec.encode(ConfigMap(metadata=ObjectMeta(name=name, namespace="a")))


def cache() -> ResourceCache:
    resource = scheme.kind_of("v1", "ConfigMap")
    assert resource is not None
    return ResourceCache(resource, PREFIX, StructCodec(ConfigMap), lambda _: ({}, {}))


@contextlib.asynccontextmanager
async def running(store: MemoryStore) -> AsyncIterator[Feed]:
    feed = Feed(store)
    await feed.load()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(feed.run())
        try:
            yield feed
        finally:
            task.cancel()


def names(found: ResourceCache) -> list[str]:
    return [entry.name for entry in found.entries()]


def test_a_cache_that_joins_has_what_was_there_and_follows() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await store.create(f"{PREFIX}a/one", value("one"))
        async with running(store) as feed:
            joined, hub, events = cache(), Hub(), list[Event]()
            hub.listen(events.append)
            await feed.join(joined, hub)
            assert names(joined) == ["one"]
            await feed.wait_until((await store.create(f"{PREFIX}a/two", value("two"))).mod_revision)
            assert names(joined) == ["one", "two"]
            assert [e.entry.name for e in events if e.entry is not None] == ["two"]

    asyncio.run(scenario())


def test_what_is_written_while_a_cache_joins_is_neither_lost_nor_doubled() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with running(store) as feed:
            joined, hub, events = cache(), Hub(), list[Event]()
            hub.listen(events.append)
            async with asyncio.TaskGroup() as tasks:
                for i in range(20):
                    tasks.create_task(store.create(f"{PREFIX}a/{i:02}", value(f"{i:02}")))
                    if i == 10:
                        tasks.create_task(feed.join(joined, hub))
            await feed.wait_until(store.revision)
            assert names(joined) == [f"{i:02}" for i in range(20)]
            revisions = [e.revision for e in events]
            assert revisions == sorted(set(revisions))

    asyncio.run(scenario())


def test_a_cache_that_left_hears_nothing_more() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with running(store) as feed:
            joined = cache()
            await feed.join(joined, Hub())
            feed.leave(joined)
            await feed.wait_until((await store.create(f"{PREFIX}a/one", value("one"))).mod_revision)
            assert names(joined) == []

    asyncio.run(scenario())
