from __future__ import annotations

import asyncio

import pytest

from kybern.storage.history import History
from kybern.storage.interface import Change, Compacted, Record, Revision, StoreUnavailable
from kybern.storage.watchers import PENDING, SCAN, LogWatch


def grow(history: History, key: str, count: int = 1) -> None:
    """Commit `count` changes of one key, together."""
    changes: list[Change] = []
    current = history.get(key)
    for _ in range(count):
        revision = Revision(history.revision + len(changes) + 1)
        record = Record(key, b"", current.create_revision if current else revision, revision)
        changes.append(Change(revision, key, record, current))
        current = record
    history.apply(changes)


async def read(watch: LogWatch, count: int) -> list[int]:
    revisions: list[int] = []
    while len(revisions) < count:
        revisions += [change.revision for change in await asyncio.wait_for(anext(watch), 10)]
    return revisions


def test_a_slow_reader_gets_everything_in_order_after_its_queue_overflowed() -> None:
    async def scenario() -> None:
        history = History()
        watch = history.watch("/a", Revision(0))
        for _ in range(PENDING // 10 + 20):
            grow(history, "/a", 10)
            grow(history, "/b", 3)
        expected = [change.revision for change in history.changes_after(Revision(0), 1_000_000) if change.key == "/a"]
        assert len(expected) > PENDING
        assert await read(watch, len(expected)) == expected
        grow(history, "/a")
        assert await read(watch, 1) == [history.revision]

    asyncio.run(scenario())


def test_a_batch_larger_than_the_queue_is_read_from_the_log() -> None:
    async def scenario() -> None:
        history = History()
        watch = history.watch("/a", Revision(0))
        grow(history, "/a", PENDING * 2 + 7)
        grow(history, "/a")
        assert await read(watch, PENDING * 2 + 8) == list(range(1, PENDING * 2 + 9))

    asyncio.run(scenario())


def test_changes_that_come_while_a_reader_catches_up_are_not_lost() -> None:
    async def scenario() -> None:
        history = History()
        grow(history, "/a", SCAN * 2 + 5)
        watch = history.watch("/a", Revision(3))
        seen = await read(watch, 1)
        grow(history, "/a", 3)
        seen += await read(watch, 1)
        grow(history, "/a", 3)
        seen += await read(watch, SCAN * 2 + 11 - 3 - len(seen))
        assert seen == list(range(4, SCAN * 2 + 12))

    asyncio.run(scenario())


def test_a_long_log_of_other_keys_does_not_keep_a_reader_from_what_comes() -> None:
    async def scenario() -> None:
        history = History()
        grow(history, "/b", SCAN * 3)
        watch = history.watch("/a", Revision(0))
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read(watch, 1), name="reader")
            await asyncio.sleep(0)
            grow(history, "/a")
        assert reader.result() == [SCAN * 3 + 1]

    asyncio.run(scenario())


def test_compaction_overtakes_only_a_reader_whose_hands_are_full() -> None:
    async def scenario() -> None:
        history = History()
        grow(history, "/a", PENDING * 2)
        slow, careful = history.watch("/a", Revision(0)), history.watch("/b", Revision(0))
        history.compact(Revision(10))
        history.compact(history.revision)
        seen = 0
        with pytest.raises(Compacted):
            while True:
                batch = await asyncio.wait_for(anext(slow), 10)
                assert [change.revision for change in batch] == list(range(seen + 1, seen + len(batch) + 1))
                seen += len(batch)
        assert seen >= PENDING
        grow(history, "/b")
        assert await read(careful, 1) == [PENDING * 2 + 1]

    asyncio.run(scenario())


def test_a_cancelled_read_loses_nothing() -> None:
    async def scenario() -> None:
        history = History()
        watch = history.watch("/", Revision(0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(watch)
        grow(history, "/a", 2)
        assert await read(watch, 2) == [1, 2]

    asyncio.run(scenario())


def test_each_watch_gets_its_own_batch() -> None:
    async def scenario() -> None:
        history = History()
        one, other = history.watch("/a", Revision(0)), history.watch("/a", Revision(0))
        grow(history, "/a")
        batch = await anext(one)
        assert isinstance(batch, list)
        batch.clear()
        grow(history, "/a")
        assert await read(other, 2) == [1, 2]

    asyncio.run(scenario())


def test_closed_watches_are_forgotten() -> None:
    async def scenario() -> None:
        history = History()
        watches = [history.watch(prefix, Revision(0)) for prefix in ("/", "/a", "/a", "")]
        grow(history, "/a")
        for watch in watches:
            await watch.close()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)
        assert len(history.watchers) == 0
        grow(history, "/a")

    asyncio.run(scenario())


def test_a_failed_store_ends_watches_after_what_they_were_owed() -> None:
    async def scenario() -> None:
        history = History()
        watch = history.watch("/", Revision(0))
        grow(history, "/a")
        history.watchers.fail(StoreUnavailable("closed"))
        assert await read(watch, 1) == [1]
        with pytest.raises(StoreUnavailable):
            await anext(watch)
        await watch.close()

    asyncio.run(scenario())
