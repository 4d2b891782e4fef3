"""No answer older than what another API server has acknowledged: the step for stores that several servers share.

In the pipeline between authorization and the handlers; installed only where the store is shared. A request waits until
this server's caches have reached the revision the store had when the request came. All requests that come while one
question is on its way share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from kybern.apiserver.request import Request
from kybern.apiserver.watch_cache.feed import Feed
from kybern.machinery.status import ApiError
from kybern.storage.interface import Revision, StoreUnavailable

PATIENCE = 10.0  # seconds for the caches to follow; a store that answers and tells no changes is broken
_READS = frozenset({"get", "list", "watch"})


class Freshness:
    """A step of the pipeline."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._asking = asyncio.Lock()
        self._next: asyncio.Future[Revision] | None = None  # of those who wait for the next question

    def __call__(self, request: Request) -> Awaitable[None] | None:
        info = request.info
        if not info.is_resource or (info.verb in _READS and request.flag("resourceVersion")):
            return None  # whoever names a revision is content with it
        return self._freshen()

    async def _freshen(self) -> None:
        try:
            revision = await self._newest()
        except StoreUnavailable as error:
            raise ApiError.unavailable(f"the store does not answer: {error}") from error
        try:
            async with asyncio.timeout(PATIENCE):
                await self._feed.wait_until(revision)
        except TimeoutError:
            raise ApiError.unavailable("the store does not tell of its changes") from None

    async def _newest(self) -> Revision:
        """The store's newest revision, asked for after this call."""
        while True:
            joined = self._next
            if joined is None:
                return await self._ask()
            try:
                return await asyncio.shield(joined)
            except asyncio.CancelledError:
                if not joined.cancelled():
                    raise  # we are; else who was to ask has gone, and somebody else must

    async def _ask(self) -> Revision:
        mine: asyncio.Future[Revision] = asyncio.get_running_loop().create_future()
        self._next = mine
        try:
            async with self._asking:
                self._next = None  # who comes now may have seen something newer
                revision = await self._feed.store.refresh()
            mine.set_result(revision)
            return revision
        except StoreUnavailable as error:
            mine.set_exception(error)
            mine.exception()  # seen, also when nobody waits
            raise
        finally:
            if self._next is mine:
                self._next = None
            if not mine.done():
                mine.cancel()
