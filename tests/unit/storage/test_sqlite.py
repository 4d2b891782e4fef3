"""What only a store on disk must prove: durability, damage, failure. The contract is tests/conformance/test_store."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import apsw
import pytest

from kybern.storage.interface import Compacted, KeyExists, Record, Revision, StoreUnavailable
from kybern.storage.log_file import LogFile
from kybern.storage.sqlite import SqliteStore, StoreCorrupt, StoreLocked


def play(path: Path, *scenarios: Callable[[SqliteStore], Awaitable[None]]) -> None:
    """Each scenario on the same file, opened anew."""

    async def run() -> None:
        for scenario in scenarios:
            store = await SqliteStore.open(path)
            try:
                await scenario(store)
            finally:
                await store.close()

    asyncio.run(run())


async def fill(store: SqliteStore) -> None:
    """Rows 1 to 40, of which some supersede others."""
    for i in range(20):
        await store.create(f"/a/{i:02}", b"first %d" % i)
    for i in range(10):
        await store.update(f"/a/{i:02}", b"second %d" % i, None)
    for i in range(5, 15):
        await store.delete(f"/a/{i:02}", None)


def alter(path: Path, statement: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(statement)
    db.close()


def test_everything_is_there_after_reopening_past_included(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    seen: list[object] = []

    async def look(store: SqliteStore) -> None:
        pages = [await store.list("/", revision=Revision(r)) for r in range(41)]
        watch = store.watch("/", Revision(0))
        seen.append((store.revision, store.oldest, pages, await anext(aiter(watch))))

    async def fill_and_look(store: SqliteStore) -> None:
        await fill(store)
        await look(store)

    play(path, fill_and_look, look)
    assert seen[0] == seen[1]


def test_compaction_survives_reopening_and_shrinks_the_log(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def compact(store: SqliteStore) -> None:
        await fill(store)
        await store.compact(Revision(35))

    async def look(store: SqliteStore) -> None:
        assert (store.revision, store.oldest) == (40, 35)
        assert len((await store.list("/", revision=Revision(35))).records) == 15
        assert len((await store.list("/")).records) == 10
        with pytest.raises(Compacted):
            await store.get("/a/00", Revision(34))
        assert (await store.scrub()).rows == 15 + 5
        await store.compact(Revision(40))
        assert (await store.scrub()).rows == 10

    async def look_again(store: SqliteStore) -> None:
        assert (store.revision, store.oldest) == (40, 40)
        assert (await store.create("/b", b"")).mod_revision == 41

    play(path, compact, look, look_again)


def test_an_emptied_and_compacted_store_keeps_counting(tmp_path: Path) -> None:
    async def empty(store: SqliteStore) -> None:
        await store.create("/a", b"")
        await store.delete("/a", None)
        await store.compact(Revision(2))

    async def look(store: SqliteStore) -> None:
        assert (store.revision, store.oldest) == (2, 2)
        assert (await store.create("/a", b"")).create_revision == 3

    play(tmp_path / "kybern.db", empty, look)


def test_a_second_opener_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        with pytest.raises(StoreLocked, match=rf"{path} is in use by process \d+; stop it first"):
            await SqliteStore.open(path)
        other = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", OPEN_ONCE, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "StoreLocked" in other.stderr
        assert await store.create("/a", b"")

    play(path, scenario)
    subprocess.run([sys.executable, "-c", OPEN_ONCE, str(path)], check=True)


OPEN_ONCE = """
import asyncio, pathlib, sys
from kybern.storage.log_file import LogFile
from kybern.storage.sqlite import SqliteStore
asyncio.run(SqliteStore.open(pathlib.Path(sys.argv[1])))
"""


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        await store.create("/a", b"")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    play(path, scenario)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """What a killed process cannot show, only a cut of power: SQLite must be told to fsync each commit."""
    file = LogFile(tmp_path / "kybern.db")
    assert (file._db.pragma("synchronous"), file._db.pragma("journal_mode")) == (2, "wal")
    file.close()


WRITE_UNTIL_KILLED = """
import asyncio, pathlib, sys
from kybern.storage.log_file import LogFile
from kybern.storage.sqlite import SqliteStore

async def write(store, worker):
    for i in range(1_000_000):
        key = f"/w/{worker}/{i}"
        record = await store.create(key, b"v" * (i % 3000))
        print(key, record.mod_revision, flush=True)
        if i % 3 == 0:
            record = await store.delete(key, record.mod_revision)
            print(key, -record.mod_revision, flush=True)

