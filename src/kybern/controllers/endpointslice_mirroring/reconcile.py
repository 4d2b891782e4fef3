"""Mirror hand-written Endpoints into EndpointSlices.

Woken by Endpoints, services and its own slices; decides in plan.
"""

from __future__ import annotations

from kybern.api.core_v1 import Endpoints, Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.controllers import runtime
from kybern.controllers.endpointslice import pack
from kybern.controllers.endpointslice.plan import MANAGED_BY
from kybern.controllers.endpointslice.reconcile import INDEX, apply_changes, service_key
from kybern.controllers.endpointslice_mirroring import plan

NAME = "endpointslice-mirroring-controller"


class MirroringController:
    """runtime.Controller; keys are those of Endpoints."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._endpoints = context.informers.of(Endpoints)
        self._services = context.informers.of(Service)
        self._slices = context.informers.of(EndpointSlice)
        self._slices.add_index(INDEX, lambda found: (service_key(found),))
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        runtime.enqueue_on_change(self.loop, self._endpoints)
        runtime.enqueue_on_change(self.loop, self._services)
        self._slices.on_change(self._slice_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for found in (old, new):
            if found is not None and found.metadata.labels.get(MANAGED_BY) == plan.MANAGER:
                self.loop.queue.add(service_key(found))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        endpoints = self._endpoints.by_key(key)
        existing = [
            found
            for found in self._slices.by_index(INDEX, key)
            if found.metadata.labels.get(MANAGED_BY) == plan.MANAGER and not found.metadata.deletionTimestamp
        ]
        if endpoints is None or not plan.is_mirrored(endpoints, self._services.by_key(key)):
            await apply_changes(self._context, pack.Changes(delete=tuple(existing)))
            return None
        settings = self._context.settings
        limit, per_subset = settings.max_endpoints_per_slice, settings.mirroring_max_endpoints_per_subset
        await apply_changes(self._context, plan.plan_slices(endpoints, existing, limit, per_subset))
        return None


def build(context: runtime.Context) -> MirroringController:
    return MirroringController(context)
