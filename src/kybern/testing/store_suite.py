"""The store's contract as tests: every implementation of storage/interface passes the same ones.

Subclass `StoreSuite` with `open_store` and let pytest collect it. Beside store_machine, which goes where no named
case does. Used by tests/conformance/test_store.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from kybern.storage.interface import (
    Change,
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    Record,
    Revision,
    RevisionMismatch,
    Store,
    StoreError,
    StoreUnavailable,
    Watch,
)

Open = Callable[[Path], Coroutine[Any, Any, Store]]
"""Opens a store which keeps its files, if any, in the directory given."""

PATIENCE = 20.0  # seconds until a test gives up waiting for something that must come


async def read_watch(watch: Watch, count: int) -> list[Change]:
    """Exactly the next `count` changes; fails if more come with them, or too few in time."""
    seen: list[Change] = []
    async with asyncio.timeout(PATIENCE):
        batches = aiter(watch)
        while len(seen) < count:
            batch = await anext(batches)
            assert batch, "a batch is never empty"
            seen += batch
    assert len(seen) == count
    return seen


class StoreSuite:
    """The cases worth a name. Each opens a fresh store."""

    async def open_store(self, directory: Path) -> Store:
        raise NotImplementedError

    def play(self, directory: Path, scenario: Callable[[Store], Awaitable[None]]) -> None:
        async def run() -> None:
            store = await self.open_store(directory)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(run())

    def test_an_empty_store_is_at_revision_0_and_lists_nothing(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            assert (store.revision, store.oldest) == (0, 0)
            page = await store.list("/")
            assert (list(page.records), page.revision, page.more, page.remaining) == ([], 0, False, 0)
            assert await store.get("/a") is None

        self.play(tmp_path, scenario)

    def test_each_write_takes_the_next_revision_and_is_read_back(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            created = await store.create("/a", b"1")
            assert created == Record("/a", b"1", Revision(1), Revision(1))
            assert await store.get("/a") == created
            updated = await store.update("/a", b"2", Revision(1))
            assert updated == Record("/a", b"2", Revision(1), Revision(2))
            assert await store.get("/a") == updated
            deleted = await store.delete("/a", Revision(2))
            assert deleted == Record("/a", b"2", Revision(1), Revision(3))
            assert await store.get("/a") is None
            again = await store.create("/a", b"3")
            assert again == Record("/a", b"3", Revision(4), Revision(4))
            assert store.revision == 4

        self.play(tmp_path, scenario)

    def test_a_refused_write_says_why_and_leaves_no_trace(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            first = await store.create("/a", b"1")
            with pytest.raises(KeyExists) as exists:
                await store.create("/a", b"2")
            assert exists.value.record == first
            for write in (store.update("/a", b"2", Revision(7)), store.delete("/a", Revision(7))):
                with pytest.raises(RevisionMismatch) as mismatch:
                    await write
                assert mismatch.value.record == first
            for write in (store.update("/b", b"2", None), store.delete("/b", None), store.delete("/b", Revision(1))):
                with pytest.raises(KeyMissing):
                    await write
            assert await store.get("/a") == first
            assert store.revision == 1
            assert [c.revision for c in await read_watch(store.watch("/", Revision(0)), 1)] == [1]

        self.play(tmp_path, scenario)

    def test_writes_without_expectation_take_any_revision(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            await store.create("/a", b"1")
            await store.update("/a", b"2", None)
            assert (await store.delete("/a", None)).value == b"2"

        self.play(tmp_path, scenario)

    def test_values_and_keys_come_back_as_they_were(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            values = [b"", b"\0", bytes(range(256)), b"x" * 1_500_000, '{"a":"\u2028"}'.encode()]
            keys = ["/k", "/k with space", "/k'\"%_", "/ключ", "/\U0001f600"]
            for key, value in zip(keys, values, strict=True):
                await store.create(key, value)
            for key, value in zip(keys, values, strict=True):
                record = await store.get(key)
                assert record is not None
                assert (record.key, record.value) == (key, value)

        self.play(tmp_path, scenario)

    def test_a_list_is_ordered_by_key_and_holds_the_prefix_only(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            for key in ["/b/2", "/a/x", "/b/10", "/b", "/b/1", "/b0", "/b/é", "/b/\U0001f600", "/b/\uffff"]:
                await store.create(key, b"")
            page = await store.list("/b/")
            assert [r.key for r in page.records] == ["/b/1", "/b/10", "/b/2", "/b/é", "/b/\uffff", "/b/\U0001f600"]
            assert (page.more, page.remaining, page.revision) == (False, 0, 9)
            assert len((await store.list("")).records) == 9
            assert len((await store.list("/b/", after="/b/10")).records) == 4
            assert len((await store.list("/b/", after="/a")).records) == 6
            assert len((await store.list("/b/", after="/c")).records) == 0

        self.play(tmp_path, scenario)

    def test_pages_at_one_revision_are_one_consistent_listing(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            for i in range(10):
                await store.create(f"/p/{i}", b"old")
            page = await store.list("/p/", limit=4)
            seen = [*page.records]
            assert (len(seen), page.more, page.remaining, page.revision) == (4, True, 6, 10)
            await store.delete("/p/5", None)
            await store.update("/p/6", b"new", None)
            await store.create("/p/55", b"new")
            await store.delete("/p/9", None)
            await store.create("/p/9", b"new")
            while page.more:
                page = await store.list("/p/", limit=4, after=seen[-1].key, revision=page.revision)
                assert page.revision == 10
                seen += page.records
                assert page.remaining == 10 - len(seen)
            assert [(r.key, r.value) for r in seen] == [(f"/p/{i}", b"old") for i in range(10)]
            now = await store.list("/p/")
            assert [r.key for r in now.records] == [f"/p/{i}" for i in (0, 1, 2, 3, 4, 55, 6, 7, 8, 9)]

        self.play(tmp_path, scenario)

    def test_the_past_stays_readable_until_it_is_compacted(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            await store.create("/a", b"1")
            await store.update("/a", b"2", None)
            await store.delete("/a", None)
            await store.create("/a", b"4")
            await store.create("/b", b"5")

            async def values(key: str, since: int) -> list[bytes | None]:
                records = [await store.get(key, Revision(r)) for r in range(since, 6)]
                return [None if r is None else r.value for r in records]

            assert await values("/a", 0) == [None, b"1", b"2", None, b"4", b"4"]
            await store.compact(Revision(2))
            assert store.oldest == 2
            assert await values("/a", 2) == [b"2", None, b"4", b"4"]
            for refused in (store.get("/a", Revision(1)), store.list("/", revision=Revision(1))):
                with pytest.raises(Compacted) as compacted:
                    await refused
                assert compacted.value.oldest == 2
            await store.compact(Revision(3))
            assert await values("/a", 3) == [None, b"4", b"4"]
            await store.compact(Revision(1))  # forgotten already
            assert store.oldest == 3
            await store.compact(Revision(5))
            assert await values("/a", 5) == [b"4"]
            assert await values("/b", 5) == [b"5"]

        self.play(tmp_path, scenario)

    def test_the_future_is_refused(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            await store.create("/a", b"1")
            for refused in (
                store.get("/a", Revision(2)),
                store.list("/", revision=Revision(2)),
                store.compact(Revision(2)),
            ):
                with pytest.raises(FutureRevision) as future:
                    await refused
                assert future.value.current == 1
            with pytest.raises(FutureRevision):
                store.watch("/", Revision(2))

        self.play(tmp_path, scenario)

    def test_a_watch_tells_what_was_and_what_is_from_any_revision_on(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            one = await store.create("/a/x", b"1")
            await store.create("/b/x", b"2")
            three = await store.update("/a/x", b"3", None)
            live = store.watch("/a/", store.revision)
            late = store.watch("/a/", Revision(1))
            await store.delete("/a/x", None)
            five = await store.create("/a/x", b"5")
            new = [Change(Revision(4), "/a/x", None, three), Change(Revision(5), "/a/x", five, None)]
            assert await read_watch(live, 2) == new
            assert await read_watch(late, 3) == [Change(Revision(3), "/a/x", three, one), *new]
            whole = store.watch("", Revision(0))
            assert [c.revision for c in await read_watch(whole, 5)] == [1, 2, 3, 4, 5]

        self.play(tmp_path, scenario)

    def test_watches_of_a_key_and_of_what_is_below_it_each_get_their_own(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            prefixes = ["/a", "/a/", "/a/b", "/a/b/c/d", "/b", ""]
            watches = [store.watch(prefix, Revision(0)) for prefix in prefixes]
            keys = ["/a", "/a/", "/a/b", "/ab", "/a/b/c", "/c"]
            for key in keys:
                await store.create(key, b"")
            for prefix, watch in zip(prefixes, watches, strict=True):
                due = [key for key in keys if key.startswith(prefix)]
                assert [change.key for change in await read_watch(watch, len(due))] == due

        self.play(tmp_path, scenario)

    def test_a_watch_delivers_every_change_once_and_in_order_under_load(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            for i in range(200):
                await store.create(f"/warm/{i}", b"")
            watches = [store.watch("/w/", Revision(since)) for since in (0, 100, 200)]

            async def write(worker: int) -> None:
                for i in range(150):
                    await store.create(f"/w/{worker}/{i}", b"v")
                    await store.create(f"/other/{worker}/{i}", b"v")

            async with asyncio.TaskGroup() as group:
                readers = [group.create_task(read_watch(w, 16 * 150), name="reader") for w in watches]
                for worker in range(16):
                    group.create_task(write(worker), name=f"writer {worker}")
            for reader in readers:
                seen = reader.result()
                revisions = [change.revision for change in seen]
                assert revisions == sorted(set(revisions))
                assert len({change.key for change in seen}) == 16 * 150

        self.play(tmp_path, scenario)

    def test_a_write_is_visible_to_reads_once_it_is_told_to_a_watch(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            watch = store.watch("/", Revision(0))

            async def read() -> None:
                seen = 0
                async for batch in watch:
                    for change in batch:
                        assert change.record is not None
                        assert store.revision >= change.revision
                        assert await store.get(change.key) == change.record
                        seen += 1
                    if seen == 100:
                        return

            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                group.create_task(read(), name="reader")
                for i in range(100):
                    group.create_task(store.create(f"/{i}", b""), name="writer")

        self.play(tmp_path, scenario)

    def test_watching_from_before_the_compaction_is_refused_and_running_watches_go_on(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            watch = store.watch("/", Revision(0))
            for i in range(5):
                await store.create(f"/{i}", b"")
            await read_watch(watch, 5)
            await store.compact(Revision(4))
            with pytest.raises(Compacted):
                store.watch("/", Revision(3))
            await store.create("/5", b"")
            assert [c.revision for c in await read_watch(watch, 1)] == [6]
            assert [c.revision for c in await read_watch(store.watch("/", Revision(4)), 2)] == [5, 6]

        self.play(tmp_path, scenario)

    def test_closing_a_watch_ends_its_reader(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            watch = store.watch("/", Revision(0))

            async def read() -> int:
                return sum([len(batch) async for batch in watch])

            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                reader = group.create_task(read(), name="reader")
                await store.create("/a", b"")
                while store.revision < 1 or not reader.done():
                    await asyncio.sleep(0)
                    if store.revision == 1:
                        await watch.close()
            await watch.close()
            await store.create("/b", b"")
            assert reader.result() <= 1

        self.play(tmp_path, scenario)

    def test_of_writers_racing_for_one_revision_exactly_one_wins(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            winners = [
                r
                for r in await asyncio.gather(
                    *(store.create("/a", b"%d" % i) for i in range(50)), return_exceptions=True
                )
                if isinstance(r, Record)
            ]
            assert len(winners) == 1
            assert await store.get("/a") == winners[0]

            async def count_up() -> None:
                while True:
                    now = await store.get("/n")
                    assert now is not None
                    try:
                        await store.update("/n", b"%d" % (int(now.value) + 1), now.mod_revision)
                    except RevisionMismatch:
                        continue
                    return

            await store.create("/n", b"0")
            await asyncio.gather(*(count_up() for _ in range(40)))
            counted = await store.get("/n")
            assert counted is not None
            assert counted.value == b"40"
            assert store.revision == 1 + 1 + 40

        self.play(tmp_path, scenario)

    def test_concurrent_writes_are_a_serial_history(self, tmp_path: Path) -> None:
        """Replayed in order of revision, every accepted write must have been allowed, and nothing is missing."""

        async def scenario(store: Store) -> None:
            dice = random.Random(7)
            keys = [f"/k{i}" for i in range(6)]

            async def work() -> int:
                done = 0
                for _ in range(40):
                    key, expected = dice.choice(keys), None
                    if dice.random() < 0.5 and (now := await store.get(key)) is not None:
                        expected = now.mod_revision
                    try:
                        match dice.randrange(3):
                            case 0:
                                await store.create(key, b"c")
                            case 1:
                                await store.update(key, b"u", expected)
                            case _:
                                await store.delete(key, expected)
                        done += 1
                    except (KeyExists, KeyMissing, RevisionMismatch):
                        pass
                return done

            done = sum(await asyncio.gather(*(work() for _ in range(24))))
            assert store.revision == done
            state: dict[str, Record] = {}
            for number, change in enumerate(await read_watch(store.watch("/", Revision(0)), done), start=1):
                assert change.revision == number
                assert change.previous == state.get(change.key)
                assert change.record is not None or change.previous is not None
                if change.record is None:
                    del state[change.key]
                else:
                    assert change.record.mod_revision == number
                    state[change.key] = change.record
            assert list((await store.list("/")).records) == [state[key] for key in sorted(state)]

        self.play(tmp_path, scenario)

    def test_a_cancelled_caller_harms_nobody_else(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                tasks = [group.create_task(store.create(f"/{i}", b""), name="writer") for i in range(20)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
            for i in range(1, 20, 2):
                assert await store.get(f"/{i}") is not None
            assert (await store.create("/last", b"")).mod_revision == store.revision
            changes = await read_watch(store.watch("/", Revision(0)), store.revision)
            assert [c.revision for c in changes] == list(range(1, store.revision + 1))

        self.play(tmp_path, scenario)

    def test_a_closed_store_refuses_everything(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            await store.create("/a", b"")
            watch = store.watch("/", Revision(1))
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(_failure_of(anext(aiter(watch))), name="reader")
                await asyncio.sleep(0)
                await store.close()
            assert isinstance(reader.result(), StoreUnavailable)
            for refused in (
                store.get("/a"),
                store.list("/"),
                store.create("/b", b""),
                store.update("/a", b"", None),
                store.delete("/a", None),
                store.compact(Revision(1)),
            ):
                with pytest.raises(StoreUnavailable):
                    await refused
            with pytest.raises(StoreUnavailable):
                store.watch("/", Revision(1))
            await store.close()

        self.play(tmp_path, scenario)

    def test_a_group_of_refusals_only_leaves_the_store_working(self, tmp_path: Path) -> None:
        async def scenario(store: Store) -> None:
            for _ in range(20):
                made = asyncio.gather(*(store.create("/r/a", b"1") for _ in range(2)), return_exceptions=True)
                await asyncio.sleep(0)  # the first is on its way to the disk: what depends on it waits in a group
                refused = asyncio.gather(*(store.create("/r/a", b"2") for _ in range(5)), return_exceptions=True)
                results = [*await made, *await refused]
                assert sum(isinstance(r, KeyExists) for r in results) == len(results) - 1
                await store.delete("/r/a", None)

        self.play(tmp_path, scenario)


async def _failure_of(work: Awaitable[object]) -> BaseException | None:
    try:
        await asyncio.wait_for(work, PATIENCE)
    except (StoreError, StopAsyncIteration) as error:
        return error
    return None
