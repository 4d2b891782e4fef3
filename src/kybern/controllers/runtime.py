"""What every controller runs on: workers that reconcile keys, and writes that are read back at once.

Built by process/controller_manager. `Loop` takes keys from a work queue and calls `reconcile(key)`; a failure is
logged and the key comes again, later and later. `Context` writes through the client and tells the informers what
was answered, so that a reconcile never acts on a state older than its own last write.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from kybern.api.resource import Resource
from kybern.client import shapes
from kybern.client.discovery import Discoverer, Discovery
from kybern.client.informer import Informer, Informers
from kybern.client.recorder import EventRecorder
from kybern.client.rest import RestClient
from kybern.client.workqueue import RateLimit, WorkQueue
from kybern.controllers.settings import Settings
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

T = TypeVar("T")
U = TypeVar("U")
FIRST_BATCH = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Come back to this key in so many seconds, even if nothing changes."""

    seconds: float


Reconcile = Callable[[str], Awaitable[RequeueAfter | None]]


class Controller(Protocol):
    """What process/controller_manager starts: runs until cancelled, once informers have synced."""

    @property
    def name(self) -> str: ...

    @property
    def loops(self) -> Sequence[Loop]:
        """Its queues, for metrics."""
        ...

    async def run(self) -> None: ...


class Looped:
    """A controller that is nothing but its loops."""

    def __init__(self, name: str, *loops: Loop) -> None:
        self.name = name
        self.loops = loops

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for loop in self.loops:
                tasks.create_task(loop.run(), name=loop.name)


class Loop:
    """Workers over a queue of keys. At most one of them is at a key at any time."""

    def __init__(
        self, name: str, reconcile: Reconcile, clock: Clock, *, workers: int = 5, limit: RateLimit | None = None
    ) -> None:
        self.name = name
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self.queue = WorkQueue(clock, limit=limit)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.queue.run(), name=f"{self.name}:timer")
            for number in range(self._workers):
                tasks.create_task(self._work(), name=f"{self.name}:{number}")

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                again = await self._reconcile(key)
            except ApiError as error:
                pause = self.queue.add_rate_limited(key)
                expected = error.is_conflict or error.is_not_found or is_namespace_ending(error)
                level = log.debug if expected else log.warning
                level("reconcile failed", controller=self.name, key=key, error=str(error), retry_in=round(pause, 3))
            except Exception:  # supervised: a bug with one object must not stop the others
                pause = self.queue.add_rate_limited(key)
                log.exception("reconcile broke", controller=self.name, key=key, retry_in=round(pause, 3))
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again.seconds)
            finally:
                self.queue.done(key)


class Sleeper:
    """A controller that is built when the first object of its kind is there: what most clusters never need costs them
    nothing, neither modules nor memory."""

    def __init__(self, name: str, context: Context, kind: type[Any], build: Callable[[], Controller]) -> None:
        self.name = name
        self._build = build
        self._controller: Controller | None = None
        self._needed = asyncio.Event()
        context.informers.of(kind).on_change(lambda old, new: self._needed.set())

    @property
    def loops(self) -> Sequence[Loop]:
        return self._controller.loops if self._controller is not None else ()

    async def run(self) -> None:
        await self._needed.wait()
        try:
            self._controller = self._build()
        except (ValueError, OSError) as error:  # unusable settings
            log.error("cannot start a controller", controller=self.name, error=str(error))
            return
        await self._controller.run()


