"""The embedded store: durable in one SQLite file, read from memory.

Opened by process/apiserver. Neighbours: plan decides, group_commit orders and batches, log_file writes (in one
thread), history remembers. A write is on disk before it is visible, and visible before it is acknowledged;
reads never touch the disk and go on when it fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from kybern.storage import log_file, plan
from kybern.storage.group_commit import GroupCommit
from kybern.storage.history import History
from kybern.storage.interface import FutureRevision, Page, Record, Revision, StoreUnavailable, Watch
from kybern.storage.log_file import LogFile, StoreCorrupt, StoreLocked, Tuning
from kybern.storage.pace import Pace

__all__ = ["Scrubbed", "SqliteStore", "StoreCorrupt", "StoreLocked"]

# Revisions, and bytes of values, forgotten in one transaction; a group of writes waits for at most one such step.
COMPACT_STEP = 1_000
COMPACT_BYTES = 1 << 18
FREE_SHARE = 0.3  # of the file may hold nothing before it is made smaller
SCRUB_ROWS = 500  # rows the scrub reads at a time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a scrub saw."""

    rows: int
    faults: tuple[str, ...]  # one a damaged row, naming it; empty: all is well


class SqliteStore:
    """See interface.Store; `open` it."""

    def __init__(self, file: LogFile, history: History, writer: ThreadPoolExecutor) -> None:
        self._file = file
        self._history = history
        self._writer = writer  # of one thread: the only one to use `_file`
        self._commits = GroupCommit(history, file.append, writer)
        self._closed = False
        self._released = False  # the file is closed, the thread gone

    @classmethod
    async def open(cls, path: Path, *, vfs: str = "", tuning: Tuning | None = None) -> SqliteStore:
        """Open or create the file (and its directory), verify every row, rebuild the state.

        `vfs` and `tuning` are those of LogFile. Raises StoreLocked (another process has it), StoreCorrupt (names the
        row), StoreUnavailable (I/O).
        """
        loop = asyncio.get_running_loop()
        writer = ThreadPoolExecutor(1, "store-writer")
        try:
            file, history = await loop.run_in_executor(writer, _open, path, vfs, tuning)
        except BaseException as error:
            writer.shutdown(wait=not isinstance(error, asyncio.CancelledError))
            raise
        return cls(file, history, writer)

    @property
    def revision(self) -> Revision:
        return self._history.revision

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def superseded_bytes(self) -> int:
        return self._history.superseded_bytes

    async def refresh(self) -> Revision:
        self._check_open()
        return self.revision

    @property
    def oldest(self) -> Revision:
        return self._history.oldest

    async def get(self, key: str, revision: Revision | None = None) -> Record | None:
        self._check_open()
        return self._history.get(key, revision)

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        self._check_open()
        return self._history.page(prefix, limit, after, revision)

    async def create(self, key: str, value: bytes) -> Record:
        self._check_open()
        change = await self._commits.write(key, lambda now, revision: plan.plan_create(now, key, value, revision))
        return plan.record_of(change)

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        self._check_open()
        change = await self._commits.write(
            key, lambda now, revision: plan.plan_update(now, key, value, expected, revision)
        )
        return plan.record_of(change)

    async def delete(self, key: str, expected: Revision | None) -> Record:
        self._check_open()
        change = await self._commits.write(key, lambda now, revision: plan.plan_delete(now, key, expected, revision))
        return plan.record_of(change)

    def watch(self, prefix: str, since: Revision) -> Watch:
        self._check_open()
        return self._history.watch(prefix, since)

    async def compact(self, revision: Revision) -> None:
        """And give the room back to the file system.

        In steps, so that writers are never held up for long, nor often; what was done when one fails stays done.
        """
        self._check_open()
        if revision > self.revision:
            raise FutureRevision(self.revision)
        now = asyncio.get_running_loop().time
        pace = Pace(now)
        while (oldest := self._history.oldest) < revision:
            seen = self.revision
            step = self._history.plan_step(revision, COMPACT_STEP, COMPACT_BYTES)
            await self._in_writer(partial(self._file.compact, step, self._history.plan_compact(step)))
            self._history.compact(step)
            await self._rest(pace, seen, left=(revision - step) / (step - oldest))
        pace = Pace(now)
        while not pace.is_late and await self._in_writer(self._file.free_share) > FREE_SHARE:
            seen = self.revision
            await self._in_writer(self._file.defragment)
            await self._rest(pace, seen, left=1)

    async def scrub(self) -> Scrubbed:
        """Read every row back from the disk and verify its checksum, beside all other work.

        Raises StoreUnavailable when the file cannot be read.
        """
        rows = 0
        faults: list[str] = []
        after = Revision(-1)
        while True:
            self._check_open()
            found = await asyncio.to_thread(log_file.read_rows, self._file.path, after, SCRUB_ROWS)
            faults += [fault for fault in map(log_file.fault_of, found) if fault]
            rows += len(found)
            if len(found) < SCRUB_ROWS:
                return Scrubbed(rows, tuple(faults))
            after = Revision(found[-1][0])

    async def close(self) -> None:
        """May be called again, also to finish a call that was cancelled."""
        self._closed = True
        await self._commits.close()
        if self._released:
            return
        self._history.watchers.fail(StoreUnavailable("the store is closed"))
        await self._in_writer(self._file.close)
        self._released = True
        self._writer.shutdown()

    async def _rest(self, pace: Pace, seen: Revision, *, left: float) -> None:
        """Between two steps, if there were writes in the last one."""
        if self.revision != seen:
            await asyncio.sleep(pace.rest(left))
        else:
            pace.skip()
        self._check_open()

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


def _open(path: Path, vfs: str, tuning: Tuning | None) -> tuple[LogFile, History]:
    file = LogFile(path, vfs=vfs, tuning=tuning)
    try:
        return file, file.load()
    except BaseException:
        file.close()
        raise
