"""Keep the status of quotas.

Woken by quotas, by objects that leave room behind them, and all over again from time to time. Two counts are never
trusted at once: a status that changed (also by admission, which writes down what a write will take before it is
made) is counted again a little later, so that what was reserved in vain, or was not yet seen, is put right.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import ResourceQuota
from kybern.api.resource_v1 import DeviceClass
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.resourcequota import plan
from kybern.controllers.resourcequota.counted import REDISCOVER, Counted

NAME = "resourcequota-controller"
SECOND_LOOK = 10.0  # seconds
SYNC_POLL = 0.2


class ResourceQuotaController:
    """runtime.Controller; keys are those of quotas."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._quotas = context.informers.of(ResourceQuota)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        self._quotas.on_change(self._quota_changed)
        self._counted = Counted(context, self._object_changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run(), name=NAME)
            tasks.create_task(self._resync(), name=f"{NAME}:resync")

    async def _resync(self) -> None:
        while True:
            await self._context.clock.sleep(self._context.settings.resource_quota_sync_period)
            for quota in self._quotas.list():
                self.loop.queue.add(shapes.key_of(quota))

    def _quota_changed(self, old: ResourceQuota | None, new: ResourceQuota | None) -> None:
        if new is None:
            return
        if old is None or plan.is_outdated(new) or old.spec != new.spec:
            self.loop.queue.add(shapes.key_of(new))
        elif old.status != new.status:
            self.loop.queue.add_after(shapes.key_of(new), SECOND_LOOK)

    def _object_changed(self, source: str, old: Any, new: Any) -> None:
        namespace = shapes.meta_of(new if new is not None else old).namespace
        quotas = self._quotas.list(namespace)
        if not quotas or not plan.has_freed(source, old, new):
            return
        for quota in quotas:
            if source in plan.sources(quota):
                self.loop.queue.add(shapes.key_of(quota))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        quota = self._quotas.by_key(key)
        if quota is None or quota.metadata.deletionTimestamp is not None:
            return None
        objects: dict[str, list[Any]] = {}
        is_whole = True
        for source in sorted(plan.sources(quota)):
            informer = await self._counted.informer_of(source)
            if informer is None:
                is_whole = False
                continue
            if not informer.has_synced:
                return runtime.RequeueAfter(SYNC_POLL)
            objects[source] = informer.list(quota.metadata.namespace)
        classes: dict[str, str | None] = {}
        if any(map(plan.is_extended, quota.spec.hard)):
            known = self._context.informers.of(DeviceClass)
            if not known.has_synced:
                return runtime.RequeueAfter(SYNC_POLL)
            classes = {found.metadata.name: found.spec.extendedResourceName for found in known.list()}
        # The informers were asked for one after the other: the quota may be another by now.
        quota = self._quotas.by_key(key)
        if quota is None:
            return None
        status = plan.plan_status(quota, objects, classes)
        if status != quota.status:
            fresh = codec.clone(quota)
            fresh.status = status
            await self._context.update_status(fresh)
        return None if is_whole else runtime.RequeueAfter(REDISCOVER)


def build(context: runtime.Context) -> ResourceQuotaController:
    return ResourceQuotaController(context)
