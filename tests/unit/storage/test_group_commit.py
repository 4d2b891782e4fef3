from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from kybern.storage import plan
from kybern.storage.group_commit import COLLECTED, GROUP_BYTES, GROUP_WRITES, GroupCommit
from kybern.storage.history import History
from kybern.storage.interface import Change, KeyExists, KeyMissing, Record, Revision, StoreUnavailable


class Disk:
    """Takes a group only when told to, and fails when told to. Runs in the writer's thread."""

    def __init__(self) -> None:
        self.groups: list[list[Change]] = []
        self.go = threading.Semaphore(0)
        self.broken: Exception | None = None

    def append(self, changes: Sequence[Change]) -> None:
        self.go.acquire()
        if self.broken is not None:
            raise self.broken
        self.groups.append(list(changes))


def play(scenario: Callable[[GroupCommit, History, Disk], Awaitable[None]]) -> Disk:
    disk, history = Disk(), History()

    async def run() -> None:
        with ThreadPoolExecutor(1) as writer:
            try:
                await scenario(GroupCommit(history, disk.append, writer), history, disk)
            finally:
                for _ in range(10_000):
                    disk.go.release()

    asyncio.run(run())
    return disk


def create(key: str, value: bytes = b"") -> Callable[[Record | None, Revision], Change]:
    return lambda now, revision: plan.plan_create(now, key, value, revision)


def update(key: str) -> Callable[[Record | None, Revision], Change]:
    return lambda now, revision: plan.plan_update(now, key, b"", None, revision)


def delete(key: str) -> Callable[[Record | None, Revision], Change]:
    return lambda now, revision: plan.plan_delete(now, key, None, revision)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_writes_of_one_turn_share_a_group_and_later_ones_collect_for_the_next() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        async with asyncio.TaskGroup() as group:
            for i in range(5):
                group.create_task(commits.write(f"/{i}", create(f"/{i}")), name="first")
            await settle()
            for i in range(5, 12):
                group.create_task(commits.write(f"/{i}", create(f"/{i}")), name="second")
            await settle()
            assert history.revision == 0, "nothing is visible before it is durable"
            disk.go.release(2)
        assert history.revision == 12

    assert [len(changes) for changes in play(scenario).groups] == [5, 7]


def test_dependent_writes_in_one_group_are_decided_one_after_the_other() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        decisions = [create("/a"), create("/a"), update("/a"), delete("/a"), update("/a"), create("/a")]
        writes = asyncio.gather(*(commits.write("/a", d) for d in decisions), return_exceptions=True)
        await settle()
        assert not writes.done()
        disk.go.release()
        results = await writes
        assert [type(result) for result in results] == [Change, KeyExists, Change, Change, KeyMissing, Change]
        assert [result.revision for result in results if isinstance(result, Change)] == [1, 2, 3, 4]
        record = history.get("/a")
        assert record is not None
        assert (record.create_revision, record.mod_revision) == (4, 4)

    play(scenario)


def test_a_write_is_decided_upon_the_last_one_of_its_key_also_when_an_earlier_one_became_durable() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(commits.write("/a", create("/a")), name="first")
            await settle()
            group.create_task(commits.write("/a", update("/a")), name="second")
            await settle()
            disk.go.release()
            while history.revision < 1:  # noqa: ASYNC110 (the disk's thread tells nobody but the loop)
                await asyncio.sleep(0)
            third = group.create_task(
                commits.write("/a", lambda now, revision: plan.plan_delete(now, "/a", Revision(2), revision)),
                name="third",
            )
            await settle()
            disk.go.release(2)
        assert third.result().revision == 3

    play(scenario)


def test_a_failed_group_takes_along_what_was_decided_upon_it() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        disk.go.release()
        await commits.write("/kept", create("/kept"))
        doomed = [commits.write("/a", create("/a")), commits.write("/kept", delete("/kept"))]
        first = asyncio.gather(*doomed, return_exceptions=True)
        await settle()
        later = [
            commits.write("/a", update("/a")),
            commits.write("/a", create("/a")),
            commits.write("/b", create("/b")),
        ]
        second = asyncio.gather(*later, return_exceptions=True)
        await settle()
        disk.broken = StoreUnavailable("disk full")
        disk.go.release()
        for result in [*await first, *await second]:
            assert isinstance(result, StoreUnavailable)
            assert "disk full" in str(result)
        assert history.revision == 1
        assert history.get("/kept") is not None

        disk.broken = None
        disk.go.release()
        assert (await commits.write("/a", create("/a"))).revision == 2

    assert [[c.revision for c in changes] for changes in play(scenario).groups] == [[1], [2]]


def test_any_fault_of_the_writer_reaches_the_callers() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        disk.broken = ValueError("a bug")
        disk.go.release()
        with pytest.raises(StoreUnavailable, match="a bug") as unavailable:
            await commits.write("/a", create("/a"))
        assert isinstance(unavailable.value.__cause__, ValueError)

    play(scenario)


def test_a_refusal_without_pending_writes_is_told_at_once() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        with pytest.raises(KeyMissing):
            await commits.write("/a", update("/a"))

    assert play(scenario).groups == []


def test_groups_are_bounded_by_count_and_size() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        big = b"x" * (GROUP_BYTES // 4)
        async with asyncio.TaskGroup() as group:
            for i in range(GROUP_WRITES + 10):
                group.create_task(commits.write(f"/{i}", create(f"/{i}")), name="small")
            for i in range(9):
                group.create_task(commits.write(f"/b{i}", create(f"/b{i}", big)), name="big")
            await settle()
            disk.go.release(5)

    assert [len(changes) for changes in play(scenario).groups] == [GROUP_WRITES, 14, 4, 1]


def test_more_writers_than_there_is_room_for_wait_and_all_get_through() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        count = COLLECTED + GROUP_WRITES * 2
        async with asyncio.TaskGroup() as group:
            for i in range(count):
                group.create_task(commits.write(f"/{i}", create(f"/{i}")), name="writer")
            await settle()
            disk.go.release(100)
        assert history.revision == count

    play(scenario)


def test_a_cancelled_caller_does_not_stop_its_write() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(commits.write("/a", create("/a")), name="writer")
            other = group.create_task(commits.write("/b", create("/b")), name="other")
            await settle()
            writer.cancel()
            disk.go.release()
        assert other.result().revision == 2
        assert history.get("/a") is not None

    play(scenario)


def test_closing_waits_for_what_is_on_its_way() -> None:
    async def scenario(commits: GroupCommit, history: History, disk: Disk) -> None:
        async with asyncio.TaskGroup() as group:
            writes = [group.create_task(commits.write(f"/{i}", create(f"/{i}")), name="writer") for i in range(3)]
            await settle()
            closing = group.create_task(commits.close(), name="closing")
            await settle()
            assert not closing.done()
            with pytest.raises(StoreUnavailable):
                await commits.write("/late", create("/late"))
            disk.go.release()
            await closing
        assert all(write.done() for write in writes)
        assert history.revision == 3

    play(scenario)
