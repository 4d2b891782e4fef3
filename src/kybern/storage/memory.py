"""A store that forgets: History with immediate commits. For tests and clusters of one process.

Neighbours: plan decides, history remembers. Keeps every promise of interface.py except durability.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kybern.storage import plan
from kybern.storage.history import History
from kybern.storage.interface import Change, Page, Record, Revision, StoreUnavailable, Watch

COMPACT_STEP = 5_000  # revisions forgotten without letting others run


class MemoryStore:
    """See interface.Store."""

    def __init__(self, oldest: Revision = Revision(0), records: Iterable[Record] = ()) -> None:
        """Start at revision `oldest`, at which exactly `records` exist."""
        self._history = History(oldest, records)
        self._closed = False

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
        return self._commit(plan.plan_create(self._history.get(key), key, value, self._next()))

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        self._check_open()
        return self._commit(plan.plan_update(self._history.get(key), key, value, expected, self._next()))

    async def delete(self, key: str, expected: Revision | None) -> Record:
        self._check_open()
        return self._commit(plan.plan_delete(self._history.get(key), key, expected, self._next()))

    def watch(self, prefix: str, since: Revision) -> Watch:
        self._check_open()
        return self._history.watch(prefix, since)

    async def compact(self, revision: Revision) -> None:
        self._check_open()
        self._history.plan_compact(revision)
        while self._history.oldest < revision:
            self._history.compact(Revision(min(self._history.oldest + COMPACT_STEP, revision)))
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._closed = True
        self._history.watchers.fail(StoreUnavailable("the store is closed"))

    def _next(self) -> Revision:
        return Revision(self._history.revision + 1)

    def _commit(self, change: Change) -> Record:
        self._history.apply((change,))
        return plan.record_of(change)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