async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        for worker in range(16):
            group.create_task(write(store, worker))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 50, *(pytest.param(n, marks=pytest.mark.thorough) for n in (3000, 9001))])
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "kybern.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.readlines()
    writer.wait()

    async def look(store: SqliteStore) -> None:
        newest = 0
        alive: dict[str, int] = {}
        for line in acknowledged:
            if not line.endswith("\n"):
                continue
            key, revision = line.split()
            alive[key] = int(revision)
            newest = max(newest, abs(int(revision)))
        assert store.revision >= newest
        for key, revision in alive.items():
            assert (await store.get(key, Revision(abs(revision))) is None) == (revision < 0), key
        assert not (await store.scrub()).faults

    play(path, look)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE log SET value = CAST('first 8' AS BLOB) WHERE revision = 3", r"row 3 \(/a/02\) does not match"),
        ("UPDATE log SET value = NULL WHERE revision = 3", r"row 3 \(/a/02\) does not match"),
        ("UPDATE log SET key = '/a/zz' WHERE revision = 3", r"row 3 \(/a/zz\) does not match"),
        ("UPDATE log SET key = CAST(x'ff2f' AS TEXT) WHERE revision = 3", r"row 3 \(.*\) does not match"),
        ("UPDATE log SET created = 7 WHERE revision = 30", r"row 30 \(/a/09\) does not match"),
        ("UPDATE log SET created = 'x' WHERE revision = 30", r"row 30 \(/a/09\) does not match"),
        ("UPDATE log SET checksum = 7 WHERE revision = 40", r"row 40 \(/a/14\) does not match"),
        ("DELETE FROM log WHERE revision = 1", "row 1 is missing"),
        ("DELETE FROM log WHERE revision = 25", "row 25 is missing"),
        ("UPDATE span SET oldest = 30", r"row 21 \(/a/00\) should have been removed by compaction at 30"),
        ("DELETE FROM span", "`span` does not hold one revision"),
        ("DROP TABLE log", "no such table: log"),
        ("PRAGMA user_version = 9", "not a store of format 1"),
    ],
)
def test_a_damaged_row_is_found_at_boot_and_named(tmp_path: Path, statement: str, fault: str) -> None:
    path = tmp_path / "kybern.db"
    play(path, fill)
    alter(path, statement)
    with pytest.raises(StoreCorrupt, match=fault) as corrupt:
        play(path, fill)
    assert str(path) in str(corrupt.value)


def test_a_lost_row_of_the_compacted_past_is_found_when_its_key_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def compact(store: SqliteStore) -> None:
        await store.create("/a", b"")
        await store.compact(Revision(1))
        await store.update("/a", b"", None)

    play(path, compact)
    alter(path, "DELETE FROM log WHERE revision = 1")
    with pytest.raises(StoreCorrupt, match=r"row 2 \(/a\) does not follow"):
        play(path, fill)


