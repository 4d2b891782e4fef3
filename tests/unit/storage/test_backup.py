"""Copies of a store in use, and what restoring one does to revisions and watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from kybern.storage import backup
from kybern.storage.interface import Compacted, Revision
from kybern.storage.log_file import StoreCorrupt, StoreLocked
from kybern.storage.sqlite import SqliteStore


def play(path: Path, scenario: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await SqliteStore.open(path)
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(run())


async def fill(store: SqliteStore) -> None:
    for i in range(30):
        await store.create(f"/a/{i:02}", b"first")
    await store.update("/a/00", b"second", None)
    await store.delete("/a/29", None)


def test_a_backup_of_a_store_in_use_is_whole_and_of_one_moment(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    async def scenario(store: SqliteStore) -> None:
        await fill(store)
        done = asyncio.Event()

        async def go_on() -> None:
            number = 0
            while not done.is_set():
                await store.create(f"/b/{number:05}", b"x" * 500)
                number += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(go_on())
            await asyncio.sleep(0.02)
            made = await asyncio.to_thread(backup.backup, tmp_path / "kybern.db", copy)
            done.set()
        assert 32 <= made.revision <= store.revision
        other = await SqliteStore.open(copy)
        assert other.revision == made.revision
        then = await store.list("/", revision=other.revision)
        assert (await other.list("/")).records == then.records
        assert len(then.records) == made.objects
        await other.close()

    play(tmp_path / "kybern.db", scenario)
    assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name) == []
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_replaces_nothing(tmp_path: Path) -> None:
    play(tmp_path / "kybern.db", fill)
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(FileExistsError):
        backup.backup(tmp_path / "kybern.db", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        backup.backup(tmp_path / "nothing.db", tmp_path / "other.db")


def test_a_damaged_store_makes_no_backup(tmp_path: Path) -> None:
    play(tmp_path / "kybern.db", fill)
    db = apsw.Connection(str(tmp_path / "kybern.db"))
    db.execute("UPDATE log SET value = 'forged' WHERE revision = 7")
    db.close()
    with pytest.raises(StoreCorrupt, match="row 7"):
        backup.backup(tmp_path / "kybern.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_restoring_brings_the_objects_back_and_tells_every_watch_to_list_anew(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    play(path, fill)
    backup.backup(path, tmp_path / "copy.db")

    async def spoil(store: SqliteStore) -> None:
        for record in (await store.list("/")).records:
            await store.delete(record.key, None)

    play(path, spoil)
    made, aside = backup.restore(tmp_path / "copy.db", path)
    assert aside is not None
    assert aside.exists()

    async def look(store: SqliteStore) -> None:
        assert store.revision == made.revision == 32 + backup.BUMP
        records = (await store.list("/")).records
        assert [r.key for r in records] == [f"/a/{i:02}" for i in range(29)]
        assert records[0].value == b"second"
        for known in (Revision(5), Revision(61), Revision(32 + 1000)):
            with pytest.raises(Compacted):
                store.watch("/", known)
        changed = await store.update("/a/00", b"third", Revision(31))
        assert changed.mod_revision == made.revision + 1

    play(path, look)
    play(path, lambda store: asyncio.sleep(0))  # and it opens again


def test_a_store_in_use_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        await fill(store)
        await asyncio.to_thread(backup.backup, path, tmp_path / "copy.db")
        with pytest.raises(StoreLocked):
            await asyncio.to_thread(backup.restore, tmp_path / "copy.db", path)
        assert (await store.get("/a/00")) is not None

    play(path, scenario)


def test_what_is_no_backup_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    play(path, fill)
    before = path.read_bytes()
    (tmp_path / "text").write_text("no store at all, but a text that is long enough to be looked at" * 100)
    with pytest.raises(StoreCorrupt):
        backup.restore(tmp_path / "text", path)
    assert path.read_bytes() == before


def test_room_is_given_back_after_compaction(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        async with asyncio.TaskGroup() as tasks:
            for i in range(1200):
                tasks.create_task(store.create(f"/a/{i}", b"x" * 6000))
        async with asyncio.TaskGroup() as tasks:
            for i in range(1100):
                tasks.create_task(store.delete(f"/a/{i}", None))
        await store.compact(store.revision)
        assert (await store.scrub()).faults == ()

    play(path, scenario)
    assert path.stat().st_size < 4 << 20  # of 8, and nobody shrinks further than that
