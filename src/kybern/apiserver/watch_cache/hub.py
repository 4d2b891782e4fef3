"""Fan events out to watchers. Fed by feed, written to sinks of handlers/watch.

Watchers who asked for the same thing (namespace, selectors, form) share a `Scope`: an event is matched once a
scope and framed once a form, however many follow, and only scopes that an index does not rule out are looked at.
Events wait for `flush`, which gives a watcher all of them in one write: that one is most of what an event costs, so
while changes come thick and many follow, some milliseconds pass between two of them. A cohort of a scope's watchers
is told in one go, and others have their turn after it (docs/decisions/0141-events-in-batches.md).
A watcher too far behind is cut off, never waited for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from kybern.apiserver.request import Sink
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import fields, labels
from kybern.machinery.metrics import Series, exponential

log = structlog.get_logger(__name__)

# A watcher that has not read this much is cut off; it resumes from its last resourceVersion.
MAX_BEHIND = 8 << 20
# Bytes of events that wait for a cohort; more are sent without waiting for others.
_MOST_WAITING = 256 * 1024
# Watchers written to in one go: a millisecond.
_COHORT = 64
# A write to a watcher is most of what an event costs. While events come thick, a hub that needs many writes begins them
# less often, so that they take no more than half of the loop's time. Nobody hears of a change much later than this.
_MOST_REST = 0.025
# Bytes that fill a record of TLS: from there on a write costs by its bytes, and waiting for more spares nothing.
_ENOUGH = 15 * 1024
_REST_A_WRITE = 60e-6
_FEW_WRITES = 16
# kube-apiserver: apiserver_watch_events_sizes
_SIZES = exponential(1024, 2, 8)


# (namespace, "field" or "label", its name, its value)
IndexKey = tuple[str | None, str, str, str]


class Form(Protocol):
    """How objects are told: as they are, as metadata only, as rows of a table."""

    key: str
    is_joinable: bool  # frames are plain bytes: several may be written as one

    @property
    def rest(self) -> Form:
        """How a watch goes on after its first event: for most, as it began."""
        ...

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        """One watch event as a framed chunk. `kind`: ADDED, MODIFIED, DELETED."""
        ...

    def bookmark(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        """A framed BOOKMARK event."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects somebody wants. `namespace` None: all."""

    namespace: str | None
    label_selector: labels.Selector | None  # None: any
    field_selector: fields.FieldSelector | None
    key: Hashable  # equal for equal selections

    def matches(self, entry: Entry) -> bool:
        if self.namespace is not None and entry.namespace != self.namespace:
            return False
        if self.field_selector is not None and not self.field_selector.matches(entry.fields):
            return False
        return self.label_selector is None or self.label_selector.matches(entry.labels)

    @property
    def is_spared(self) -> bool:
        """Most changes are not even looked at for it. kube-apiserver: the same fields."""
        chosen = self.field_selector
        return chosen is not None and any(chosen.exact(name) is not None for name in ("metadata.name", "spec.nodeName"))

    @property
    def index_key(self) -> IndexKey | None:
        """What every match must have, for the index of scopes."""
        if self.field_selector is not None:
            for field, operator, value in self.field_selector.requirements:
                if operator == "=":
                    return self.namespace, "field", field, value
        if self.label_selector is not None:
            for requirement in self.label_selector.requirements:
                value_of = self.label_selector.exact(requirement.key)
                if value_of is not None:
                    return self.namespace, "label", requirement.key, value_of
        return None

    def told_as(self, event: Event) -> tuple[str, Entry] | None:
        """What a watcher of this selection is told of an event, if anything."""
        before = event.previous is not None and self.matches(event.previous)
        now = event.entry is not None and self.matches(event.entry)
        if now:
            assert event.entry is not None
            return ("MODIFIED" if before else "ADDED"), event.entry
        if before:
            assert event.previous is not None
            return "DELETED", event.previous
        return None


