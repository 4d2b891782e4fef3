"""Objects by key, and by what they are indexed with. Pure: fed by informer, read by everyone through it.

Promises: an index answers from the same moment as the objects do. Objects are shared and never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
IndexFunction = Callable[[T], Iterable[str]]


class Store(Generic[T]):
    """A dictionary with secondary indexes."""

    def __init__(self) -> None:
        self._objects: dict[str, T] = {}
        self._functions: dict[str, IndexFunction[T]] = {}
        self._indexes: dict[str, dict[str, dict[str, None]]] = {}  # index -> value -> keys, in order of arrival

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        """Index what is here and what comes. A name is given once; the same name again must mean the same."""
        if name in self._functions:
            return
        self._functions[name] = function
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            self._enter(name, key, function(obj))

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def put(self, key: str, obj: T) -> T | None:
        """Store it, and return what was there."""
        old = self._objects.get(key)
        self._objects[key] = obj
        for name, function in self._functions.items():
            after = tuple(function(obj))
            if old is not None:
                before = tuple(function(old))
                if before == after:
                    continue  # most changes are of the status
                self._leave(name, key, before)
            self._enter(name, key, after)
        return old

    def remove(self, key: str) -> T | None:
        old = self._objects.pop(key, None)
        if old is not None:
            for name, function in self._functions.items():
                self._leave(name, key, function(old))
        return old

    def keys(self) -> list[str]:
        return list(self._objects)

    def by_index(self, name: str, value: str) -> list[T]:
        """Objects whose index function gave `value`. Raises KeyError for an index nobody added."""
        return [self._objects[key] for key in self._indexes[name].get(value, ())]

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._objects.values()))

    def _enter(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            index.setdefault(value, {})[key] = None

    def _leave(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            keys = index.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del index[value]
