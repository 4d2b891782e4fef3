"""The life of CustomResourceDefinitions: names accepted, established, and emptied before they go.

Woken by the watch cache; looks at one definition at a time and writes its status, with its revision as precondition
(another server over the same store does the same). Decides in conditions and names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from kybern.api import codec, scalars
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.apiserver.custom_resources import conditions
from kybern.apiserver.custom_resources.serving import DEFINITIONS
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.slices import Slices
from kybern.apiserver.watch_cache.cache import Event
from kybern.client.workqueue import WorkQueue
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.storage.interface import StoreError

log = structlog.get_logger(__name__)

PAUSE = 1.0  # seconds between looks at objects that will not go
_AT_ONCE = 64


class Lifecycle:
    """One a server; `run` in its TaskGroup."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        faults_of: Callable[[CustomResourceDefinition], Sequence[str]],
        slices: Slices,
    ) -> None:
        self._slices = slices
        self._objects = registry.objects
        self._clock = clock
        self._faults_of = faults_of
        self._queue = WorkQueue(clock)

    async def run(self) -> None:
        store = self._objects.stores[DEFINITIONS]
        store.hub.listen(self._changed)
        for entry in store.cache.entries():
            self._queue.add(entry.name)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run(), name="custom resources: timer")
            tasks.create_task(self._work(), name="custom resources: life cycle")

    def _changed(self, event: Event) -> None:
        """Names that one gives back may be another's."""
        either = event.entry or event.previous
        if event.entry is not None:
            self._queue.add(event.entry.name)
        elif either is not None:
            group = either.object.spec.group
            for definition in self._objects.list(DEFINITIONS):
                if definition.spec.group == group:
                    self._queue.add(definition.metadata.name)

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            try:
                again = await self._slices.run(self._look_at(name), "")
            except (ApiError, StoreError) as error:
                pause = self._queue.add_rate_limited(name)
                log.info("a definition must wait", definition=name, error=str(error), retry_in=round(pause, 3))
            except Exception:  # supervised: a fault with one definition must not stop the others
                pause = self._queue.add_rate_limited(name)
                log.exception("a definition cannot be looked after", definition=name, retry_in=round(pause, 3))
            else:
                self._queue.forget(name)
                if again:
                    self._queue.add_after(name, again)
            finally:
                self._queue.done(name)

    async def _look_at(self, name: str) -> float:
        """Bring one definition on; returns in how many seconds to look again (0: when it changes)."""
        definition: CustomResourceDefinition | None = self._objects.get(DEFINITIONS, "", name)
        if definition is None:
            return 0
        if definition.metadata.deletionTimestamp is not None:
            return await self._empty(definition)
        now = scalars.render_time(self._clock.now())
        others = self._objects.list(DEFINITIONS)
        status = conditions.plan_status(definition, others, self._faults_of(definition), now)
        if status != definition.status:
            fresh = codec.clone(definition)
            fresh.status = status
            await self._write(fresh)
        return 0

    async def _empty(self, definition: CustomResourceDefinition) -> float:
        """Delete all objects of a definition; when there are none, let it go."""
        if conditions.FINALIZER not in definition.metadata.finalizers:
            return 0
        name = definition.metadata.name
        if conditions.has(definition, "Established") and name not in self._objects.stores:
            return PAUSE  # its objects are still being loaded
        store = self._objects.stores.get(name)
        if store is not None and len(store.cache):
            message = "CustomResource deletion is in progress"
            fresh = self._with_terminating(definition, "True", "InstanceDeletionInProgress", message)
            if fresh.status != definition.status:
                await self._write(fresh)
                return 0  # the write wakes us again
            entries = [e for e in store.cache.entries() if e.object.metadata.deletionTimestamp is None]
            for start in range(0, len(entries), _AT_ONCE):
                async with asyncio.TaskGroup() as tasks:
                    for entry in entries[start : start + _AT_ONCE]:
                        tasks.create_task(self._delete(name, entry.namespace, entry.name), name=f"delete {entry.key}")
            if len(store.cache):
                return PAUSE
        fresh = self._with_terminating(definition, "False", "InstanceDeletionCompleted", "removed all instances")
        fresh.metadata.finalizers = [f for f in fresh.metadata.finalizers if f != conditions.FINALIZER]
        await self._write(fresh)
        return 0

    def _with_terminating(
        self, definition: CustomResourceDefinition, status: str, reason: str, message: str
    ) -> CustomResourceDefinition:
        fresh = codec.clone(definition)
        now = scalars.render_time(self._clock.now())
        conditions.put(fresh.status.conditions, "Terminating", status, reason, message, now)
        return fresh

    async def _delete(self, resource: str, namespace: str, name: str) -> None:
        try:
            await self._objects.delete(resource, namespace, name)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _write(self, definition: CustomResourceDefinition) -> None:
        """Somebody else may have been faster: what they wrote wakes us again."""
        try:
            await self._objects.update(DEFINITIONS, definition)
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
