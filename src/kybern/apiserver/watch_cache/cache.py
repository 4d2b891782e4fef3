"""The objects of one resource and its recent events. Written by feed only, in order of revision.

Reads are dictionary look-ups and joins of bytes. Everything here is synchronous: what is read in one turn of the
loop is one consistent state, which is how a watch starts without a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sortedcontainers import SortedDict

from kybern.api.resource import Resource
from kybern.apiserver.registry.object_codec import ObjectCodec
from kybern.apiserver.watch_cache.entry import Entry, Indexer
from kybern.apiserver.watch_cache.indexes import Indexes
from kybern.storage.interface import Change, Record, Revision

# As many recent events are kept as both allow; watches that start before them read the store's history.
EVENTS_KEPT = 10_000
EVENT_BYTES_KEPT = 32 << 20
# Writes under way are far fewer.
PREPARED_KEPT = 1_000
# Texts and sets of labels that many objects have are kept once; these are remembered for that.
TEXTS_KEPT = 8_192


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object. `entry` None: deleted; `previous` None: created."""

    revision: Revision
    entry: Entry | None
    previous: Entry | None

    @property
    def size(self) -> int:
        return sum(len(entry.value) for entry in (self.entry, self.previous) if entry is not None)


class ResourceCache:
    """Current state by key, by namespace, and the last events."""

    has_fixed_fields = True  # those of an object at one revision never change

    def __init__(self, resource: Resource, prefix: str, codec: ObjectCodec, index: Indexer) -> None:
        self.resource = resource
        self.prefix = prefix  # of its keys in the store, ends with "/"
        self.codec = codec
        self._index = index
        self._entries: SortedDict = SortedDict()  # key -> Entry
        self._namespaces: dict[str, dict[str, Entry]] = {}  # namespace -> name -> Entry
        self.indexes = Indexes(self._entries)
        self._events: deque[Event] = deque()
        self._event_bytes = 0
        self.size = 0  # bytes of all objects, as they are stored
        self.received = 0  # events, since the start
        self._texts: dict[str, str] = {}
        self._labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._prepared: dict[bytes, tuple[Mapping[str, str], Mapping[str, str]]] = {}
        # Every event after this revision is in `_events`.
        self.complete_since = Revision(0)
        self.changed_at = Revision(0)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, namespace: str, name: str) -> Entry | None:
        names = self._namespaces.get(namespace)
        return names.get(name) if names is not None else None

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """In order of keys; all namespaces with None."""
        if namespace is None:
            values: Iterable[Entry] = self._entries.values()
            return values
        if namespace not in self._namespaces:
            return ()
        return self.page(f"{self.prefix}{namespace}/" if namespace else self.prefix, "")

    def at(self, key: str) -> Entry:
        """The entry of a key of the store that is here."""
        entry: Entry = self._entries[key]
        return entry

    def count(self, namespace: str | None = None) -> int:
        if namespace is None:
            return len(self._entries)
        return len(self._namespaces.get(namespace, ()))

    def count_after(self, key: str, namespace: str | None = None) -> int:
        """How many come after `key`, of a namespace if one is given."""
        end = f"{self.prefix}{namespace}0" if namespace else f"{self.prefix[:-1]}0"  # "0" comes after "/"
        return max(0, int(self._entries.bisect_left(end) - self._entries.bisect_right(key)))

    def page(self, prefix: str, after: str) -> Iterable[Entry]:
        """Entries with keys under `prefix` and greater than `after`, in order."""
        end = prefix[:-1] + "0"
        for key in self._entries.irange(after or prefix, end, (not after, False)):
            yield self._entries[key]

    def events_after(self, revision: Revision) -> Sequence[Event] | None:
        """What happened after `revision`, or None where that is no longer known here."""
        if revision < self.complete_since:
            return None
        events: list[Event] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            events.append(event)
        events.reverse()
        return events

    def prepare(self, value: bytes, labels: Mapping[str, str], fields: Mapping[str, str]) -> None:
        """A local write is about to store `value`: keep what was taken out of it, to spare decoding it again."""
        if len(self._prepared) > PREPARED_KEPT:
            self._prepared.clear()  # cancelled writes left theirs behind
        self._prepared[value] = (labels, fields)

    def forget(self, value: bytes) -> None:
        """The write of a prepared value has failed."""
        self._prepared.pop(value, None)

    def entry_of(self, record: Record) -> Entry:
        """The entry of a stored record."""
        rest = record.key[len(self.prefix) :]
        namespace, name = rest.split("/", 1) if self.resource.namespaced else ("", rest)
        value = record.value
        known = self._prepared.pop(value, None) if self._prepared else None
        if known is None:
            value = self.codec.shown(value)
            known = self._index(value)
        labels, fields = self._shared(*known, name)
        namespace = self._texts.setdefault(namespace, namespace)
        entry = Entry(record.key, namespace, name, value, record.mod_revision, labels, fields, self.codec)
        entry.is_stored_otherwise = value is not record.value
        return entry

    def known(self, record: Record) -> Entry:
        """The same, of a record that may well be the present one."""
        found: Entry | None = self._entries.get(record.key)
        return found if found is not None and found.revision == record.mod_revision else self.entry_of(record)

    def load(self, records: Iterable[Record]) -> None:
        """Take the records of the first listing; before any change."""
        entries = [self.entry_of(record) for record in records]
        self._entries.update((entry.key, entry) for entry in entries)
        for entry in entries:
            self._namespaces.setdefault(entry.namespace, {})[entry.name] = entry
            self.size += len(entry.value)
            self.changed_at = max(self.changed_at, entry.revision)

    def apply(self, change: Change) -> Event:
        """Take one change; returns it as an event."""
        previous: Entry | None = self._entries.get(change.key)
        entry: Entry | None = None
        if change.record is not None:
            entry = self.entry_of(change.record)
            self._put(entry, previous)
        elif previous is not None:
            self.size -= len(previous.value)
            del self._entries[change.key]
            names = self._namespaces[previous.namespace]
            del names[previous.name]
            if not names:
                del self._namespaces[previous.namespace]
        if previous is not None:
            previous.release()
        self.indexes.change(previous, entry)
        event = Event(change.revision, entry, previous)
        self.received += 1
        self._events.append(event)
        self._event_bytes += event.size
        while len(self._events) > EVENTS_KEPT or self._event_bytes > EVENT_BYTES_KEPT:
            oldest = self._events.popleft()
            self._event_bytes -= oldest.size
            self.complete_since = oldest.revision
        self.changed_at = change.revision
        return event

    def event_of(self, change: Change) -> Event:
        """A past change as an event, without taking it: for watches that start before the events kept here."""
        entry = self.entry_of(change.record) if change.record is not None else None
        previous = self.entry_of(change.previous) if change.previous is not None else None
        return Event(change.revision, entry, previous)

    def _put(self, entry: Entry, previous: Entry | None) -> None:
        self.size += len(entry.value) - (len(previous.value) if previous is not None else 0)
        self._entries[entry.key] = entry
        names = self._namespaces.get(entry.namespace)
        if names is None:
            names = self._namespaces[entry.namespace] = {}
        names[entry.name] = entry

    def _shared(
        self, labels: Mapping[str, str], fields: Mapping[str, str], name: str
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The same, made of texts and labels that other objects have too."""
        if len(self._texts) > TEXTS_KEPT:
            self._texts.clear()
        if len(self._labels) > TEXTS_KEPT:
            self._labels.clear()
        text = self._texts.setdefault
        pairs = tuple(labels.items())
        known = self._labels.get(pairs)
        if known is None:
            known = self._labels[pairs] = {text(key, key): text(value, value) for key, value in pairs}
        if not self.has_fixed_fields:
            return known, fields
        shared = dict(fields)
        for key, value in fields.items():
            shared[key] = text(value, value)
        if shared.get("metadata.name") == name:
            shared["metadata.name"] = name
        return known, shared
