"""One kind's local copy: turns lists, watch events and our own writes into per-object changes, in order per key.

Fed by reflector (what the server tells) and by writers (`observe`: what the server answered). Read by reconcilers.
Promises: handlers see every key's versions in rising order; after a write was observed, readers see it, however
late the watch is; a deleted object does not come back through an answer that was slow. Not promised: order across
keys, nor that every version is seen. Objects are shared: decode a fresh copy (codec.clone) to change one.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import structlog

from kybern.api import codec
from kybern.client import shapes
from kybern.client.informer.store import IndexFunction, Store
from kybern.client.shapes import Shape

T = TypeVar("T")
Handler = Callable[[T | None, T | None], None]
Objects = list[T]  # a method is called `list` below
REMEMBERED_DELETES = 4096

log = structlog.get_logger(__name__)


class Selector(Protocol):
    """machinery.labels.Selector, as far as a lister needs it."""

    def matches(self, labels: Any, /) -> bool: ...


class Informer(Generic[T]):
    """The copy of all objects of a shape in a namespace ("": all) that match the selectors given to `Informers.of`."""

    def __init__(self, shape: Shape[T], *, check_mutations: bool = False) -> None:
        self.shape = shape
        self._store: Store[T] = Store()
        self._store.add_index("namespace", lambda obj: (shapes.meta_of(obj).namespace,))
        self._handlers: list[Handler[T]] = []
        self._deleted: collections.OrderedDict[str, None] = collections.OrderedDict()  # uids
        self._synced = asyncio.Event()
        self._highest = 0  # resourceVersion among all objects ever stored
        self._originals: dict[str, bytes] | None = {} if check_mutations else None

    # reading
    def get(self, namespace: str, name: str) -> T | None:
        return self._store.get(f"{namespace}/{name}" if namespace else name)

    def by_key(self, key: str) -> T | None:
        return self._store.get(key)

    def list(self, namespace: str | None = None, selector: Selector | None = None) -> Objects[T]:
        """All objects (of one namespace), in order of arrival."""
        found: Iterable[T] = self._store.by_index("namespace", namespace) if namespace else self._store
        return [obj for obj in found if selector is None or selector.matches(_labels_of(obj))]

    def by_index(self, index: str, value: str) -> Objects[T]:
        return self._store.by_index(index, value)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def has_synced(self) -> bool:
        """The first list is in the store, and handlers have seen it."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    # wiring
    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        self._store.add_index(name, function)

    def on_change(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` for each change from now on: None as old means added, as new means deleted.

        What is in the store already is told at once. Handlers run in the loop: they must be quick.
        """
        for obj in self._store:
            _tell(handler, None, obj)
        self._handlers.append(handler)

    # feeding
    def replace(self, objects: Iterable[T], resource_version: str, *, exact: bool = False) -> None:
        """A fresh list. Objects that are newer here (own writes) stay.

        `exact`: it came from the store itself. If it is older than what was seen, the store was set back
        (restored from a backup), and what is newer here never happened.
        """
        listed = _number(resource_version)
        set_back = exact and listed is not None and listed < self._highest
        if set_back:
            self._deleted.clear()
            self._highest = listed or 0
        seen = set()
        for obj in objects:
            seen.add(shapes.key_of(obj))
            self._put(obj, force=set_back)
        for key in self._store.keys():  # noqa: SIM118 (a snapshot of keys, not a dict)
            old = self._store.get(key)
            if key in seen or old is None:
                continue
            version = _number(shapes.meta_of(old).resource_version)
            if set_back or listed is None or version is None or version <= listed:
                self.remove(old)
        self._synced.set()

    def upsert(self, obj: T) -> None:
        """An object as of its resourceVersion: news only if it is newer than what is here."""
        self._put(obj)

    def observe(self, obj: T) -> None:
        """What a create, update or patch answered: readers see it before the watch brings it."""
        self._put(obj)

    def _put(self, obj: T, *, force: bool = False) -> None:
        key = shapes.key_of(obj)
        meta = shapes.meta_of(obj)
        old = self._store.get(key)
        if meta.uid and meta.uid in self._deleted:
            return
        if old is not None and not force and not _is_newer(meta.resource_version, shapes.meta_of(old).resource_version):
            return
        if old is not None and shapes.meta_of(old).uid != meta.uid:
            self.remove(old)  # a namesake: two lives, not one that changed
            old = None
        self._check(key)
        self._highest = max(self._highest, _number(meta.resource_version) or 0)
        self._store.put(key, obj)
        if self._originals is not None:
            self._originals[key] = codec.encode(obj)
        self._dispatch(old, obj)

    def remove(self, obj: T) -> None:
        """Gone for good, in its last state."""
        key = shapes.key_of(obj)
        meta = shapes.meta_of(obj)
        if meta.uid:
            self._deleted[meta.uid] = None
            if len(self._deleted) > REMEMBERED_DELETES:
                self._deleted.popitem(last=False)
        old = self._store.get(key)
        if old is None or (meta.uid and shapes.meta_of(old).uid != meta.uid):
            return  # unknown, or a namesake that came later
        self._check(key)
        if self._originals is not None:
            self._originals.pop(key, None)
        self._store.remove(key)
        self._dispatch(old, None)

    def check_mutations(self) -> None:
        """Raise AssertionError if a shared object was changed (only where asked for at construction)."""
        for key in list(self._originals or ()):
            self._check(key)

    def _check(self, key: str) -> None:
        if self._originals is None or key not in self._originals:
            return
        if codec.encode(self._store.get(key)) != self._originals[key]:
            raise AssertionError(f"{self.shape.resource.plural} {key} was changed in the informer's store")

    def _dispatch(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            _tell(handler, old, new)


def _tell(handler: Handler[T], old: T | None, new: T | None) -> None:
    # A supervised place: one faulty handler must stop neither the watch nor the other handlers.
    try:
        handler(old, new)
    except Exception:
        log.exception("an informer's handler failed", object=shapes.key_of(new if new is not None else old))


def _labels_of(obj: Any) -> Any:
    if isinstance(obj, dict):
        return (obj.get("metadata") or {}).get("labels") or {}
    return obj.metadata.labels


def _number(resource_version: str) -> int | None:
    """Resource versions of one resource are comparable numbers (KEP-5504); others are opaque: None."""
    return int(resource_version) if resource_version.isascii() and resource_version.isdigit() else None


def _is_newer(new: str, old: str) -> bool:
    a, b = _number(new), _number(old)
    return new != old if a is None or b is None else a > b
