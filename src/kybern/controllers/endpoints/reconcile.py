"""Write the Endpoints of services with a selector.

Woken by services and pods; decides in plan. A service's Endpoints go with it.
"""

from __future__ import annotations

from kybern.api.core_v1 import Endpoints, Pod, Service
from kybern.client import shapes
from kybern.controllers import runtime, service_pods
from kybern.controllers.endpoints import plan
from kybern.machinery.status import ApiError

NAME = "endpoints-controller"


class EndpointsController:
    """runtime.Controller; keys are those of services."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._services = context.informers.of(Service)
        self._pods = context.informers.of(Pod)
        service_pods.index_pods(self._pods)
        self._endpoints = context.informers.of(Endpoints)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        service_pods.wake_services(context, self.loop)
        self._endpoints.on_change(self._endpoints_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        if old is None and new is not None:
            # At start: what is left of services that went away meanwhile.
            if new.metadata.labels.get(plan.MANAGED_BY) == plan.MANAGER:
                self.loop.queue.add(shapes.key_of(new))
            return
        self.loop.queue.add(shapes.key_of(new if new is not None else old))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        service = self._services.by_key(key)
        found = self._endpoints.by_key(key)
        if service is None:
            if found is not None and found.metadata.labels.get(plan.MANAGED_BY) == plan.MANAGER:
                await self._context.delete(found)
            return None
        if not service_pods.has_endpoints(service) or service.metadata.deletionTimestamp:
            return None
        backing = service_pods.backing(service, self._pods)
        wanted = plan.plan_endpoints(service, backing, found)
        if wanted is None:
            return None
        try:
            await (self._context.create(wanted) if found is None else self._context.update(wanted))
        except ApiError as error:
            if not runtime.is_namespace_ending(error):
                raise
        return None


def build(context: runtime.Context) -> EndpointsController:
    return EndpointsController(context)
