"""Hand committed changes to the watches that want them, without ever waiting for one.

Fed by history (publish), read by the API server's watch cache (LogWatch). A watch holds a bounded number of
undelivered changes; one that falls further behind stops collecting and reads on from the log where it left off,
so nothing is lost or reordered. Only when compaction overtakes it, its hands full, does its reader get Compacted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kybern.storage.interface import Change, Revision, StoreUnavailable

PENDING = 4096  # changes a watch holds undelivered
SCAN = 4096  # log entries a lagging watch looks through at a time


class Log(Protocol):
    """What a lagging watch reads from: history."""

    @property
    def revision(self) -> Revision: ...

    def changes_after(self, cursor: Revision, limit: int) -> Sequence[Change]:
        """At most `limit` changes after `cursor`, without gap. Raises Compacted."""
        ...


class LogWatch:
    """An open watch (see interface.Watch). For one reader at a time."""

    def __init__(self, log: Log, watchers: Watchers, prefix: str, since: Revision) -> None:
        self.prefix = prefix
        self._log = log
        self._watchers = watchers
        self._pending: list[Change] = []  # in order of revision, undelivered
        self._behind = since < log.revision
        self._cursor = since  # while behind: every change up to here is delivered or pending
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._failure: StoreUnavailable | None = None

    def __aiter__(self) -> LogWatch:
        return self

    async def __anext__(self) -> Sequence[Change]:
        while True:
            if self._closed:
                raise StopAsyncIteration
            if self._pending:
                batch, self._pending = self._pending, []
                return batch
            if self._failure is not None:
                raise self._failure
            if self._behind:
                batch = self._read_on()
                if batch:
                    return batch
                await asyncio.sleep(0)  # a long log of other prefixes: let others run
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _read_on(self) -> list[Change]:
        chunk = self._log.changes_after(self._cursor, SCAN)
        if chunk:
            self._cursor = chunk[-1].revision
        self._behind = self._cursor < self._log.revision
        return [change for change in chunk if change.key.startswith(self.prefix)]

    async def close(self) -> None:
        """Stop; the reader's iteration ends."""
        if not self._closed:
            self._closed = True
            self._pending = []
            self._watchers.remove(self)
            self._wake()

    def offer(self, changes: Sequence[Change]) -> None:
        """Take changes committed together (not empty, all of this prefix), or fall behind."""
        if not self._behind:
            if len(self._pending) + len(changes) <= PENDING:
                self._pending.extend(changes)
            else:
                self._behind = True
                self._cursor = Revision(changes[0].revision - 1)
        self._wake()

    def catch_up(self, revision: Revision) -> None:
        """Take what the log still has up to `revision`, as far as there is room: it is about to be forgotten."""
        while self._behind and self._cursor < revision and len(self._pending) < PENDING:
            self._pending += self._read_on()

    def fail(self, failure: StoreUnavailable) -> None:
        """End the reader's iteration with `failure`, after what is pending."""
        self._failure = failure
        self._behind = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Watchers:
    """The open watches by prefix."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, list[LogWatch]] = {}
        self._lengths: tuple[int, ...] = ()  # of the prefixes, so that a change finds its watches by look-up

    def __len__(self) -> int:
        """How many are open."""
        return sum(map(len, self._by_prefix.values()))

    def add(self, watch: LogWatch) -> None:
        self._by_prefix.setdefault(watch.prefix, []).append(watch)
        self._lengths = tuple({len(prefix) for prefix in self._by_prefix})

    def remove(self, watch: LogWatch) -> None:
        """Forget a watch; one not here is ignored."""
        watches = self._by_prefix.get(watch.prefix, [])
        if watch in watches:
            watches.remove(watch)
        if not watches:
            self._by_prefix.pop(watch.prefix, None)
            self._lengths = tuple({len(prefix) for prefix in self._by_prefix})

    def publish(self, changes: Sequence[Change]) -> None:
        """Offer changes, in order of revision, to every watch whose prefix they have."""
        by_prefix = self._by_prefix
        matched: dict[str, list[Change]] = {}
        for change in changes:
            key = change.key
            for length in self._lengths:
                prefix = key[:length]
                if prefix in by_prefix and len(prefix) == length:
                    matched.setdefault(prefix, []).append(change)
        for prefix, batch in matched.items():
            for watch in by_prefix[prefix]:
                watch.offer(batch)

    def catch_up(self, revision: Revision) -> None:
        """Before the log up to `revision` is forgotten."""
        for watches in self._by_prefix.values():
            for watch in watches:
                watch.catch_up(revision)

    def fail(self, failure: StoreUnavailable) -> None:
        """End every watch."""
        for watches in self._by_prefix.values():
            for watch in watches:
                watch.fail(failure)
        self._by_prefix.clear()
        self._lengths = ()
