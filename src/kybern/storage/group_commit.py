"""Let many writers share one fsync, as if they had written one after the other.

Called by sqlite with each write's decision (plan); hands groups of changes to a blocking `append` in the
writer's thread; then tells history, then the callers, all on the loop.

A write is decided at once, against the state that the writes before it will leave (the overlay), and gets its
revision. One group is on its way to the disk while the next one collects. A failed group takes with it all
that was decided after it, since that was built upon it: nothing of it is visible, its revisions are used again.
A refusal (KeyExists, ...) that rests on a write still on its way is told once that write is durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from kybern.storage.history import History
from kybern.storage.interface import Change, Record, Revision, StoreError, StoreUnavailable

Decide = Callable[[Record | None, Revision], Change]

COLLECTED = 4096  # writes waiting for their group; more wait to be decided
GROUP_WRITES = 1_000
GROUP_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _Write:
    decided: Change | StoreError
    told: asyncio.Future[Change]


class GroupCommit:
    """See the module's docstring. `append` may raise StoreUnavailable only."""

    def __init__(self, history: History, append: Callable[[Sequence[Change]], None], writer: Executor) -> None:
        self._history = history
        self._append = append
        self._writer = writer
        self._overlay: dict[str, Change] = {}  # the last decided, not yet durable change of a key
        self._revision = history.revision  # of the last decided change
        self._collecting: deque[_Write] = deque()
        self._in_flight: list[_Write] = []
        self._flush_due = False
        self._closed = False
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def write(self, key: str, decide: Decide) -> Change:
        """The change, durable and visible. Raises what `decide` raises, StoreUnavailable.

        A caller cancelled while waiting does not stop the write.
        """
        while len(self._collecting) >= COLLECTED:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise StoreUnavailable("the store is closed")
        pending = self._overlay.get(key)
        try:
            decided: Change | StoreError
            if pending is None:
                decided = decide(self._history.get(key), Revision(self._revision + 1))
            else:
                decided = decide(pending.record, Revision(self._revision + 1))
        except StoreError as refusal:
            if pending is None:
                raise
            decided = refusal
        else:
            self._revision = decided.revision
            self._overlay[key] = decided
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Change] = loop.create_future()
        self._collecting.append(_Write(decided, told))
        self._idle.clear()
        if not self._in_flight and not self._flush_due:
            # Not now: whoever else writes in this turn of the loop comes along.
            self._flush_due = True
            loop.call_soon(self._flush)
        return await told

    async def close(self) -> None:
        """Refuse further writes; wait until none is on its way."""
        self._closed = True
        await self._idle.wait()

    def _flush(self) -> None:
        self._flush_due = False
        self._in_flight = group = self._next_group()
        self._room.set()
        if not group:
            self._idle.set()
            return
        changes = [write.decided for write in group if isinstance(write.decided, Change)]
        sent = asyncio.get_running_loop().run_in_executor(self._writer, self._append, changes)
        sent.add_done_callback(lambda done: self._finish(done, changes))

    def _next_group(self) -> list[_Write]:
        group: list[_Write] = []
        size = 0
        while self._collecting and len(group) < GROUP_WRITES and size < GROUP_BYTES:
            write = self._collecting.popleft()
            group.append(write)
            if isinstance(write.decided, Change) and write.decided.record is not None:
                size += len(write.decided.record.value)
        return group

    def _finish(self, done: asyncio.Future[None], changes: list[Change]) -> None:
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        if failure is not None:
            self._abandon(failure)
        else:
            self._history.apply(changes)
            for change in changes:
                if self._overlay.get(change.key) is change:
                    del self._overlay[change.key]
            for write in self._in_flight:
                _tell(write)
        self._flush()

    def _abandon(self, failure: BaseException) -> None:
        """Take back everything decided and not durable."""
        lost = [*self._in_flight, *self._collecting]
        self._collecting.clear()
        self._overlay.clear()
        self._revision = self._history.revision
        for write in lost:
            if not write.told.done():
                unavailable = StoreUnavailable(str(failure))
                unavailable.__cause__ = failure
                write.told.set_exception(unavailable)


def _tell(write: _Write) -> None:
    if write.told.done():  # the caller was cancelled
        return
    if isinstance(write.decided, StoreError):
        write.told.set_exception(write.decided)
    else:
        write.told.set_result(write.decided)
