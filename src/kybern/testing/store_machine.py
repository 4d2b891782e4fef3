"""The store's contract as a hypothesis state machine: random calls on a store and on a plain model must agree.

Beside store_suite, whose cases have names. `machine_of` makes a test case; used by tests/conformance/test_store.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from kybern.storage.interface import (
    Change,
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    Record,
    Revision,
    RevisionMismatch,
    Watch,
)
from kybern.testing.store_suite import Open, read_watch

T = TypeVar("T")


class Model:
    """What a store should do, in the plainest way: every change ever, replayed at each question."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.oldest = 0

    @property
    def revision(self) -> int:
        return len(self.changes)

    def at(self, revision: int | None = None) -> dict[str, Record]:
        state: dict[str, Record] = {}
        for change in self.changes[:revision]:
            if change.record is None:
                state.pop(change.key)
            else:
                state[change.key] = change.record
        return state

    def write(self, key: str, value: bytes | None) -> Record:
        previous, revision = self.at().get(key), Revision(self.revision + 1)
        if value is None:
            assert previous is not None
            self.changes.append(Change(revision, key, None, previous))
            return Record(key, previous.value, previous.create_revision, revision)
        record = Record(key, value, revision if previous is None else previous.create_revision, revision)
        self.changes.append(Change(revision, key, record, previous))
        return record


KEYS = st.sampled_from(["/a", "/a/", "/a/1", "/a/2", "/a/1/x", "/b/1", "/b/é", "/b/\U0001f600", "/c"])
PREFIXES = st.sampled_from(["", "/", "/a", "/a/", "/a/1", "/b/", "/b/\U0001f600", "/c/", "/zzz"])
EXPECTED = st.sampled_from(["none", "current", "stale"])


@dataclass(eq=False)
class OpenWatch:
    watch: Watch
    prefix: str
    since: int
    seen: list[Change] = field(default_factory=list)


