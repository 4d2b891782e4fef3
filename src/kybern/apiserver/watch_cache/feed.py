"""Follow the store: one watch over all keys, spread over the caches and hubs in order of revision.

Fed by storage, writes watch_cache/cache and hub. Promises: `revision` never goes back; when `wait_until(r)` has
returned, every cache holds all changes up to r, and their events are on their way to the watchers.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable

from kybern.apiserver.encryption.store import EncryptedStore, Undecryptable
from kybern.apiserver.encryption.transformers import ENCRYPTED
from kybern.apiserver.watch_cache.cache import ResourceCache
from kybern.apiserver.watch_cache.hub import Hub
from kybern.storage.interface import Change, Record, Revision, Store

ROOT = "/registry/"
# Bookmarks after which others have their turn, and for how long.
_BOOKMARKS_A_TURN = 64
_BOOKMARK_PAUSE = 0.01


class Feed:
    """All caches of the server, by the first part of their keys."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.revision = Revision(0)
        self._caches: dict[str, tuple[ResourceCache, Hub]] = {}
        self._joining: dict[str, list[Change]] = {}  # prefixes that are being loaded -> what came meanwhile
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._behind: dict[Hub, None] = {}  # hubs with events that their watchers are not told yet
        self._flusher: asyncio.Handle | None = None
        self.synced = False

    def add(self, cache: ResourceCache) -> Hub:
        """Keep `cache` up to date. Before `load`."""
        hub = Hub()
        self._caches[cache.prefix] = (cache, hub)
        return hub

    async def join(self, cache: ResourceCache, hub: Hub) -> None:
        """Load `cache` and keep it up to date from now on, beside what is followed already. After `load`.

        One at a time for a prefix; what was followed under it before is no longer told of changes.
        """
        missed: list[Change] = []
        self._joining[cache.prefix] = missed
        try:
            page = await self.store.list(cache.prefix)
            await self.wait_until(page.revision)
            cache.load(page.records)
        finally:
            del self._joining[cache.prefix]
        cache.complete_since = page.revision
        cache.changed_at = max(cache.changed_at, page.revision)
        for change in missed:
            if change.revision > page.revision:
                hub.publish(cache.apply(change))
        hub.flush_all()
        self._caches[cache.prefix] = (cache, hub)

    def leave(self, cache: ResourceCache) -> None:
        """Follow it no longer."""
        if self._caches.get(cache.prefix, (None, None))[0] is cache:
            del self._caches[cache.prefix]

    def caches(self) -> Iterable[tuple[ResourceCache, Hub]]:
        return self._caches.values()

    async def load(self) -> None:
        """Read the store's present state into the caches. Raises Undecryptable for what no key is known of."""
        page = await self.store.list(ROOT)
        for cache, records in self._spread(page.records):
            cache.load(records)
        self.revision = page.revision
        for cache, _ in self._caches.values():
            cache.complete_since = page.revision
        self.synced = True

    async def run(self) -> None:
        """Follow the store from where `load` ended, until cancelled."""
        # All keys, not only ours: every revision is then seen, and `wait_until` of any of them ends.
        watch = self.store.watch("", self.revision)
        try:
            async for batch in watch:
                for change in batch:
                    self._apply(change)
                if self._behind:
                    self._flush()
                self._wake()
        finally:
            await watch.close()

    async def wait_until(self, revision: int) -> None:
        """Return once everything up to `revision` is in the caches."""
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        waiter = (revision, next(self._order), future)
        heapq.heappush(self._waiting, waiter)
        try:
            await future
        except asyncio.CancelledError:
            # A revision of a client's imagination may never come.
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            raise

    async def is_stale(self, key: str) -> bool:
        """Whether a value must be written again although it is the same: it is encrypted with an old key."""
        return isinstance(self.store, EncryptedStore) and await self.store.is_stale(key)

    async def bookmark_all(self) -> None:
        """Tell all watchers that want it how far they have come; requests have their turns meanwhile."""
        told = 0
        for _, hub in list(self._caches.values()):
            for number in hub.bookmark(lambda: self.revision):
                told += number
                if told >= _BOOKMARKS_A_TURN:
                    told = 0
                    await asyncio.sleep(_BOOKMARK_PAUSE)

    def _flush(self) -> None:
        """Tell some watchers what has come; the next when others had their turn, or when their hub has rested."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        for hub in list(self._behind):
            hub.flush(now)
            if not hub.is_behind:
                del self._behind[hub]
        if self._behind:
            due = min(hub.due for hub in self._behind)
            self._flusher = loop.call_at(due, self._flush) if due > now else loop.call_soon(self._flush)

    def _spread(self, records: Iterable[Record]) -> Iterable[tuple[ResourceCache, list[Record]]]:
        """Records in order of keys, as those of one cache after those of another. Raises Undecryptable."""
        prefix, taken = "\0", None
        spread: dict[str, tuple[ResourceCache, list[Record]]] = {}
        for record in records:
            key = record.key
            if not key.startswith(prefix):
                found = self._find(key)
                if found is None:
                    continue
                prefix = found[0].prefix
                taken = spread.setdefault(prefix, (found[0], []))[1]
            assert taken is not None
            if record.value.startswith(ENCRYPTED):  # nothing decrypts here: the server was started without keys
                raise Undecryptable(key, "no encryption is configured")
            taken.append(record)
        return spread.values()

    def _apply(self, change: Change) -> None:
        self.revision = change.revision
        found = self._find(change.key)
        if found is not None:
            cache, hub = found
            if hub.publish(cache.apply(change)):
                self._behind[hub] = None
        if self._joining:
            for prefix, missed in self._joining.items():
                if change.key.startswith(prefix):
                    missed.append(change)

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def _find(self, key: str) -> tuple[ResourceCache, Hub] | None:
        """Prefixes have one part (pods/) or two (services/specs/, <group>/<custom resource>/)."""
        end = key.find("/", len(ROOT)) + 1
        found = self._caches.get(key[:end])
        return found if found is not None else self._caches.get(key[: key.find("/", end) + 1])
