"""Which objects have a label or a field of a value: found out when somebody first asks, kept up from then on.

Belongs to cache, asked by select. A label that nobody selects by costs nothing; one that is selected by costs a look at
every object once, and a listing by it as much as its answer is long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum

from kybern.apiserver.watch_cache.entry import Entry

# Of one resource; the one that was used least recently is forgotten first.
KEPT = 16


class Of(Enum):
    """What an index is of."""

    LABEL = "label"
    FIELD = "field"


Keys = str | set[str]
"""Of the objects with one value: most often there are many, or exactly one."""


class Index:
    """value -> keys, of one label or field."""

    __slots__ = ("_keys", "name", "of")

    def __init__(self, of: Of, name: str, entries: Iterable[Entry]) -> None:
        self.of = of
        self.name = name
        self._keys = _grouped(of, name, entries)

    def find(self, value: str) -> Collection[str]:
        """The keys of the objects with `value`, in no order: shared, never to be changed."""
        found = self._keys.get(value, ())
        return (found,) if isinstance(found, str) else found

    def change(self, before: Entry | None, after: Entry | None) -> None:
        """An object has become another, has come or gone."""
        old = self._value(before) if before is not None else None
        new = self._value(after) if after is not None else None
        if old == new:
            return
        if old is not None:
            assert before is not None
            self._remove(old, before.key)
        if new is not None:
            assert after is not None
            self._add(new, after.key)

    def _value(self, entry: Entry) -> str | None:
        """None: it has no such label. A field that it lacks counts as ""."""
        return entry.labels.get(self.name) if self.of is Of.LABEL else entry.fields.get(self.name, "")

    def _add(self, value: str, key: str) -> None:
        found = self._keys.get(value)
        if found is None:
            self._keys[value] = key
        elif isinstance(found, str):
            self._keys[value] = {found, key}
        else:
            found.add(key)

    def _remove(self, value: str, key: str) -> None:
        found = self._keys[value]
        if isinstance(found, str) or len(found) == 1:
            del self._keys[value]
        else:
            found.remove(key)


def _grouped(of: Of, name: str, entries: Iterable[Entry]) -> dict[str, Keys]:
    """By plain loops: this goes over every object at once, while others wait."""
    keys: dict[str, Keys] = {}
    if of is Of.LABEL:
        pairs = [(entry.labels[name], entry.key) for entry in entries if name in entry.labels]
    else:
        pairs = [(entry.fields.get(name, ""), entry.key) for entry in entries]
    for value, key in pairs:
        found = keys.get(value)
        if found is None:
            keys[value] = key
        elif isinstance(found, str):
            keys[value] = {found, key}
        else:
            found.add(key)
    return keys


class Indexes:
    """The indexes of one resource."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._indexes: dict[tuple[Of, str], Index] = {}  # the one used last stands last

    def get(self, of: Of, name: str) -> Index:
        """The index of a label or field; made now if there is none."""
        index = self._indexes.pop((of, name), None)
        if index is None:
            while len(self._indexes) >= KEPT:
                del self._indexes[next(iter(self._indexes))]
            index = Index(of, name, self._entries.values())
        self._indexes[(of, name)] = index
        return index

    def change(self, before: Entry | None, after: Entry | None) -> None:
        for index in self._indexes.values():
            index.change(before, after)
