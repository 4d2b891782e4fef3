"""Fan events out to watchers. Fed by feed, written to sinks of handlers/watch.

Watchers who asked for the same thing (namespace, selectors, form) share a `Scope`: an event is matched once a
scope and framed once a form, however many follow. A watcher too far behind is cut off, never waited for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from kybern.apiserver.request import Sink
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import fields, labels
from kybern.machinery.metrics import Series, exponential

log = structlog.get_logger(__name__)

# A watcher that has not read this much is cut off; it resumes from its last resourceVersion.
MAX_BEHIND = 8 << 20
# kube-apiserver: apiserver_watch_events_sizes
_SIZES = exponential(1024, 2, 8)


class Form(Protocol):
    """How objects are told: as they are, as metadata only, as rows of a table."""

    key: str

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
    def trigger(self) -> tuple[str, str] | None:
        """(field, value) that every match must have, for the index of scopes."""
        if self.field_selector is not None:
            for field, operator, value in self.field_selector.requirements:
                if operator == "=" and field in ("metadata.name", "spec.nodeName"):
                    return field, value
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
    """Watchers of one selection in one form."""

    __slots__ = ("form", "rest", "selection", "watchers")

    def __init__(self, selection: Selection, form: Form) -> None:
        self.selection = selection
        self.form = form
        self.rest = form.rest if form.rest is not form else None  # the form of their later events, if it is another
        self.watchers: set[Watcher] = set()


class Watcher:
    """One client's watch, from the moment it is up to date."""

    __slots__ = ("bookmarks", "scope", "sink")

    def __init__(self, sink: Sink, scope: Scope, bookmarks: bool) -> None:
        self.sink = sink
        self.scope = scope
        self.bookmarks = bookmarks


class Hub:
    """The watchers of one resource."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[Hashable, str], Scope] = {}
        self._general: dict[str | None, list[Scope]] = {}  # namespace -> scopes
        self._triggered: dict[tuple[str, str], list[Scope]] = {}
        self.listeners: tuple[Callable[[Event], None], ...] = ()
        self._untriggered: dict[str | None, int] = {}  # namespace -> watchers that no trigger spares
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
        watcher = Watcher(sink, self._scope(selection, form), bookmarks)
        self._join(watcher)
        return watcher

    def _scope(self, selection: Selection, form: Form) -> Scope:
        key = (selection.key, form.key)
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(selection, form)
            self._bucket(scope).append(scope)
        return scope

    def _join(self, watcher: Watcher) -> None:
        scope = watcher.scope
        scope.watchers.add(watcher)
        self.watchers += 1
        self._count(scope, 1)

    def _go_on(self, watchers: list[Watcher]) -> None:
        """These have been told their first event."""
        for watcher in watchers:
            scope = watcher.scope
            if scope.rest is not None and watcher in scope.watchers:
                self.unsubscribe(watcher)
                watcher.scope = self._scope(scope.selection, scope.rest)
                self._join(watcher)

    def unsubscribe(self, watcher: Watcher) -> None:
        scope = watcher.scope
        if watcher not in scope.watchers:
            return
        scope.watchers.discard(watcher)
        self.watchers -= 1
        self._count(scope, -1)
        if not scope.watchers:
            del self._scopes[(scope.selection.key, scope.form.key)]
            self._bucket(scope).remove(scope)
            self._forget_empty(scope)

    def listening(self, namespace: str) -> int:
        """How many watchers look at every change in a namespace (but for those who follow one name or node)."""
        if not self._untriggered:
            return 0
        found = self._untriggered.get(None, 0)
        return found + self._untriggered.get(namespace, 0) if namespace else found

    def publish(self, event: Event) -> None:
        """Tell everybody concerned."""
        for listener in self.listeners:
            listener(event)
        if not self._scopes:
            return
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
            self.note_sent(len(frame), len(scope.watchers))
            for watcher in list(scope.watchers):
                self._send(watcher, frame)
            if scope.rest is not None:
                begun += scope.watchers
        if begun:
            self._go_on(begun)

    def note_sent(self, size: int, watchers: int = 1) -> None:
        """An event of so many bytes goes to so many watchers: for metrics."""
        self.sent.counts[bisect_left(_SIZES, size)] += watchers
        self.sent.sum += size * watchers

    def bookmark(self, revision: int) -> None:
        """Tell every watcher that wants it how far it has come."""
        begun: list[Watcher] = []
        for scope in list(self._scopes.values()):
            frame = scope.form.bookmark(revision, {})
            for watcher in list(scope.watchers):
                if watcher.bookmarks:
                    self._send(watcher, frame)
                    if scope.rest is not None:
                        begun.append(watcher)
        self._go_on(begun)

    def _send(self, watcher: Watcher, frame: bytes) -> None:
        sink = watcher.sink
        if sink.buffered > MAX_BEHIND:
            self.unsubscribe(watcher)
            sink.abort()
            return
        sink.write_framed(frame)

    def _cut(self, scope: Scope) -> None:
        """End the watches of a scope: better than leaving events out."""
        for watcher in list(scope.watchers):
            self.unsubscribe(watcher)
            watcher.sink.abort()

    def _concerned(self, event: Event) -> list[Scope]:
        found = list(self._general.get(None, ()))
        either = event.entry or event.previous
        if either is not None:
            found += self._general.get(either.namespace, ())
        if self._triggered:
            pairs = {
                (field, entry.fields.get(field, ""))
                for entry in (event.entry, event.previous)
                if entry is not None
                for field in ("metadata.name", "spec.nodeName")
            }
            for pair in pairs:
                found += self._triggered.get(pair, ())
        return found

    def _bucket(self, scope: Scope) -> list[Scope]:
        trigger = scope.selection.trigger
        if trigger is not None:
            return self._triggered.setdefault(trigger, [])
        return self._general.setdefault(scope.selection.namespace, [])

    def _count(self, scope: Scope, step: int) -> None:
        if scope.selection.trigger is None:
            namespace = scope.selection.namespace
            self._untriggered[namespace] = self._untriggered.get(namespace, 0) + step
            if not self._untriggered[namespace]:
                del self._untriggered[namespace]

    def _forget_empty(self, scope: Scope) -> None:
        if not self._bucket(scope):
            trigger = scope.selection.trigger
            if trigger is not None:
                del self._triggered[trigger]
            else:
                del self._general[scope.selection.namespace]
