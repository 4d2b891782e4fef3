"""Copies between stores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kybern.storage import migrate
from kybern.storage.interface import Record
from kybern.storage.memory import MemoryStore
from kybern.storage.sqlite import SqliteStore


async def filled(count: int) -> MemoryStore:
    store = MemoryStore()
    for i in range(count):
        await store.create(f"/registry/things/{i:05}", bytes([i % 256]) * (i % 50))
    await store.delete("/registry/things/00003", None)
    return store


def test_all_that_is_there_now_is_copied_byte_for_byte(tmp_path: Path) -> None:
    async def run() -> None:
        source = await filled(4100)
        target = await SqliteStore.open(tmp_path / "kybern.db")
        assert await migrate.copy(source, target) == 4099
        ours, theirs = await source.list(""), await target.list("")
        assert [(r.key, r.value) for r in ours.records] == [(r.key, r.value) for r in theirs.records]
        back = MemoryStore()
        assert await migrate.copy(target, back) == 4099
        await target.close()

    asyncio.run(run())


def test_a_target_in_use_is_left_alone() -> None:
    async def run() -> None:
        target = MemoryStore()
        await target.create("/registry/other", b"x")
        with pytest.raises(migrate.NotEmpty, match="/registry/other"):
            await migrate.copy(await filled(5), target)
        assert len((await target.list("")).records) == 1

    asyncio.run(run())


def test_a_copy_that_reads_differently_is_no_copy() -> None:
    class Forgetful(MemoryStore):
        async def create(self, key: str, value: bytes) -> Record:
            return await super().create(key, value[:-1] if key.endswith("7") else value)

    class Lossy(MemoryStore):
        async def create(self, key: str, value: bytes) -> Record:
            return await super().create(key, value) if not key.endswith("9") else Record(key, value, 0, 0)  # type: ignore[arg-type]

    async def run() -> None:
        targets: Sequence[MemoryStore] = (Forgetful(), Lossy())
        for target in targets:
            with pytest.raises(migrate.NotTheSame):
                await migrate.copy(await filled(30), target)

    asyncio.run(run())
