"""The committed state in memory: the present, the past since the last compaction, and who watches.

Fed by memory and sqlite with changes once they are durable (`apply`); read by them for every get, list and
watch. Reading the present costs a look-up a record; reading the past adds the changes made since, or the
records listed, whichever is less. Nothing here awaits: what a caller sees between two awaits is one revision.

The past of a key is a list of its superseded states; keys deleted lie in a graveyard until compaction.
Revisions are contiguous, so the change of revision r is found at log[r - oldest - 1].
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

from sortedcontainers import SortedList

from kybern.storage.interface import Change, Compacted, FutureRevision, Page, Record, Revision
from kybern.storage.watchers import LogWatch, Watchers

State = tuple[Revision, Record | None]
"""What a key was from a revision on; None: it did not exist."""


class History:
    """See the module's docstring. Not for use from several threads, nor by several loops."""

    def __init__(self, oldest: Revision = Revision(0), base: Iterable[Record] = ()) -> None:
        """Start at revision `oldest`, at which exactly the records of `base` exist."""
        self._oldest = oldest
        self._log: list[Change] = []  # every change after `oldest`
        self._present: dict[str, Record] = {record.key: record for record in base}
        self._keys: SortedList = SortedList(self._present)  # of `_present`
        self._past: dict[str, list[State]] = {}  # superseded states still readable, oldest first; never empty lists
        self._graves: dict[str, Revision] = {}  # keys that do not exist, but did since `oldest` -> when deleted
        self._grave_keys: SortedList = SortedList()  # of `_graves`
        self.watchers = Watchers()
        self.superseded_bytes = 0  # of values, ever

    @property
    def revision(self) -> Revision:
        return Revision(self._oldest + len(self._log))

    @property
    def oldest(self) -> Revision:
        return self._oldest

    def __len__(self) -> int:
        """How many keys exist."""
        return len(self._present)

    # -- reading

    def get(self, key: str, revision: Revision | None = None) -> Record | None:
        """Raises Compacted, FutureRevision."""
        if revision is None:
            return self._present.get(key)
        self.check(revision)
        return self._at(key, revision)

    def page(self, prefix: str, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        """Raises Compacted, FutureRevision."""
        if revision is not None:
            self.check(revision)
        low, high = _span(self._keys, prefix, after)
        if revision is not None and revision < self.revision:
            return self._page_past(prefix, limit, after, revision, low, high)
        end = min(high, low + limit) if limit > 0 else high
        records = list(map(self._present.__getitem__, self._keys.islice(low, end)))
        return Page(records, self.revision, more=end < high, remaining=high - end)

    def check(self, revision: Revision) -> None:
        """Raise unless `revision` can be read and watched from."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision < self._oldest:
            raise Compacted(self._oldest)

    def changes_after(self, cursor: Revision, limit: int) -> Sequence[Change]:
        """At most `limit` changes after `cursor`, in order. Raises Compacted."""
        if cursor < self._oldest:
            raise Compacted(self._oldest)
        start = cursor - self._oldest
        return self._log[start : start + limit]

    def watch(self, prefix: str, since: Revision) -> LogWatch:
        """Raises Compacted, FutureRevision."""
        self.check(since)
        watch = LogWatch(self, self.watchers, prefix, since)
        self.watchers.add(watch)
        return watch

    def _at(self, key: str, revision: Revision) -> Record | None:
        record = self._present.get(key)
        if record is not None and record.mod_revision <= revision:
            return record
        if record is None and self._graves.get(key, revision + 1) <= revision:
            return None
        past = self._past.get(key, ())
        index = bisect.bisect_right(past, revision, key=_revision_of)
        return past[index - 1][1] if index else None

    def _page_past(self, prefix: str, limit: int, after: str, revision: Revision, low: int, high: int) -> Page:
        """The present under `prefix`, with what changed since `revision` put back."""
        then = {key: self._at(key, revision) for key in self._touched(prefix, after, revision, low, high)}
        present = self._present
        unborn = {key for key, record in then.items() if record is None and key in present}
        buried = sorted(key for key, record in then.items() if record is not None and key not in present)
        total = high - low - len(unborn) + len(buried)

        keys = heapq.merge(self._keys.islice(low, high), buried) if buried else self._keys.islice(low, high)
        chosen = islice((key for key in keys if key not in unborn), limit if limit > 0 else None)
        records = [then.get(key) or present[key] for key in chosen]
        return Page(records, revision, more=len(records) < total, remaining=total - len(records))

    def _touched(self, prefix: str, after: str, revision: Revision, low: int, high: int) -> set[str]:
        """Keys under `prefix` and greater than `after` whose state may have changed since `revision`."""
        dead_low, dead_high = _span(self._grave_keys, prefix, after)
        if self.revision - revision <= high - low + dead_high - dead_low:
            changed = islice(reversed(self._log), self.revision - revision)
            return {c.key for c in changed if c.key.startswith(prefix) and c.key > after}
        present = self._present
        touched = {key for key in self._keys.islice(low, high) if present[key].mod_revision > revision}
        touched.update(self._grave_keys.islice(dead_low, dead_high))
        return touched

    # -- writing

    def apply(self, changes: Sequence[Change]) -> None:
        """Make durable changes visible, then hand them to the watches. Their revisions follow on `revision`."""
        for change in changes:
            self._bury(change)
            key = change.key
            if change.record is None:
                del self._present[key]
                self._keys.remove(key)
                self._graves[key] = change.revision
                self._grave_keys.add(key)
            else:
                if change.previous is None:
                    self._keys.add(key)
                self._present[key] = change.record
            self._log.append(change)
        self.watchers.publish(changes)

    def _bury(self, change: Change) -> None:
        """Keep the state that `change` supersedes."""
        previous = change.previous
        if previous is not None:
            self.superseded_bytes += len(previous.value)
            self._past.setdefault(change.key, []).append((previous.mod_revision, previous))
            return
        deleted = self._graves.pop(change.key, None)
        if deleted is not None:
            self._grave_keys.remove(change.key)
            self._past.setdefault(change.key, []).append((deleted, None))

    # -- compaction

    def plan_compact(self, revision: Revision) -> list[Revision]:
        """The revisions whose changes nobody can see any more once `compact(revision)` is done.

        Those superseded at `revision` or before, and deletions themselves. Raises FutureRevision.
        """
        if revision > self.revision:
            raise FutureRevision(self.revision)
        dropped: list[Revision] = []
        for change in self._log[: max(0, revision - self._oldest)]:
            if change.previous is not None:
                dropped.append(change.previous.mod_revision)
            if change.record is None:
                dropped.append(change.revision)
        return dropped

    def plan_step(self, revision: Revision, most: int, most_bytes: int) -> Revision:
        """How far towards `revision` a compaction goes at once: so many changes, so many bytes of what they supersede.

        At least by one change, where there is one.
        """
        size = 0
        for change in self._log[: min(most, revision - self._oldest)]:
            size += len(change.previous.value) if change.previous is not None else 0
            if size >= most_bytes:
                return change.revision
        return Revision(min(self._oldest + most, revision))

    def compact(self, revision: Revision) -> None:
        """Forget states superseded at `revision` or before. Raises FutureRevision."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision <= self._oldest:
            return
        self.watchers.catch_up(revision)
        count = revision - self._oldest
        for key in {change.key for change in self._log[:count]}:
            self._forget(key, revision)
        del self._log[:count]
        self._oldest = revision

    def _forget(self, key: str, revision: Revision) -> None:
        record = self._present.get(key)
        if record is None and self._graves.get(key, revision + 1) <= revision:
            del self._graves[key]
            self._grave_keys.remove(key)
            self._past.pop(key, None)
            return
        past = self._past.get(key)
        if past is None:
            return
        if record is not None and record.mod_revision <= revision:
            del self._past[key]
            return
        # The newest state at `revision` stays readable, unless it says that there was nothing.
        index = bisect.bisect_right(past, revision, key=_revision_of)
        keep = index - 1 if index and past[index - 1][1] is not None else index
        del past[:keep]
        if not past:
            del self._past[key]


def _revision_of(state: State) -> Revision:
    return state[0]


def _span(keys: SortedList, prefix: str, after: str) -> tuple[int, int]:
    """Where in `keys` those with `prefix` and greater than `after` begin and end."""
    low = keys.bisect_left(prefix)
    if after >= prefix:
        low = max(low, keys.bisect_right(after))
    end = _beyond(prefix)
    high = keys.bisect_left(end) if end else len(keys)
    return low, max(low, high)


def _beyond(prefix: str) -> str:
    """The least text greater than every text with `prefix`; "" when there is none."""
    trimmed = prefix.rstrip("\U0010ffff")
    return trimmed[:-1] + chr(ord(trimmed[-1]) + 1) if trimmed else ""
