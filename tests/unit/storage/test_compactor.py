from __future__ import annotations

import asyncio

from kybern.storage.compactor import Compactor
from kybern.storage.interface import Revision, StoreUnavailable
from kybern.storage.memory import MemoryStore
from kybern.testing.clock import FakeClock


class FlakyStore(MemoryStore):
    """Refuses its first compaction."""

    refusals = 1

    async def compact(self, revision: Revision) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("disk full")
        await super().compact(revision)


async def grow(store: MemoryStore, writes: int) -> None:
    for _ in range(writes):
        await store.create(f"/{store.revision}", b"")


def play(store: MemoryStore, **options: float) -> list[tuple[float, int]]:
    """Ten writes a minute for ten minutes; returns (time, oldest) at each minute."""

    async def run() -> list[tuple[float, int]]:
        clock = FakeClock()
        seen = []
        compactor = Compactor(store, clock, interval=30, **options)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(compactor.run(), name="compactor")
            for _ in range(10):
                await grow(store, 10)
                await clock.advance(60)
                seen.append((clock.monotonic(), int(store.oldest)))
            task.cancel()
        return seen

    return asyncio.run(run())


def test_history_is_kept_for_the_time_given() -> None:
    assert play(MemoryStore(), keep=180.0) == [
        (60, 0), (120, 0), (180, 10), (240, 10), (300, 20), (360, 30), (420, 40), (480, 50), (540, 60), (600, 70)
    ]  # fmt: skip


def test_a_burst_is_cut_to_the_most_changes_kept() -> None:
    assert [oldest for _, oldest in play(MemoryStore(), keep=10_000.0, most=25)] == [
        0,
        0,
        5,
        15,
        25,
        35,
        45,
        55,
        65,
        75,
    ]


def test_a_store_that_refuses_is_tried_again_later() -> None:
    assert [oldest for _, oldest in play(FlakyStore(), keep=180.0)][:5] == [0, 0, 0, 10, 20]


def test_history_is_cut_where_what_it_keeps_grows_large() -> None:
    async def run() -> list[int]:
        clock, store = FakeClock(), MemoryStore()
        await store.create("/a", b"x" * 100)
        seen = []
        compactor = Compactor(store, clock, interval=30, keep=10_000, most_bytes=2_000)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(compactor.run(), name="compactor")
            for _ in range(6):
                for _ in range(10):
                    await store.update("/a", b"x" * 100, None)
                await clock.advance(30)
                seen.append(int(store.revision - store.oldest))
            task.cancel()
        return seen

    kept = asyncio.run(run())
    assert kept[-1] in range(10, 31)
    assert max(kept) <= 40
