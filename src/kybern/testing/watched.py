"""Did watches keep their promises? Pure: what each of them was told, and what clients were answered, go in.

Ordered, unique, reliable, atomic, resumable, bookmarkable, as etcd and Kubernetes define them. Used by tools/partitions
over watches that were broken off and resumed at other servers. `linearize` judges the clients' side.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kybern.testing.linearize import Operation

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    type: EventType
    revision: int
    name: str = ""
    value: str = ""  # a deleted object's is its last


@dataclass(slots=True)
class Watched:
    """One watch with all its resumptions, in the order of arrival."""

    name: str
    since: int  # revision it began after, when there was nothing
    told: list[Told] = field(default_factory=list)
    resumed: int = 0

    @property
    def events(self) -> list[Told]:
        return [t for t in self.told if t.type != "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A list, or the initial events of a watch: all there was at one revision."""

    revision: int
    called: float
    items: Mapping[str, tuple[str, int]]  # name -> value and revision


def faults(
    watches: Sequence[Watched], histories: Mapping[str, Sequence[Operation]], snapshots: Sequence[Snapshot]
) -> list[str]:
    """What was promised and not kept."""
    found = []
    for watch in watches:
        found += [f"{watch.name}: {fault}" for fault in (*_order(watch), *_replay(watch), *_missing(watch, histories))]
    if watches:
        found += [
            f"{w.name} was told otherwise than {watches[0].name}" for w in watches if w.events != watches[0].events
        ]
        found += _snapshot_faults(watches[0], histories, snapshots)
    return found


def _order(watch: Watched) -> list[str]:
    """Ordered, unique, and nothing that a bookmark said had been told already."""
    found, reached, marked = [], watch.since, watch.since
    for told in watch.told:
        if told.type == "BOOKMARK":
            if told.revision < max(reached, marked):
                found.append(f"a bookmark at {told.revision} after {max(reached, marked)}")
            marked = max(marked, told.revision)
            continue
        if told.revision <= reached:
            found.append(f"{told.name} at {told.revision} after {reached}")
        elif told.revision <= marked:
            found.append(f"{told.name} at {told.revision} after the bookmark {marked}")
        reached = max(reached, told.revision)
    return found


def _replay(watch: Watched) -> list[str]:
    """Every event follows on what was told before: nothing is skipped, also not across a resumption."""
    found = []
    state: dict[str, str] = {}
    for told in watch.events:
        is_there = told.name in state
        if is_there == (told.type == "ADDED"):
            found.append(f"{told.type} of {told.name} at {told.revision}, which was {'' if is_there else 'not '}there")
        if told.type == "DELETED":
            if state.pop(told.name, told.value) != told.value:
                found.append(f"{told.name} was deleted at {told.revision} with a value that was not its last")
        else:
            state[told.name] = told.value
    return found


def _missing(watch: Watched, histories: Mapping[str, Sequence[Operation]]) -> list[str]:
    """Reliable: what was acknowledged is told; and nothing is told that nobody wrote."""
    found = []
    by_revision = {t.revision: t for t in watch.events}
    before: dict[str, int] = {}
    deleted = set()  # name and revision of what was there
    for told in watch.events:
        if told.type == "DELETED":
            deleted.add((told.name, before.get(told.name, 0)))
        before[told.name] = told.revision
    for name, history in histories.items():
        for operation in history:
            if operation.outcome != "done":
                continue
            if operation.kind == "delete":
                if (name, operation.expected) not in deleted:
                    found.append(f"the delete of {name} after {operation.expected} is missing")
                continue
            told_of = by_revision.get(operation.revision)
            if told_of is None or (told_of.name, told_of.value) != (name, operation.value):
                found.append(f"the {operation.kind} of {name} at {operation.revision} is missing")
        written = {o.value for o in history if o.kind in ("create", "update") and o.outcome in ("done", "unknown")}
        found += [f"{t.name} at {t.revision} was written by nobody" for t in watch.events if t.name == name
                  and t.value not in written]  # fmt: skip
    return found


def _snapshot_faults(
    watch: Watched, histories: Mapping[str, Sequence[Operation]], snapshots: Sequence[Snapshot]
) -> list[str]:
    """A list shows one revision whole, and none older than what was acknowledged when it was asked for."""
    found = []
    returned = sorted((o.returned, o.revision) for h in histories.values() for o in h if o.outcome == "done")
    newest, top = [], 0
    for _, revision in returned:
        top = max(top, revision)
        newest.append(top)
    times = [when for when, _ in returned]
    state: dict[str, tuple[str, int]] = {}
    events, at = watch.events, 0
    for snapshot in sorted(snapshots, key=lambda s: s.revision):
        while at < len(events) and events[at].revision <= snapshot.revision:
            event = events[at]
            if event.type == "DELETED":
                state.pop(event.name, None)
            else:
                state[event.name] = (event.value, event.revision)
            at += 1
        if dict(snapshot.items) != state:
            found.append(f"the list at {snapshot.revision} is not what was there")
        acknowledged = bisect.bisect_left(times, snapshot.called)
        if acknowledged and newest[acknowledged - 1] > snapshot.revision:
            found.append(f"the list at {snapshot.revision} is older than what was acknowledged before")
    return found
