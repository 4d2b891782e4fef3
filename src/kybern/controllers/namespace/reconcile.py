"""Empty a terminating namespace and finalize it.

Woken by the namespace informer. Asks the server for its resources each time (custom ones come and go), counts what
is left, reports it, and takes the `kubernetes` finalizer away when nothing is.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.core_v1 import Namespace
from kybern.api.resource import Resource
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.namespace import plan
from kybern.machinery.status import ApiError

NAME = "namespace-controller"
PAUSE = 0.5  # seconds until a namespace that still holds something is looked at again, doubled up to ...
LONGEST_PAUSE = 5.0


class NamespaceController:
    """runtime.Controller of terminating namespaces."""

    def __init__(self, context: runtime.Context, *, workers: int = 10) -> None:
        self.name = NAME
        self._context = context
        self._namespaces = context.informers.of(Namespace)
        self._looks: dict[str, int] = {}  # how often a namespace was found not empty
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=workers)
        self.loops = (self.loop,)
        self._namespaces.on_change(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is None and old is not None:
            self._looks.pop(old.metadata.name, None)
        elif new is not None and new.metadata.deletionTimestamp is not None:
            self.loop.queue.add(new.metadata.name)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        namespace = self._namespaces.by_key(key)
        if namespace is None or namespace.metadata.deletionTimestamp is None:
            return None
        if plan.FINALIZER not in namespace.spec.finalizers:
            return None  # other finalizers hold it: not our business
        if namespace.status.phase != "Terminating":
            fresh = codec.clone(namespace)
            fresh.status.phase = "Terminating"
            namespace = await self._context.update_status(fresh)
        remains = await self._empty(key)
        if not remains.is_empty or namespace.status.conditions:
            namespace = await self._report(namespace, remains)
        if remains.is_empty:
            await self._finalize(namespace)
            return None
        looks = self._looks[key] = self._looks.get(key, 0) + 1
        return runtime.RequeueAfter(min(LONGEST_PAUSE, PAUSE * 2 ** min(looks - 1, 10)))

    async def _empty(self, namespace: str) -> plan.Remains:
        found = await self._context.discover()
        first, rest = plan.deletable(found.preferred())
        remains = plan.Remains(undiscovered=found.stale)
        await runtime.fan_out(first, lambda resource: self._empty_resource(namespace, resource, remains))
        if not remains.counts and not remains.errors:
            await runtime.fan_out(rest, lambda resource: self._empty_resource(namespace, resource, remains))
        return remains

    async def _empty_resource(self, namespace: str, resource: Resource, remains: plan.Remains) -> None:
        client = self._context.client
        shape = shapes.partial(resource)
        try:
            objects = (await client.list(shape, namespace)).items
            if not objects:
                return
            if "deletecollection" in resource.verbs:
                await client.delete_collection(resource, namespace, propagation="Background")
            else:
                for obj in objects:
                    await self._delete(resource, namespace, obj.metadata.name)
            left = (await client.list(shape, namespace)).items
        except ApiError as error:
            if error.code in (404, 405):
                return  # no longer served, or not meant to be emptied
            remains.errors.append(f"{plan.name_of(resource)}: {error}")
            return
        if left:
            remains.counts[plan.name_of(resource)] = len(left)
        for obj in left:
            for finalizer in obj.metadata.finalizers:
                remains.finalizers[finalizer] = remains.finalizers.get(finalizer, 0) + 1

    async def _delete(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            await self._context.client.delete(resource, namespace, name, propagation="Background")
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _report(self, namespace: Namespace, remains: plan.Remains) -> Namespace:
        fresh = codec.clone(namespace)
        fresh.status.conditions = plan.plan_conditions(namespace.status.conditions, remains, self._context.clock.now())
        if fresh.status == namespace.status:
            return namespace
        return await self._context.update_status(fresh)

    async def _finalize(self, namespace: Namespace) -> None:
        fresh = codec.clone(namespace)
        fresh.spec.finalizers = [f for f in fresh.spec.finalizers if f != plan.FINALIZER]
        try:
            # Not observed: the answer may be the last state of an object that is gone by now.
            await self._context.client.update(fresh, subresource="finalize")
        except ApiError as error:
            if not error.is_not_found:
                raise


def build(context: runtime.Context) -> NamespaceController:
    return NamespaceController(context)