def test_a_torn_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    play(path, fill)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=f"{path} is damaged"):
        play(path, fill)


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever bit turns: either the boot refuses, or every record reads as it was written."""
    path = tmp_path / "kybern.db"
    good: list[Record] = []

    async def remember(store: SqliteStore) -> None:
        await fill(store)
        good.extend((await store.list("/")).records)

    async def compare(store: SqliteStore) -> None:
        assert (await store.list("/")).records == good

    play(path, remember)
    intact = path.read_bytes()
    refused = 0
    for at in range(0, len(intact), 211):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 0x10]) + intact[at + 1 :])
        try:
            play(path, compare)
        except (StoreCorrupt, StoreUnavailable):
            refused += 1
    assert refused > 0


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    path.write_bytes(b"my letters " * 1000)
    with pytest.raises(StoreCorrupt, match="not a database"):
        play(path, fill)
    assert path.read_bytes() == b"my letters " * 1000
    path.unlink()
    alter(path, "CREATE TABLE letters (text)")
    with pytest.raises(StoreCorrupt, match="not a store"):
        play(path, fill)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"cannot open .*kybern.db"):
        play(tmp_path / "file" / "kybern.db", fill)
    (tmp_path / "kybern.db").mkdir()
    with pytest.raises(StoreUnavailable, match=r"cannot open the store .*kybern.db"):
        play(tmp_path / "kybern.db", fill)


@contextlib.contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell: writes further on fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_fails_writes_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        await fill(store)
        watch = store.watch("/", store.revision)
        with no_file_grows_beyond(path.with_name("kybern.db-wal").stat().st_size):
            results = await asyncio.gather(
                *(store.create(f"/b/{i}", b"x" * 10_000) for i in range(30)),
                store.create("/b/1", b"told of a record that never was?"),
                store.update("/a/00", b"y" * 10_000, None),
                return_exceptions=True,
            )
            assert [type(r) for r in results] == [StoreUnavailable] * 32, results
            assert "cannot write" in str(results[0])
            assert store.revision == 40
            assert (await store.list("/b/")).records == []
            first = await store.get("/a/00")
            assert first is not None
            assert first.value == b"second 0"
            with pytest.raises(StoreUnavailable):
                await store.compact(Revision(40))
            assert store.oldest == 0
        assert (await store.create("/b/1", b"room again")).mod_revision == 41
        assert [change.key for change in await anext(aiter(watch))] == ["/b/1"]
        await store.compact(Revision(40))

    async def look(store: SqliteStore) -> None:
        assert store.revision == 41
        assert [r.value for r in (await store.list("/b/")).records] == [b"room again"]
        assert not (await store.scrub()).faults

    play(path, scenario, look)


def test_a_full_disk_under_load_loses_only_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    kept: dict[str, Revision] = {}

    async def write(store: SqliteStore, worker: int) -> None:
        for i in range(30):
            try:
                kept[f"/{worker}/{i}"] = (await store.create(f"/{worker}/{i}", b"x" * 2000)).mod_revision
            except StoreUnavailable:
                await asyncio.sleep(0)

    async def scenario(store: SqliteStore) -> None:
        async with asyncio.TaskGroup() as group:
            for worker in range(8):
                group.create_task(write(store, worker), name=f"writer {worker}")
            watch = store.watch("/", Revision(0))
            while store.revision < 60:
                await anext(aiter(watch))
            with no_file_grows_beyond(path.with_name("kybern.db-wal").stat().st_size):
                for _ in range(300):
                    await asyncio.sleep(0.0001)
        assert 60 <= len(kept) < 240

    async def look(store: SqliteStore) -> None:
        assert {r.key: r.mod_revision for r in (await store.list("/")).records} == kept
        assert store.revision == len(kept)

    play(path, scenario, look)


def test_the_scrub_finds_what_decayed_since_boot(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"

    async def scenario(store: SqliteStore) -> None:
        await fill(store)
        scrubbed = await store.scrub()
        assert (scrubbed.rows, scrubbed.faults) == (40, ())
        alter(path, "UPDATE log SET value = x'00' WHERE revision IN (2, 20)")
        assert (await store.scrub()).faults == (
            "row 2 (/a/01) does not match its checksum",
            "row 20 (/a/19) does not match its checksum",
        )

    play(path, scenario)


def test_closing_waits_for_writes_under_way_and_refuses_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "kybern.db"
    told: set[str] = set()

    async def scenario(store: SqliteStore) -> None:
        writes = asyncio.gather(*(store.create(f"/{i}", b"x") for i in range(5000)), return_exceptions=True)
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.close()
        with pytest.raises(StoreUnavailable):
            await store.create("/late", b"")
        await asyncio.gather(store.close(), store.close())
        results = await writes
        told.update(r.key for r in results if isinstance(r, Record))
        assert all(isinstance(r, (Record, StoreUnavailable)) for r in results)

    async def look(store: SqliteStore) -> None:
        assert 4096 <= len(told) < 5000
        assert {r.key for r in (await store.list("/")).records} == told

    play(path, scenario, look)


def test_no_thread_outlives_the_store(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    play(tmp_path / "kybern.db", fill)
    with pytest.raises(StoreUnavailable):
        play(tmp_path, fill)
    left = {thread.name for thread in threading.enumerate()} - before
    assert not [name for name in left if name.startswith("store-writer")]


def test_a_refused_create_is_told_only_once_the_other_is_durable(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(store.create("/a", b"1"), name="first")
            second = group.create_task(refused(store), name="second")
        assert second.result() == first.result()

    async def refused(store: SqliteStore) -> Record:
        with pytest.raises(KeyExists) as exists:
            await store.create("/a", b"2")
        assert await store.get("/a") == exists.value.record
        return exists.value.record

    play(tmp_path / "kybern.db", scenario)