class Context:
    """The cluster, as controllers see and change it."""

    def __init__(
        self,
        client: RestClient,
        informers: Informers,
        clock: Clock,
        rng: random.Random,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.client = client
        self.informers = informers
        self.clock = clock
        self.rng = rng
        self._discoverer = Discoverer(client)
        self._recorders: dict[str, EventRecorder] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def discover(self) -> Discovery:
        """The resources the server has now."""
        return await self._discoverer.discover()

    def recorder(self, component: str) -> EventRecorder:
        """The recorder of a component; one each."""
        if component not in self._recorders:
            self._recorders[component] = EventRecorder(self.client, self.clock, component)
            if self._tasks is not None:
                self._tasks.create_task(self._recorders[component].run(), name=f"events:{component}")
        return self._recorders[component]

    async def run_recorders(self) -> None:
        """Send events in the background, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for component, recorder in self._recorders.items():
                tasks.create_task(recorder.run(), name=f"events:{component}")
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    async def create(self, obj: T, **options: Any) -> T:
        """`RestClient.create`, and the informers know."""
        stored = await self.client.create(obj, **options)
        if not options:
            self._observe(stored)
        return stored

    async def update(self, obj: T, *, subresource: str = "") -> T:
        stored = await self.client.update(obj, subresource=subresource)
        self._observe(stored)
        return stored

    async def update_status(self, obj: T) -> T:
        return await self.update(obj, subresource="status")

    async def patch(self, kind: type[T], namespace: str, name: str, patch: Any, *, subresource: str = "") -> T:
        """A merge patch."""
        stored = await self.client.patch(kind, namespace, name, patch, subresource=subresource)
        self._observe(stored)
        return stored

    async def delete(self, obj: Any, *, propagation: str = "", grace_period: int | None = None) -> bool:
        """Delete exactly this object (uid). False if it, or that life of it, was gone already."""
        meta = shapes.meta_of(obj)
        informer = self.informers.find(type(obj))
        try:
            left = await self.client.delete(
                type(obj),
                meta.namespace,
                meta.name,
                uid=meta.uid,
                propagation=propagation,
                grace_period=grace_period,
            )
        except ApiError as error:
            # 409: the uid is another one's by now.
            if not (error.is_not_found or error.is_conflict):
                raise
            if error.is_not_found and informer is not None:
                informer.remove(obj)
            return False
        if informer is not None:
            if left is not None and left.metadata.deletionTimestamp:
                informer.observe(left)
            else:
                informer.remove(obj)
        return True

    def _observe(self, obj: Any) -> None:
        informer = self.informers.find(type(obj))
        if informer is not None and shapes.meta_of(obj).uid:
            meta = getattr(obj, "metadata", None)
            if meta is not None and meta.managedFields:
                meta.managedFields = []
            informer.observe(obj)


async def fan_out(items: Sequence[U], act: Callable[[U], Awaitable[Any]], *, width: int = 16) -> list[ApiError]:
    """Act on all items, `width` at a time. Returns the ApiErrors; others end everything."""
    errors: list[ApiError] = []
    turn = asyncio.Semaphore(width)

    async def one(item: U) -> None:
        async with turn:
            try:
                await act(item)
            except ApiError as error:
                errors.append(error)

    async with asyncio.TaskGroup() as tasks:
        for item in items:
            tasks.create_task(one(item))
    return errors


async def slow_start(items: Sequence[U], act: Callable[[U], Awaitable[Any]]) -> ApiError | None:
    """Act on items in batches of 1, 2, 4 ..., stopping after a batch with failures.

    A create that cannot succeed (quota, admission) is thus tried once, not a thousand times. Returns the first error.
    """
    start, size = 0, FIRST_BATCH
    while start < len(items):
        errors = await fan_out(items[start : start + size], act, width=64)
        if errors:
            return errors[0]
        start, size = start + size, size * 2
    return None


def enqueue_on_change(loop: Loop, informer: Informer[Any]) -> None:
    """Every change of an object queues its own key."""
    informer.on_change(lambda old, new: loop.queue.add(shapes.key_of(new if new is not None else old)))


def is_namespace_ending(error: ApiError) -> bool:
    """Nothing can be created in a namespace that goes away: no failure of ours."""
    causes = error.status.details.causes if error.status.details is not None else []
    return any(cause.reason == "NamespaceTerminating" for cause in causes)


def resource_of(kind: type[Any]) -> Resource:
    """The row of a typed kind."""
    return shapes.of(kind).resource
