"""What the conformance suite cannot see: that nothing is kept longer than needed, and what lists cost."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from kybern.storage import history as module
from kybern.storage.history import History
from kybern.storage.interface import Change, FutureRevision, Record, Revision


def write(history: History, key: str, value: bytes | None) -> Revision:
    previous, revision = history.get(key), Revision(history.revision + 1)
    record = None if value is None else Record(key, value, previous.create_revision if previous else revision, revision)
    history.apply([Change(revision, key, record, previous)])
    return revision


def test_compaction_frees_superseded_values_and_only_those() -> None:
    history = History()
    for value in (b"1", b"2"):
        write(history, "/a", value)
    write(history, "/b", b"1")
    write(history, "/b", None)
    kept_until = history.revision
    write(history, "/a", b"3")
    write(history, "/c", b"1")
    write(history, "/c", None)
    assert sorted(history.plan_compact(kept_until)) == [1, 3, 4]
    history.compact(kept_until)
    assert len(history.changes_after(kept_until, 100)) == 3
    record = history.get("/a", kept_until)
    assert record is not None
    assert record.value == b"2"
    assert history.plan_compact(history.revision) == [2, 6, 7]
    history.compact(history.revision)
    assert history.changes_after(history.revision, 100) == []
    assert len(history) == 1
    assert history.plan_compact(history.revision) == []


@pytest.mark.thorough
def test_nothing_of_a_deleted_key_is_left_after_compaction() -> None:
    history = History()
    names = [f"/k{i}-{id(history)}" for i in range(100)]
    for name in names:
        write(history, name, b"1")
        write(history, name, b"2")
        write(history, name, None)
    for name in names[:50]:
        write(history, name, b"3")
        write(history, name, None)
    history.compact(history.revision)
    gc.collect()
    for part in vars(history).values():
        assert not isinstance(part, (dict, list)) or not part
    page = history.page("/", revision=history.revision)
    assert (list(page.records), page.remaining) == ([], 0)


def test_a_step_of_compaction_is_bounded_by_changes_and_bytes_and_goes_on() -> None:
    history = History()
    for _ in range(20):
        write(history, "/a", b"x" * 10)
    assert history.plan_step(Revision(20), most=5, most_bytes=1000) == 5
    assert history.plan_step(Revision(20), most=100, most_bytes=30) == 4  # the first one supersedes nothing
    assert history.plan_step(Revision(20), most=100, most_bytes=1) == 2
    assert history.plan_step(Revision(20), most=100, most_bytes=1000) == 20
    history.compact(Revision(18))
    assert history.plan_step(Revision(20), most=100, most_bytes=1) == 19


def test_compacting_the_future_is_refused() -> None:
    history = History()
    with pytest.raises(FutureRevision):
        history.compact(Revision(1))
    with pytest.raises(FutureRevision):
        history.plan_compact(Revision(1))


def test_a_base_is_readable_and_its_revisions_go_on() -> None:
    base = [Record("/a", b"", Revision(2), Revision(7)), Record("/b", b"", Revision(9), Revision(9))]
    history = History(Revision(10), base)
    assert (history.revision, history.oldest, len(history)) == (10, 10, 2)
    assert write(history, "/a", b"new") == 11
    assert [record.mod_revision for record in history.page("/", revision=Revision(10)).records] == [7, 9]
    assert [record.mod_revision for record in history.page("/").records] == [11, 9]
    assert history.plan_compact(Revision(11)) == [7]


class Counting:
    """A sorted list that counts what is taken out of it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def islice(self, start: int, stop: int) -> Any:
        for key in self.inner.islice(start, stop):
            self.taken += 1
            yield key


@pytest.mark.parametrize("revision", [None, 2000])
def test_a_page_of_the_past_or_present_takes_no_more_keys_than_it_shows(revision: int | None) -> None:
    history = History()
    for i in range(2000):
        write(history, f"/a/{i:04}", b"")
    write(history, "/a/1000", b"changed")
    write(history, "/a/1001", None)
    write(history, "/a/1001x", b"")
    history._keys = counting = Counting(history._keys)
    at = None if revision is None else Revision(revision)
    page = history.page("/a/", limit=10, after="/a/0995", revision=at)
    assert [record.key for record in page.records][4:7] == (
        ["/a/1000", "/a/1001x", "/a/1002"] if revision is None else ["/a/1000", "/a/1001", "/a/1002"]
    )
    assert page.remaining == 2000 - 996 - 10
    assert counting.taken <= 12


def test_values_are_shared_between_present_past_and_log() -> None:
    history = History()
    write(history, "/a", b"1")
    record = history.get("/a")
    write(history, "/a", b"2")
    assert history.get("/a", Revision(1)) is record
    assert history.changes_after(Revision(1), 1)[0].previous is record


def test_the_end_of_a_prefix_is_found_for_any_text() -> None:
    for prefix, end in [("/a/", "/a0"), ("", ""), ("\U0010ffff", ""), ("a\U0010ffff", "b"), ("\ud7ff", "\ud800")]:
        assert module._beyond(prefix) == end
