"""Pods that wait to be placed: ready, backing off, or until something happens that may help them.

Fed by feed (pods and changes) and run (failures); drained by run. The order is priority, then age. Pure: asks the
clock only for the monotonic time. Promises: a pod is in one place at a time; a pod that failed is tried again after
a change that a rule which rejected it says may help, and after FLUSH_AFTER in any case.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from enum import Enum

from kybern.machinery.clock import Clock
from kybern.scheduler.plugins.contract import Change, Event, Filter
from kybern.scheduler.pod_info import PodInfo

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 10.0
FLUSH_AFTER = 300.0


class Place(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    IN_FLIGHT = "in flight"


@dataclass(slots=True)
class Entry:
    """A pod that waits."""

    pod: PodInfo
    place: Place
    added: float  # when it was first seen
    since: float  # when it came to its place
    attempts: int = 0
    ready_at: float = 0.0  # when its backoff ends
    is_error: bool = False  # it failed for an error, not for lack of room: its backoff is kept
    rejected_by: frozenset[str] = frozenset()
    serial: int = 0  # of its last entry in a heap: older ones are void
    woken: bool = False  # something that may help happened while it was in flight


class PodQueue:
    """The queue of one scheduler. Not thread-safe: it lives in the loop."""

    def __init__(self, clock: Clock, filters: tuple[Filter, ...]) -> None:
        self._clock = clock
        self._filters = {f.name: f for f in filters}
        self._entries: dict[str, Entry] = {}  # by uid
        # Those of them that a change may move: a cluster that fills has tens of thousands of others.
        self._movable: dict[str, Entry] = {}
        self._active: list[tuple[int, float, int, str]] = []
        self._backoff: list[tuple[float, int, str]] = []
        self._serial = 0
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def place_of(self, uid: str) -> Place | None:
        entry = self._entries.get(uid)
        return entry.place if entry is not None else None

    def sizes(self) -> dict[str, int]:
        """How many pods are in each place, by the names of upstream's metric."""
        found = {place.value: 0 for place in Place}
        for entry in self._entries.values():
            found[entry.place.value] += 1
        return found

    # feeding
    def put(self, pod: PodInfo) -> None:
        """A pod to place that is new, or has changed."""
        entry = self._entries.get(pod.uid)
        now = self._clock.monotonic()
        if entry is None:
            entry = self._entries[pod.uid] = Entry(pod, Place.ACTIVE, now, now)
            self._enter(entry, Place.GATED if pod.pod.spec.schedulingGates else Place.ACTIVE)
            return
        old, entry.pod = entry.pod, pod
        match entry.place:
            case Place.GATED:
                if not pod.pod.spec.schedulingGates:
                    self._enter(entry, Place.ACTIVE)
            case Place.ACTIVE:
                if old.priority != pod.priority:
                    self._enter(entry, Place.ACTIVE)
            case Place.UNSCHEDULABLE | Place.IN_FLIGHT:
                if old.pod.spec != pod.pod.spec or old.labels != pod.labels:
                    self._wake(entry, Change(Event.OWN_CHANGE, old, pod))
            case Place.BACKOFF:
                pass

    def remove(self, uid: str) -> None:
        """The pod needs no place any more."""
        self._entries.pop(uid, None)
        self._movable.pop(uid, None)

    def fail(self, uid: str, rejected_by: frozenset[str], *, is_error: bool = False) -> None:
        """A pod taken by `pop` was not placed."""
        entry = self._entries.get(uid)
        if entry is None:
            return
        entry.rejected_by = rejected_by
        entry.is_error = is_error
        entry.ready_at = self._clock.monotonic() + backoff(entry.attempts)
        woken, entry.woken = entry.woken, False
        if is_error or woken:
            self._enter(entry, Place.BACKOFF)
        else:
            self._enter(entry, Place.UNSCHEDULABLE)

    def tell(self, change: Change) -> None:
        """Something happened: move the pods that it may help."""
        if not self._movable:
            return
        for entry in list(self._movable.values()):
            self._wake(entry, change)

    def activate(self, uid: str) -> None:
        """Try a pod again now, whatever it waits for."""
        entry = self._entries.get(uid)
        if entry is not None and entry.place in (Place.UNSCHEDULABLE, Place.BACKOFF):
            self._enter(entry, Place.ACTIVE)

    def _wake(self, entry: Entry, change: Change) -> None:
        if entry.place is Place.IN_FLIGHT:
            entry.woken = True  # which rules will reject it is not known yet
        elif self._may_help(entry, change):
            self._enter(entry, Place.BACKOFF if entry.ready_at > self._clock.monotonic() else Place.ACTIVE)

    def _may_help(self, entry: Entry, change: Change) -> bool:
        if not entry.rejected_by:
            return change.event is Event.NODE_ADDED  # there was no node at all
        for name in entry.rejected_by:
            rule = self._filters.get(name)
            if rule is None:
                return True
            hint = rule.wakes.get(change.event)
            if hint is not None and hint(entry.pod, change):
                return True
        return False

    # draining
    async def pop(self) -> Entry:
        """The next pod to place, as soon as there is one. It stays known, in flight, until `fail` or `remove`."""
        while (entry := self.take()) is None:
            self._ready.clear()
            await self._ready.wait()
        return entry

    def take(self) -> Entry | None:
        """The next pod to place, if there is one now."""
        entry = self._take_active() or self._take_early()
        if entry is not None:
            entry.place = Place.IN_FLIGHT
            self._movable[entry.pod.uid] = entry
            entry.attempts += 1
            entry.woken = False
        return entry

    def _take_active(self) -> Entry | None:
        while self._active:
            *_, serial, uid = heapq.heappop(self._active)
            entry = self._entries.get(uid)
            if entry is not None and entry.serial == serial:
                return entry
        return None

    def _take_early(self) -> Entry | None:
        """With nothing else to do, one whose backoff is not over (but for errors: those need the pause)."""
        kept = []
        found = None
        while self._backoff and found is None:
            item = heapq.heappop(self._backoff)
            entry = self._entries.get(item[2])
            if entry is None or entry.serial != item[1]:
                continue
            if entry.is_error:
                kept.append(item)
            else:
                found = entry
        for item in kept:
            heapq.heappush(self._backoff, item)
        return found

    def tick(self) -> None:
        """Move what has waited long enough. Called every second by run."""
        now = self._clock.monotonic()
        while self._backoff and self._backoff[0][0] <= now:
            _, serial, uid = heapq.heappop(self._backoff)
            entry = self._entries.get(uid)
            if entry is not None and entry.serial == serial:
                self._enter(entry, Place.ACTIVE)
        for entry in list(self._movable.values()):
            if entry.place is Place.UNSCHEDULABLE and now - entry.since >= FLUSH_AFTER:
                self._enter(entry, Place.ACTIVE)

    def _enter(self, entry: Entry, place: Place) -> None:
        self._serial += 1
        entry.place, entry.since, entry.serial = place, self._clock.monotonic(), self._serial
        if place is Place.UNSCHEDULABLE:
            self._movable[entry.pod.uid] = entry
        else:
            self._movable.pop(entry.pod.uid, None)
        if place is Place.ACTIVE:
            heapq.heappush(self._active, (-entry.pod.priority, entry.added, self._serial, entry.pod.uid))
            self._ready.set()
        elif place is Place.BACKOFF:
            heapq.heappush(self._backoff, (entry.ready_at, self._serial, entry.pod.uid))
            self._ready.set()


def backoff(attempts: int) -> float:
    """Seconds a pod waits after so many failed attempts."""
    return float(min(FIRST_BACKOFF * 2 ** min(max(attempts - 1, 0), 8), LONGEST_BACKOFF))
