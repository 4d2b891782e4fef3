"""List, then watch, for ever: keeps one informer in step with the server.

Reads rest, feeds informer.Informer (or another Sink). After a lost watch it goes on from the last version seen; after
410 it lists anew; failures are retried with growing, jittered pauses. Ends only by cancellation.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import structlog

from kybern.client import shapes
from kybern.client.rest import RestClient
from kybern.client.shapes import Shape
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

T = TypeVar("T")
FIRST_PAUSE = 0.8  # seconds; client-go: 800 ms, doubled up to 30 s, jitter 1.0
LONGEST_PAUSE = 30.0
QUIET_AFTER = 120.0  # seconds without failure, after which pauses start small again
WATCH_SECONDS = 300  # client-go: 5 to 10 minutes, so that not all watches end together

log = structlog.get_logger(__name__)


class Sink(Protocol[T]):
    """What a reflector feeds: informer.Informer, or who keeps less than all of every object."""

    shape: Shape[T]

    def replace(self, objects: Iterable[T], resource_version: str, *, exact: bool = False) -> None: ...

    def upsert(self, obj: T) -> None: ...

    def remove(self, obj: T) -> None: ...


class Backoff:
    """Pauses between attempts: 0.8 s doubled up to 30 s, each up to doubled again by chance."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._pause = FIRST_PAUSE
        self._last = float("-inf")

    async def wait(self) -> None:
        now = self._clock.monotonic()
        if now - self._last > QUIET_AFTER:
            self._pause = FIRST_PAUSE
        pause = self._pause * (1.0 + self._rng.random())
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        await self._clock.sleep(pause)
        self._last = self._clock.monotonic()


class Reflector(Generic[T]):
    """One list and watch of one selection, into one informer."""

    def __init__(
        self,
        client: RestClient,
        informer: Sink[T],
        clock: Clock,
        rng: random.Random,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._client = client
        self._informer = informer
        self._rng = rng
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._backoff = Backoff(clock, rng)
        self._version = ""  # of the last event; "" before the first list

    async def run(self) -> None:
        """Never returns; an object that cannot be handled is a failure like any other: list again, later."""
        exact = False  # after 410 the server's cache is behind: ask the store itself
        is_served = True  # as far as is known: of a kind that the server does not have, it is said once
        while True:
            try:
                if not self._version:
                    await self._list(exact)
                    exact = False
                await self._watch()
                is_served = True
            except ApiError as error:
                if error.is_expired:
                    exact = True
                    self._version = ""
                    log.debug("watch expired, listing anew", resource=self._name)
                    continue
                if error.code == 504 and self._version:  # too large a resourceVersion: the server was set back
                    exact = True
                    self._version = ""
                say = log.warning if is_served or error.code != 404 else log.debug
                say("list or watch failed", resource=self._name, error=str(error), code=error.code)
                is_served = error.code != 404
                await self._backoff.wait()
            except Exception:  # supervised: an object that breaks us must not end all informers
                log.exception("list or watch broke", resource=self._name)
                self._version = ""
                await self._backoff.wait()

    async def _list(self, exact: bool) -> None:
        result = await self._client.list(
            self._informer.shape,
            self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            resource_version="" if exact else "0",
        )
        for obj in result.items:
            trim(obj)
        self._informer.replace(result.items, result.resource_version, exact=exact)
        self._version = result.resource_version

    async def _watch(self) -> None:
        events = self._client.watch(
            self._informer.shape,
            self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            resource_version=self._version,
            timeout=int(WATCH_SECONDS * (1 + self._rng.random())),
        )
        got_any = False
        async with contextlib.aclosing(events) as stream:  # type: ignore[type-var]
            async for event in stream:
                got_any = True
                match event.type:
                    case "ADDED" | "MODIFIED":
                        trim(event.object)
                        self._informer.upsert(event.object)
                    case "DELETED":
                        self._informer.remove(event.object)
                    case "BOOKMARK":
                        pass
                self._version = shapes.meta_of(event.object).resource_version or self._version
        if not got_any:
            await self._backoff.wait()  # a server that ends watches at once must not be asked in a tight loop

    @property
    def _name(self) -> str:
        return self._informer.shape.resource.group_resource


def trim(obj: object) -> None:
    """Drop managedFields: no component reads them, and they are half of many objects' memory."""
    if isinstance(obj, dict):
        obj.get("metadata", {}).pop("managedFields", None)
        return
    meta = getattr(obj, "metadata", None)
    if getattr(meta, "managedFields", None):
        meta.managedFields = []  # type: ignore[union-attr]