class Scope:
    """Watchers of one selection in one form, in cohorts."""

    __slots__ = ("cohorts", "form", "index_key", "is_spared", "rest", "roomy", "selection", "watchers")

    def __init__(self, selection: Selection, form: Form) -> None:
        self.selection = selection
        self.index_key = selection.index_key
        self.is_spared = selection.is_spared
        self.form = form
        self.rest = form.rest if form.rest is not form else None  # the form of their later events, if it is another
        self.cohorts: list[Cohort] = []
        self.roomy: list[Cohort] = []  # those that are not full
        self.watchers = 0

    def next_cohort(self) -> Cohort:
        """That of the next watcher."""
        return self.roomy[0] if self.roomy else Cohort(self)

    def add(self, watcher: Watcher) -> None:
        cohort = watcher.cohort
        cohort.watchers.add(watcher)
        self.watchers += 1
        if len(cohort.watchers) == 1:
            self.cohorts.append(cohort)
            self.roomy.append(cohort)
        elif len(cohort.watchers) == _COHORT:
            self.roomy.remove(cohort)

    def remove(self, watcher: Watcher) -> None:
        cohort = watcher.cohort
        if len(cohort.watchers) == _COHORT:
            self.roomy.append(cohort)
        cohort.watchers.discard(watcher)
        self.watchers -= 1
        if not cohort.watchers:
            self.cohorts.remove(cohort)
            self.roomy.remove(cohort)


class Cohort:
    """Watchers of a scope who are written to in one go, and the events that they are not told of yet."""

    __slots__ = ("scope", "waiting", "waiting_size", "watchers")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.watchers: set[Watcher] = set()
        self.waiting: list[bytes] = []
        self.waiting_size = 0


class Watcher:
    """One client's watch, from the moment it is up to date."""

    __slots__ = ("bookmarks", "cohort", "sink")

    def __init__(self, sink: Sink, cohort: Cohort, bookmarks: bool) -> None:
        self.sink = sink
        self.cohort = cohort  # the last one, once it is told no longer
        self.bookmarks = bookmarks

    @property
    def form(self) -> Form:
        """In which it is told of the next event."""
        return self.cohort.scope.form