class StoreMachine(RuleBasedStateMachine):
    """Random calls on a store and on the model; both must agree. Subclass with `open_store` (see machine_of)."""

    watches: Bundle[OpenWatch] = Bundle("watches")
    open_store: ClassVar[Open]
    is_durable: ClassVar[bool]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.store = self.call(type(self).open_store(Path(self.directory.name)))
        self.model = Model()
        self.open_watches: list[OpenWatch] = []

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.call(self.store.close())
            self.runner.close()
            self.directory.cleanup()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def expected(self, key: str, choice: str) -> Revision | None:
        current = self.model.at().get(key)
        if choice == "none":
            return None
        if choice == "current" and current is not None:
            return current.mod_revision
        return Revision(self.model.revision + 1)

    @rule(key=KEYS, value=st.binary(max_size=4))
    def create(self, key: str, value: bytes) -> None:
        current = self.model.at().get(key)
        if current is not None:
            with pytest.raises(KeyExists) as exists:
                self.call(self.store.create(key, value))
            assert exists.value.record == current
        else:
            assert self.call(self.store.create(key, value)) == self.model.write(key, value)

    @rule(key=KEYS, value=st.none() | st.binary(max_size=4), choice=EXPECTED)
    def update_or_delete(self, key: str, value: bytes | None, choice: str) -> None:
        expected, current = self.expected(key, choice), self.model.at().get(key)
        work = self.store.delete(key, expected) if value is None else self.store.update(key, value, expected)
        if current is None:
            with pytest.raises(KeyMissing):
                self.call(work)
        elif expected is not None and expected != current.mod_revision:
            with pytest.raises(RevisionMismatch) as mismatch:
                self.call(work)
            assert mismatch.value.record == current
        else:
            assert self.call(work) == self.model.write(key, value)

    @rule(keys=st.lists(KEYS, min_size=2, max_size=6), data=st.data())
    def write_together(self, keys: Sequence[str], data: st.DataObject) -> None:
        """Whatever order the store chose: its revisions tell it, and the model must allow it."""
        kinds = [data.draw(st.sampled_from(["create", "update", "delete"])) for _ in keys]

        async def write() -> list[Record | BaseException]:
            calls: list[Awaitable[Record]] = []
            for kind, key in zip(kinds, keys, strict=True):
                match kind:
                    case "create":
                        calls.append(self.store.create(key, b"t"))
                    case "update":
                        calls.append(self.store.update(key, b"t", None))
                    case _:
                        calls.append(self.store.delete(key, None))
            return await asyncio.gather(*calls, return_exceptions=True)

        results = list(zip(kinds, self.call(write()), strict=True))
        won = sorted(((k, r) for k, r in results if isinstance(r, Record)), key=lambda result: result[1].mod_revision)
        for kind, record in won:
            assert (record.key in self.model.at()) == (kind != "create")
            assert record == self.model.write(record.key, None if kind == "delete" else b"t")
        for kind, lost in results:
            assert isinstance(lost, (Record, KeyExists if kind == "create" else KeyMissing))

    @rule(key=KEYS, back=st.none() | st.integers(-1, 12))
    def get(self, key: str, back: int | None) -> None:
        revision = None if back is None else self.model.revision - back
        with self.refusals(revision):
            found = self.call(self.store.get(key, None if revision is None else Revision(revision)))
            assert found == self.model.at(revision).get(key)

    @rule(prefix=PREFIXES, limit=st.integers(0, 4), after=st.just("") | KEYS, back=st.none() | st.integers(-1, 12))
    def list_page(self, prefix: str, limit: int, after: str, back: int | None) -> None:
        revision = None if back is None else self.model.revision - back
        at = None if revision is None else Revision(revision)
        with self.refusals(revision):
            page = self.call(self.store.list(prefix, limit=limit, after=after, revision=at))
            state = self.model.at(revision)
            keys = [key for key in sorted(state) if key.startswith(prefix) and key > after]
            shown = keys[:limit] if limit else keys
            assert [*page.records] == [state[key] for key in shown]
            assert page.revision == (self.model.revision if revision is None else revision)
            assert (page.more, page.remaining) == (len(shown) < len(keys), len(keys) - len(shown))

    def refusals(self, revision: int | None) -> AbstractContextManager[object]:
        """The context in which reading at `revision` must fail, or need not."""
        if revision is not None and revision > self.model.revision:
            return pytest.raises(FutureRevision)
        if revision is not None and revision < self.model.oldest:
            return pytest.raises(Compacted)
        return contextlib.nullcontext()

    @rule(target=watches, prefix=PREFIXES, back=st.integers(0, 12))
    def watch(self, prefix: str, back: int) -> OpenWatch:
        since = max(self.model.revision - back, self.model.oldest)

        async def open_watch() -> Watch:
            watch = self.store.watch(prefix, Revision(since))
            begin = getattr(watch, "begin", None)
            if begin is not None:  # of a store elsewhere, which else would begin with the first read
                await begin()
            return watch

        watch = OpenWatch(self.call(open_watch()), prefix, since)
        self.open_watches.append(watch)
        return watch

    @rule(watch=watches)
    def read(self, watch: OpenWatch) -> None:
        if watch in self.open_watches:
            self.read_due(watch)

    def read_due(self, watch: OpenWatch) -> None:
        due = [change for change in self.model.changes[watch.since :] if change.key.startswith(watch.prefix)]
        watch.seen += self.call(read_watch(watch.watch, len(due) - len(watch.seen)))
        assert watch.seen == due

    @rule(watch=watches)
    def close_watch(self, watch: OpenWatch) -> None:
        if watch in self.open_watches:
            self.open_watches.remove(watch)
            self.call(watch.watch.close())

    @rule(back=st.integers(-1, 8))
    def compact(self, back: int) -> None:
        revision = self.model.revision - back
        if back < 0:
            with pytest.raises(FutureRevision):
                self.call(self.store.compact(Revision(revision)))
            return
        if self.store.is_shared:  # elsewhere, compaction may overtake a reader that has not read
            for watch in self.open_watches:
                self.read_due(watch)
        self.call(self.store.compact(Revision(revision)))
        self.model.oldest = max(self.model.oldest, revision)

    @rule()
    def reopen(self) -> None:
        if self.is_durable:
            self.call(self.store.close())
            self.store = self.call(type(self).open_store(Path(self.directory.name)))
            self.open_watches.clear()

    @invariant()
    def revisions_agree(self) -> None:
        if hasattr(self, "model"):
            assert (self.store.revision, self.store.oldest) == (self.model.revision, self.model.oldest)


def machine_of(open_store: Open, *, is_durable: bool) -> Any:
    """A unittest TestCase class which pytest collects."""
    members = {"open_store": staticmethod(open_store), "is_durable": is_durable}
    machine: Any = type("Machine", (StoreMachine,), members)
    return machine.TestCase
