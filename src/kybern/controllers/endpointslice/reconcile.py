"""Write the EndpointSlices of services with a selector.

Woken by services, pods, nodes (zones) and the slices themselves; decides in plan. Slices of a deleted service are
left to the garbage collector, which their owner reference tells.
"""

from __future__ import annotations

from kybern.api.core_v1 import Node, Pod, Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client import shapes
from kybern.controllers import runtime, service_pods
from kybern.controllers.endpointslice import pack, plan
from kybern.machinery.status import ApiError

NAME = "endpointslice-controller"
INDEX = "service"
NODE = "node"


def service_key(found: EndpointSlice) -> str:
    return f"{found.metadata.namespace}/{found.metadata.labels.get(plan.SERVICE, '')}"


class EndpointSliceController:
    """runtime.Controller; keys are those of services."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._services = context.informers.of(Service)
        self._pods = context.informers.of(Pod)
        service_pods.index_pods(self._pods)
        self._pods.add_index(NODE, lambda pod: (pod.spec.nodeName or "",))
        self._nodes = context.informers.of(Node)
        self._slices = context.informers.of(EndpointSlice)
        self._slices.add_index(INDEX, lambda found: (service_key(found),))
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        service_pods.wake_services(context, self.loop)
        self._slices.on_change(self._slice_changed)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for found in (old, new):
            if found is not None and found.metadata.labels.get(plan.MANAGED_BY) == plan.MANAGER:
                self.loop.queue.add(service_key(found))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """Only the zone of a node shows in slices, in those of the pods that are there."""
        before = old.metadata.labels.get(plan.ZONE) if old is not None else None
        after = new.metadata.labels.get(plan.ZONE) if new is not None else None
        found = new if new is not None else old
        if before == after or found is None:
            return
        for pod in self._pods.by_index(NODE, found.metadata.name):
            for service in service_pods.selecting(pod, self._services):
                self.loop.queue.add(shapes.key_of(service))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        service = self._services.by_key(key)
        if service is None or service.metadata.deletionTimestamp:
            return None
        existing = [
            found
            for found in self._slices.by_index(INDEX, key)
            if found.metadata.labels.get(plan.MANAGED_BY) == plan.MANAGER and not found.metadata.deletionTimestamp
        ]
        if service.spec.type == "ExternalName":
            await apply_changes(self._context, pack.Changes(delete=tuple(existing)))
            return None
        if not service_pods.has_endpoints(service):
            return None
        backing = service_pods.backing(service, self._pods)
        names = {pod.spec.nodeName for pod in backing if pod.spec.nodeName}
        nodes = {name: node for name in names if (node := self._nodes.by_key(name)) is not None}
        limit = self._context.settings.max_endpoints_per_slice
        await apply_changes(self._context, plan.plan_slices(service, backing, nodes, existing, limit))
        return None


async def apply_changes(context: runtime.Context, changes: pack.Changes) -> None:
    """Write slices: new ones first, so that no endpoint is missing in between."""
    try:
        for made in changes.create:
            await context.create(made)
        for changed in changes.update:
            await context.update(changed)
        for gone in changes.delete:
            await context.delete(gone)
    except ApiError as error:
        if not runtime.is_namespace_ending(error):
            raise


def build(context: runtime.Context) -> EndpointSliceController:
    return EndpointSliceController(context)
