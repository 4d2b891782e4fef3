"""What to do about one object: delete it, take dead owners off it, or let it go. Pure.

Fed by reconcile with the graph and with which owners exist. Source of the rules: "Garbage Collection" and "Owners and
Dependents" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kybern.controllers.garbage_collector.graph import FOREGROUND, ORPHAN, Entry, Graph


class Existence(Enum):
    """What became of an owner."""

    ALIVE = "alive"
    WAITING = "deleted in the foreground, waiting for its dependents"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object this way. `unblock`: its owner must no longer wait for it, or a circle would never end."""

    propagation: str
    unblock: bool = False


@dataclass(frozen=True, slots=True)
class Disown:
    """Take these owners off the object: others keep it."""

    uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing holds the object back any more: take this finalizer away."""

    finalizer: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """Take the object off all its dependents, then its `orphan` finalizer away."""

    dependents: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Await:
    """It waits for these dependents, which have to be looked at."""

    blocking: tuple[Entry, ...]


Action = Delete | Disown | Release | Orphan | Await | None


def plan_deleted(graph: Graph, entry: Entry) -> Action:
    """For an object that is being deleted and holds one of the collector's finalizers."""
    if entry.orphans_dependents:
        return Orphan(tuple(graph.dependents(entry.uid)))
    if entry.waits_for_dependents:
        blocking = graph.blocking(entry.uid)
        return Await(tuple(blocking)) if blocking else Release(FOREGROUND)
    return None


def plan_owned(graph: Graph, entry: Entry, existence: Callable[[Any], Existence]) -> Action:
    """For an object that has owners and is not being deleted."""
    states = [(owner, existence(owner)) for owner in entry.owners]
    solid = any(state is Existence.ALIVE for _, state in states)
    waiting = [owner for owner, state in states if state is Existence.WAITING]
    absent = [owner for owner, state in states if state is Existence.ABSENT]
    if solid:
        uids = frozenset(owner.uid for owner in (*absent, *waiting))
        return Disown(uids) if uids else None
    if waiting and graph.has_dependents(entry.uid):
        # Its owner waits for it, so it waits for its own dependents in turn.
        in_circle = any(dependent.waits_for_dependents for dependent in graph.dependents(entry.uid))
        return Delete("Foreground", unblock=in_circle)
    return Delete(_own_policy(entry.finalizers))


def _own_policy(finalizers: Iterable[str]) -> str:
    """What was asked for when the object was written."""
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"
