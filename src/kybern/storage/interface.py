"""The store's contract: one ordered history of writes over a flat space of keys.

Implemented by memory, sqlite and etcd; used by apiserver/watch_cache and apiserver/registry.
Keys are text, `/registry/<resource>[.<group>]/<namespace>/<name>` (or without namespace); values are opaque bytes.

Promises of every implementation, proved by the suite in testing/store_suite:
* One global `Revision`, rising with each committed write (by one where nobody else writes); a revision belongs to one
  write.
* A write that returned is durable and visible to every later read and watch. A failed one left no trace.
* A watch delivers every change after `since` under its prefix once, in order of revision, without gap.
* Old revisions stay readable and watchable until `compact`; afterwards `Compacted` is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Revision = NewType("Revision", int)


@dataclass(frozen=True, slots=True)
class Record:
    """One key's state after a write."""

    key: str
    value: bytes
    create_revision: Revision  # of the write that made this incarnation of the key
    mod_revision: Revision  # of the write that made this value


@dataclass(frozen=True, slots=True)
class Change:
    """One write, as a watch tells it."""

    revision: Revision
    key: str
    record: Record | None  # None: deleted
    previous: Record | None  # None: created


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, in order of keys."""

    records: Sequence[Record]
    revision: Revision  # at which the whole listing is consistent
    more: bool  # records with greater keys remain
    remaining: int  # how many


class StoreError(Exception):
    """Base of what a store raises."""


class KeyExists(StoreError):
    """`create` found the key. Carries it in `record`."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.key)
        self.record = record


class KeyMissing(StoreError):
    """`update` or `delete` found no key."""


class RevisionMismatch(StoreError):
    """The expected revision is not the current one. Carries the current state in `record`."""

    def __init__(self, record: Record) -> None:
        super().__init__(f"{record.key} is at revision {record.mod_revision}")
        self.record = record


class Compacted(StoreError):
    """The revision asked for is older than the history kept. Carries `oldest`, the first one still readable."""

    def __init__(self, oldest: Revision) -> None:
        super().__init__(f"history starts at revision {oldest}")
        self.oldest = oldest


class FutureRevision(StoreError):
    """The revision asked for has not happened yet. Carries the `current` one."""

    def __init__(self, current: Revision) -> None:
        super().__init__(f"the store is at revision {current}")
        self.current = current


class StoreUnavailable(StoreError):
    """The write could not be made durable (disk full, closed store). Nothing was written."""


class OutcomeUnknown(StoreUnavailable):
    """The write may have been carried out, or may still be: its answer was lost."""


class Watch(Protocol):
    """An open watch: an async iterator over batches of changes (never empty); close it when done.

    A batch is all that waits for the reader, so that one can keep up with group commits. The iteration ends
    when the watch is closed. It raises StoreUnavailable when the store is, and Compacted when the reader was so
    slow that compaction overtook it: list anew.
    """

    def __aiter__(self) -> AsyncIterator[Sequence[Change]]: ...

    async def close(self) -> None: ...


class Store(Protocol):
    """See the module's docstring for the promises. All methods may be called from one event loop only.

    Every write raises StoreUnavailable when it cannot be made durable, everything does after `close`. A write
    whose caller is cancelled may still happen.
    """

    @property
    def revision(self) -> Revision:
        """The newest committed revision this process knows of; 0 when nothing was ever written (first write: 1)."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes write too, so that `revision` may be behind."""
        ...

    @property
    def superseded_bytes(self) -> int:
        """Bytes of all values superseded since this process began, which it keeps until they are compacted.

        0 where it keeps none.
        """
        ...

    async def refresh(self) -> Revision:
        """The newest revision there is, as of some moment since the call. Raises StoreUnavailable."""
        ...

    @property
    def oldest(self) -> Revision:
        """The oldest revision that can still be read or watched from."""
        ...

    async def get(self, key: str, revision: Revision | None = None) -> Record | None:
        """`revision` None means now. Raises Compacted, FutureRevision."""
        ...

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        """Records with `prefix` and keys greater than `after`, at most `limit` (0: all).

        `revision` None means now. Raises Compacted, FutureRevision.
        """
        ...

    async def create(self, key: str, value: bytes) -> Record:
        """Raises KeyExists."""
        ...

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        """Replace; `expected` None means unconditionally. Raises KeyMissing, RevisionMismatch."""
        ...

    async def delete(self, key: str, expected: Revision | None) -> Record:
        """Remove and return the record as it was, with `mod_revision` set to the delete's revision.

        Raises KeyMissing, RevisionMismatch.
        """
        ...

    def watch(self, prefix: str, since: Revision) -> Watch:
        """Changes after `since`. Raises Compacted, FutureRevision."""
        ...

    async def compact(self, revision: Revision) -> None:
        """Forget history before `revision`; what is readable at `revision` stays. Running watches go on.

        Does nothing when that is forgotten already. Raises FutureRevision, StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Wait for writes under way, then refuse everything."""
        ...
