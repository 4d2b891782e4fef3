"""Power failures under the embedded store: one recorded load, and what must be true after a crash at any of its steps.

`record` plays a seeded load of concurrent writers, compactions and a restart on a RecordingDisk. `check_crash` opens
what a crash left behind and compares it with what clients had been told: nothing acknowledged is missing, no
revision goes back or changes its meaning, a watch goes on without a gap, and the store takes writes again.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kybern.storage.interface import Change, Record, Revision, Store, StoreError
from kybern.storage.log_file import Tuning
from kybern.storage.sqlite import SqliteStore
from kybern.testing.crash_disk import FATES, RecordingDisk, Replay, Step

FILE = "kybern.db"
WRITERS = 8
KEYS = 60
TUNING = Tuning(checkpoint=48, restart=200, shrink_from=8)  # small, so that all happens under load
SIZES = (0, 40, 700, 3_000, 9_000)  # bytes of values


@dataclass(slots=True)
class Recording:
    """What was done to the disk, and what had been promised after how many steps."""

    steps: list[Step] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # before the first step
    changes: dict[Revision, Change] = field(default_factory=dict)
    told: list[tuple[int, Revision]] = field(default_factory=list)  # steps done -> newest revision acknowledged
    compacted: list[tuple[int, Revision]] = field(default_factory=list)  # steps done -> history dropped before
    asked: list[tuple[int, Revision]] = field(default_factory=list)  # steps done -> compaction begun


async def record(folder: Path, seed: int, writes: int) -> Recording:
    """Play the load in an empty folder, which must be there."""
    found = Recording()
    name = f"recording-{uuid.uuid4()}"
    disk = RecordingDisk(name)
    found.steps = disk.steps
    rng = random.Random(seed)
    path = folder / FILE
    try:
        for part in (0.6, 0.4):  # between them the store is closed, which folds its WAL into the file
            store = await SqliteStore.open(path, vfs=name, tuning=TUNING)
            if not found.files:
                # The empty schema is where a crash may begin; before it there is no store.
                found.steps.clear()
                found.files = _files_of(folder)
            try:
                await _load(store, found, rng, int(writes * part))
            finally:
                await store.close()
    finally:
        disk.unregister()
    return found


def _files_of(folder: Path) -> dict[str, bytes]:
    """What a disk keeps of a store: not its lock, not its shared memory."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith((".lock", "-shm"))}


async def _load(store: SqliteStore, found: Recording, rng: random.Random, writes: int) -> None:
    watch = store.watch("/", store.revision)
    last = f"/last/{store.revision}"
    numbers = iter(range(writes))
    mine = [random.Random(rng.getrandbits(64)) for _ in range(WRITERS)]

    async def follow() -> None:
        async for changes in watch:
            found.changes.update({change.revision: change for change in changes})
            if changes[-1].key == last:
                return

    async def compact() -> None:
        for _ in range(4):
            await _reached(store, store.oldest + writes // 6)
            target = Revision(store.revision - writes // 20)
            found.asked.append((len(found.steps), target))
            await store.compact(target)
            found.compacted.append((len(found.steps), target))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(), name="watch")
        compacting = tasks.create_task(compact(), name="compact")
        async with asyncio.TaskGroup() as writers:
            for dice in mine:
                writers.create_task(_write(store, found, dice, numbers), name="writer")
        compacting.cancel()
        made = await store.create(last, b"")
        found.told.append((len(found.steps), made.mod_revision))
    await watch.close()


async def _reached(store: Store, revision: int) -> None:
    watch = store.watch("/", store.revision)
    while store.revision < revision:
        await anext(aiter(watch))
    await watch.close()


async def _write(store: Store, found: Recording, dice: random.Random, numbers: Iterable[int]) -> None:
    for _ in numbers:
        key = f"/things/{dice.randrange(KEYS):03d}"
        value = dice.randbytes(dice.choice(SIZES) + dice.randrange(64))
        current = await store.get(key)
        try:
            if current is None:
                record_made = await store.create(key, value)
            elif dice.random() < 0.25:
                record_made = await store.delete(key, None)
            else:
                record_made = await store.update(key, value, None)
        except StoreError:
            continue  # another writer was first
        found.told.append((len(found.steps), record_made.mod_revision))


def crashes(found: Recording, seed: int, every: int = 1) -> Iterator[tuple[int, Replay, str, random.Random]]:
    """Each moment of a recording (or each `every`th): steps done, the disk, the fate of what was not synced, dice."""
    replay = Replay(found.steps, found.files)
    rng = random.Random(seed)
    for done in replay:
        if done % every == 0:
            yield done, replay, FATES[(done // every) % len(FATES)], rng


async def check_crash(found: Recording, done: int, folder: Path) -> None:
    """Open what a crash after `done` steps left in `folder`, and hold it against what clients had been told."""
    promised = _newest(found.told, done)
    store = await SqliteStore.open(folder / FILE)
    try:
        assert store.revision >= promised, f"revision {store.revision}, but {promised} was acknowledged"
        assert _newest(found.compacted, done) <= store.oldest <= _newest(found.asked, done)
        for revision in range(store.oldest, store.revision + 1, 7):
            page = await store.list("/", revision=Revision(revision))
            assert {r.key: r for r in page.records} == _state(found, revision), f"the state at revision {revision}"
        page = await store.list("/")
        assert {r.key: r for r in page.records} == _state(found, store.revision), "the present state"
        await _check_watch(found, store, max(store.oldest, Revision(promised - 20)))
        made = await store.create("/after/the/crash", b"written")
        assert made.mod_revision == page.revision + 1
    finally:
        await store.close()


async def _check_watch(found: Recording, store: SqliteStore, since: Revision) -> None:
    """A client that was at `since` goes on without a gap."""
    watch = store.watch("/", since)
    seen: list[Change] = []
    while len(seen) < store.revision - since:
        seen += await anext(aiter(watch))
    await watch.close()
    assert seen == [found.changes[Revision(r)] for r in range(since + 1, store.revision + 1)]


def _newest(marks: list[tuple[int, Revision]], done: int) -> Revision:
    return max((revision for at, revision in marks if at <= done), default=Revision(0))


def _state(found: Recording, revision: int) -> dict[str, Record]:
    state: dict[str, Record] = {}
    for number in range(1, revision + 1):
        change = found.changes[Revision(number)]
        if change.record is None:
            del state[change.key]
        else:
            state[change.key] = change.record
    return state
