"""Look at one object at a time, and do what plan says.

Woken by monitors. Before anything is deleted for want of an owner, the server itself is asked for that owner; every
write holds uid and resourceVersion, so that a stale view can never delete what has changed.
"""

from __future__ import annotations

import asyncio
import collections
from typing import Any

import structlog

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.client import shapes
from kybern.client.workqueue import RateLimit
from kybern.controllers import runtime
from kybern.controllers.garbage_collector import plan
from kybern.controllers.garbage_collector.graph import ORPHAN, Entry, Graph
from kybern.controllers.garbage_collector.monitors import Monitors
from kybern.machinery.status import ApiError

NAME = "garbage-collector-controller"
REMEMBERED_ABSENT = 500

log = structlog.get_logger(__name__)


class GarbageCollector:
    """runtime.Controller; keys are uids."""

    def __init__(self, context: runtime.Context, *, workers: int = 20) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder(NAME)
        self._graph = Graph()
        limit = RateLimit(first=0.1, longest=60.0)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=workers, limit=limit)
        self.loops = (self.loop,)
        self._monitors = Monitors(context, self._graph, self.loop.queue.add)
        self._absent: collections.OrderedDict[str, None] = collections.OrderedDict()  # uids never to come back

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._monitors.run(), name="garbage-collector:monitors")
            tasks.create_task(self.loop.run(), name="garbage-collector")

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        if not self._monitors.has_synced:
            return runtime.RequeueAfter(0.2)
        entry = self._graph.get(key)
        if entry is None:
            return None
        if entry.is_being_deleted:
            action = plan.plan_deleted(self._graph, entry)
        elif entry.owners:
            states = {owner.uid: await self._existence(entry, owner) for owner in entry.owners}
            action = plan.plan_owned(self._graph, entry, lambda owner: states[owner.uid])
        else:
            return None
        try:
            await self._apply(entry, action)
        except ApiError as error:
            if error.is_not_found:
                return None
            if error.is_conflict:
                return runtime.RequeueAfter(0.1)  # changed meanwhile: look again once the informer knows
            raise
        return None

    async def _apply(self, entry: Entry, action: plan.Action) -> None:
        client = self._context.client
        match action:
            case plan.Delete(propagation, unblock):
                version = entry.obj.metadata.resourceVersion
                if unblock:
                    version = await self._unblock(entry)
                log.info(
                    "collecting", resource=entry.resource.plural, namespace=entry.namespace, name=entry.name,
                    owners=[f"{o.kind}/{o.name}" for o in entry.owners], propagation=propagation,
                )  # fmt: skip
                await client.delete(
                    shapes.partial(entry.resource),
                    entry.namespace,
                    entry.name,
                    uid=entry.uid,
                    resource_version=version,
                    propagation=propagation,
                )
            case plan.Disown(uids):
                await self._write(entry, ownerReferences=[o for o in entry.owners if o.uid not in uids])
            case plan.Release(finalizer):
                await self._write(entry, finalizers=[f for f in entry.finalizers if f != finalizer])
            case plan.Orphan(dependents):
                errors = await runtime.fan_out(dependents, lambda d: self._orphan(d, entry.uid))
                if errors:
                    raise errors[0]
                await self._write(entry, finalizers=[f for f in entry.finalizers if f != ORPHAN])
            case plan.Await(blocking):
                for dependent in blocking:
                    if not dependent.is_being_deleted:
                        self.loop.queue.add(dependent.uid)
            case None:
                pass

    async def _unblock(self, entry: Entry) -> str:
        """Let owners not wait for this object; returns its new resourceVersion."""
        owners = [{**codec.to_json(owner), "blockOwnerDeletion": False} for owner in entry.owners]
        return (await self._write(entry, ownerReferences=owners)).metadata.resourceVersion

    async def _orphan(self, dependent: Entry, owner: str) -> None:
        """From a live copy: an owner must not be lost to a conflict, nor a dependent that changes often starve it."""
        client, shape = self._context.client, shapes.partial(dependent.resource)
        try:
            live = await client.get(shape, dependent.namespace, dependent.name)
            if live.metadata.uid != dependent.uid:
                return
            if any(o.uid == owner for o in live.metadata.ownerReferences):
                left = [o for o in live.metadata.ownerReferences if o.uid != owner]
                await self._write(Entry(dependent.resource, live), ownerReferences=left)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _write(self, entry: Entry, **fields: Any) -> shapes.PartialView:
        meta = {"uid": entry.uid, "resourceVersion": entry.obj.metadata.resourceVersion}
        patch = {"metadata": meta | {name: codec.to_json(value) for name, value in fields.items()}}
        shape = shapes.partial(entry.resource)
        return await self._context.client.patch(shape, entry.namespace, entry.name, patch)

    async def _existence(self, entry: Entry, owner: Any) -> plan.Existence:
        known = self._graph.owner_of(entry, owner.uid)
        if known is not None:
            return plan.Existence.WAITING if known.waits_for_dependents else plan.Existence.ALIVE
        if self._absence_key(entry, owner) in self._absent:
            return plan.Existence.ABSENT
        return await self._ask(entry, owner)

    def _absence_key(self, entry: Entry, owner: Any) -> str:
        return f"{entry.namespace}/{owner.apiVersion}/{owner.kind}/{owner.name}/{owner.uid}"

    async def _ask(self, entry: Entry, owner: Any) -> plan.Existence:
        resource = self._monitors.resource_of(owner.apiVersion, owner.kind)
        if resource is None:
            self._monitors.rediscover()
            raise ApiError.internal(f"no resource serves {owner.kind} of {owner.apiVersion}, an owner of {entry.name}")
        if resource.namespaced and not entry.namespace:
            # A cluster-wide object cannot be owned by a namespaced one: whether that exists cannot be known.
            self._recorder.event(
                _reference(entry), "Warning", "OwnerRefInvalidNamespace",
                f"ownerRef [{owner.apiVersion}/{owner.kind}, name: {owner.name}, uid: {owner.uid}] "
                f'does not exist in namespace "{entry.namespace}"',
            )  # fmt: skip
            return plan.Existence.ALIVE
        try:
            live = await self._live(resource, entry.namespace if resource.namespaced else "", owner.name)
        except ApiError as error:
            if not error.is_not_found:
                raise
            live = None
        if live is None or live.metadata.uid != owner.uid:
            self._absent[self._absence_key(entry, owner)] = None
            if len(self._absent) > REMEMBERED_ABSENT:
                self._absent.popitem(last=False)
            return plan.Existence.ABSENT
        return plan.Existence.WAITING if Entry(resource, live).waits_for_dependents else plan.Existence.ALIVE

    async def _live(self, resource: Resource, namespace: str, name: str) -> shapes.PartialView:
        return await self._context.client.get(shapes.partial(resource), namespace, name)


def _reference(entry: Entry) -> dict[str, Any]:
    return {
        "apiVersion": entry.resource.api_version,
        "kind": entry.resource.kind,
        "metadata": {"name": entry.name, "namespace": entry.namespace, "uid": entry.uid},
    }


def build(context: runtime.Context) -> GarbageCollector:
    return GarbageCollector(context)
