"""Watches that keep their promises, and each way to break one."""

from __future__ import annotations

from kybern.testing.linearize import Operation
from kybern.testing.watched import Snapshot, Told, Watched, faults

GOOD = [
    Told("ADDED", 5, "k", "a"),
    Told("BOOKMARK", 6),
    Told("MODIFIED", 7, "k", "b"),
    Told("DELETED", 9, "k", "b"),
    Told("ADDED", 11, "k", "c"),
    Told("BOOKMARK", 11),
]
HISTORY = {
    "k": [
        Operation(0, 1, "create", "done", "a", revision=5),
        Operation(2, 3, "update", "done", "b", expected=5, revision=7),
        Operation(4, 5, "delete", "done", expected=7),
        Operation(6, float("inf"), "create", "unknown", "c"),
    ]
}


def judged(told: list[Told], *snapshots: Snapshot) -> list[str]:
    return faults([Watched("w", 4, told)], HISTORY, snapshots)


def without(number: int) -> list[Told]:
    return GOOD[:number] + GOOD[number + 1 :]


def test_a_watch_that_tells_everything_once_and_in_order_is_good() -> None:
    assert judged(GOOD) == []
    assert judged(without(4)[:4]) == []  # whether the last was written is not known


def test_what_is_told_twice_or_late_is_found() -> None:
    assert any("after 7" in fault for fault in judged([*GOOD[:3], GOOD[0], *GOOD[3:]]))
    assert any("after 5" in fault for fault in judged([GOOD[0], *GOOD]))
    assert any("after the bookmark 8" in fault for fault in judged([*GOOD[:2], Told("BOOKMARK", 8), *GOOD[2:]]))
    assert any("bookmark at 3" in fault for fault in judged([*GOOD, Told("BOOKMARK", 3)]))


def test_what_is_not_told_is_found() -> None:
    assert any("create of k at 5 is missing" in fault for fault in judged(without(0)))
    assert any("update of k at 7 is missing" in fault for fault in judged(without(2)))
    assert any("delete of k after 7 is missing" in fault for fault in judged(without(3)))


def test_what_nobody_wrote_and_what_does_not_follow_is_found() -> None:
    assert any("written by nobody" in fault for fault in judged([*GOOD, Told("MODIFIED", 12, "k", "z")]))
    assert any("which was there" in fault for fault in judged([*GOOD, Told("ADDED", 12, "k", "c")]))
    assert any("not its last" in fault for fault in judged([*GOOD[:3], Told("DELETED", 9, "k", "a"), *GOOD[4:]]))


def test_watches_that_differ_are_found() -> None:
    assert faults([Watched("w", 4, GOOD), Watched("v", 4, GOOD)], HISTORY, []) == []
    assert any(
        "otherwise" in fault for fault in faults([Watched("w", 4, GOOD), Watched("v", 4, GOOD[:4])], HISTORY, [])
    )


def test_lists_show_one_revision_whole_and_no_old_one() -> None:
    good = (Snapshot(8, 3.5, {"k": ("b", 7)}), Snapshot(9, 5.5, {}), Snapshot(6, 2.5, {"k": ("a", 5)}))
    assert judged(GOOD, *good) == []
    assert any("not what was there" in fault for fault in judged(GOOD, Snapshot(8, 3.5, {"k": ("a", 5)})))
    assert any("older" in fault for fault in judged(GOOD, Snapshot(6, 3.5, {"k": ("a", 5)})))