class Hub:
    """The watchers of one resource."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[Hashable, str], Scope] = {}
        self._general: dict[str | None, list[Scope]] = {}  # namespace -> scopes that no index rules out
        self._indexed: dict[IndexKey, list[Scope]] = {}
        self._fields: dict[str, int] = {}  # names in `_indexed` -> how many scopes
        self._labels: dict[str, int] = {}
        self._behind: list[Cohort] = []  # those with events waiting, to be told in the next round
        self._round: deque[Cohort] = deque()  # those of this round that are not told yet
        self._rests_until = 0.0  # loop time before which no other round begins
        self.listeners: tuple[Callable[[Event], None], ...] = ()
        self._unspared: dict[str | None, int] = {}  # namespace -> watchers that look at every change
        self.watchers = 0
        self.sent = Series(_SIZES)  # events by their bytes, to all watchers

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every later event, before any watcher is told. It must not fail, nor wait."""
        self.listeners = (*self.listeners, listener)

    def close(self) -> None:
        """The resource is served no longer (or not in this way): end every watch."""
        for scope in list(self._scopes.values()):
            self._cut(scope)

    def subscribe(self, selection: Selection, form: Form, sink: Sink, bookmarks: bool) -> Watcher:
        """Deliver every later event of `selection` to `sink`, until `unsubscribe`."""
        watcher = Watcher(sink, self._next_cohort(selection, form), bookmarks)
        self._join(watcher)
        return watcher

    def _scope(self, selection: Selection, form: Form) -> Scope:
        key = (selection.key, form.key)
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(selection, form)
            self._enter(scope)
        return scope

    def _next_cohort(self, selection: Selection, form: Form) -> Cohort:
        """Where the next watcher belongs. Those who are there are told what has happened: it hears of what follows."""
        while (cohort := self._scope(selection, form).next_cohort()).waiting:
            self._tell(cohort)
        return cohort

    def _join(self, watcher: Watcher) -> None:
        scope = watcher.cohort.scope
        scope.add(watcher)
        self.watchers += 1
        self._count(scope, 1)

    def _go_on(self, watchers: list[Watcher]) -> None:
        """These have been told their first event."""
        for watcher in watchers:
            scope = watcher.cohort.scope
            if scope.rest is not None and watcher in watcher.cohort.watchers:
                self.unsubscribe(watcher)
                watcher.cohort = self._next_cohort(scope.selection, scope.rest)
                self._join(watcher)

    def unsubscribe(self, watcher: Watcher) -> None:
        """What was published before is still told."""
        cohort, scope = watcher.cohort, watcher.cohort.scope
        if cohort.waiting:
            self._tell(cohort)
        if watcher not in cohort.watchers:
            return
        scope.remove(watcher)
        self.watchers -= 1
        self._count(scope, -1)
        if not scope.watchers:
            del self._scopes[(scope.selection.key, scope.form.key)]
            self._leave(scope)

    def listening(self, namespace: str) -> int:
        """How many watchers look at every change in a namespace (but for those who follow one name or node)."""
        if not self._unspared:
            return 0
        found = self._unspared.get(None, 0)
        return found + self._unspared.get(namespace, 0) if namespace else found

    def publish(self, event: Event) -> bool:
        """Take an event for everybody concerned. Whether somebody is: then `flush` must follow."""
        for listener in self.listeners:
            listener(event)
        if not self._scopes:
            return False
        frames: dict[tuple[str, str], bytes] = {}
        begun: list[Watcher] = []
        for scope in self._concerned(event):
            told = scope.selection.told_as(event)
            if told is None:
                continue
            kind, entry = told
            frame = frames.get((kind, scope.form.key))
            if frame is None:
                try:
                    frame = scope.form.frame(kind, entry, event.revision)
                except Exception:  # the loop behind all caches: one odd object must not end it
                    log.exception("an event could not be told", key=entry.key, form=scope.form.key)
                    self._cut(scope)
                    continue
                frames[(kind, scope.form.key)] = frame
            self.note_sent(len(frame), scope.watchers)
            for cohort in list(scope.cohorts):
                if not cohort.waiting:
                    self._behind.append(cohort)
                cohort.waiting.append(frame)
                cohort.waiting_size += len(frame)
                if scope.rest is not None:
                    self._tell(cohort)
                    begun += cohort.watchers
                elif cohort.waiting_size > _ENOUGH:
                    self._rests_until = 0.0
                    if cohort.waiting_size > _MOST_WAITING:
                        self._tell(cohort)
        if begun:
            self._go_on(begun)
        return self.is_behind

    @property
    def is_behind(self) -> bool:
        """Something waits for a flush."""
        return bool(self._behind or self._round)

    @property
    def due(self) -> float:
        """Loop time from which `flush` will tell more."""
        return 0.0 if self._round else self._rests_until

    def flush(self, now: float) -> int:
        """Tell some of the watchers what waits, if it is time (`now`, loop time); returns how many writes that took.

        In rounds: whoever was told waits until all others were, and until the hub has rested.
        """
        if not self._round:
            if now < self._rests_until:
                return 0
            self._round, self._behind = deque(self._behind), []
            writes = sum(len(cohort.watchers) for cohort in self._round)
            self._rests_until = now + min(_MOST_REST, writes * _REST_A_WRITE) if writes > _FEW_WRITES else 0.0
        writes = 0
        while self._round and writes < _COHORT:
            writes += self._tell(self._round.popleft())
        return writes

    def flush_all(self) -> int:
        """Tell everything to everybody; returns how many writes that took."""
        behind, self._behind = [*self._round, *self._behind], []
        self._round.clear()
        return sum(map(self._tell, behind))

    def note_sent(self, size: int, watchers: int = 1) -> None:
        """An event of so many bytes goes to so many watchers: for metrics."""
        self.sent.counts[bisect_left(_SIZES, size)] += watchers
        self.sent.sum += size * watchers

    def bookmark(self, revision: Callable[[], int]) -> Iterator[int]:
        """Tell every watcher that wants it how far it has come: some at a time, whose number is given each time."""
        for scope in list(self._scopes.values()):
            for cohort in list(scope.cohorts):
                if cohort.waiting:
                    self._tell(cohort)
                wanted = [watcher for watcher in cohort.watchers if watcher.bookmarks]
                if not wanted:
                    continue
                frame = scope.form.bookmark(revision(), {})
                for watcher in wanted:
                    self._send(watcher, frame)
                if scope.rest is not None:
                    self._go_on(wanted)
                yield len(wanted)

    def _tell(self, cohort: Cohort) -> int:
        """Write what waits to the watchers of a cohort."""
        if not cohort.waiting:
            return 0
        frames, cohort.waiting, cohort.waiting_size = cohort.waiting, [], 0
        if len(frames) > 1 and cohort.scope.form.is_joinable:
            frames = [b"".join(frames)]
        watchers = list(cohort.watchers)
        for frame in frames:
            for watcher in watchers:
                self._send(watcher, frame)
        return len(watchers)

    def _send(self, watcher: Watcher, frame: bytes) -> None:
        sink = watcher.sink
        if sink.buffered > MAX_BEHIND:
            self.unsubscribe(watcher)
            sink.abort()
            return
        sink.write_framed(frame)

    def _cut(self, scope: Scope) -> None:
        """End the watches of a scope: better than leaving events out."""
        for cohort in list(scope.cohorts):
            for watcher in list(cohort.watchers):
                self.unsubscribe(watcher)
                watcher.sink.abort()

    # -- which scopes an event concerns --------------------------------------------------------------------------

    def _concerned(self, event: Event) -> list[Scope]:
        """Those whose selections may match, before or after."""
        found = list(self._general.get(None, ()))
        either = event.entry or event.previous
        if either is None:
            return found
        found += self._general.get(either.namespace, ())
        if self._indexed:
            for key in self._keys_of(event, either.namespace):
                found += self._indexed.get(key, ())
        return found

    def _keys_of(self, event: Event, namespace: str) -> set[IndexKey]:
        keys: set[IndexKey] = set()
        for entry in (event.entry, event.previous):
            if entry is None:
                continue
            pairs = [("field", name, entry.fields.get(name, "")) for name in self._fields]
            if self._labels:
                pairs += [("label", name, value) for name, value in entry.labels.items() if name in self._labels]
            for kind, name, value in pairs:
                keys.add((None, kind, name, value))
                keys.add((namespace, kind, name, value))
        return keys

    def _enter(self, scope: Scope) -> None:
        key = scope.index_key
        if key is None:
            self._general.setdefault(scope.selection.namespace, []).append(scope)
            return
        self._indexed.setdefault(key, []).append(scope)
        names = self._fields if key[1] == "field" else self._labels
        names[key[2]] = names.get(key[2], 0) + 1

    def _leave(self, scope: Scope) -> None:
        key = scope.index_key
        if key is None:
            _remove(self._general, scope.selection.namespace, scope)
            return
        _remove(self._indexed, key, scope)
        names = self._fields if key[1] == "field" else self._labels
        names[key[2]] -= 1
        if not names[key[2]]:
            del names[key[2]]

    def _count(self, scope: Scope, step: int) -> None:
        if not scope.is_spared:
            namespace = scope.selection.namespace
            self._unspared[namespace] = self._unspared.get(namespace, 0) + step
            if not self._unspared[namespace]:
                del self._unspared[namespace]


_K = TypeVar("_K", bound=Hashable)


def _remove(index: dict[_K, list[Scope]], key: _K, scope: Scope) -> None:
    scopes = index[key]
    scopes.remove(scope)
    if not scopes:
        del index[key]
