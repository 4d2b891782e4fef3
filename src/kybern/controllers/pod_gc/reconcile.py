"""Every 20 seconds, take away the pods nobody else takes away.

Reads pods and nodes; asks the server itself before it believes that a node is gone. Decides in plan.
"""

from __future__ import annotations

from kybern.api import codec, scalars
from kybern.api.core_v1 import Node, Pod, PodCondition
from kybern.controllers import pods, runtime
from kybern.controllers.pod_gc import plan
from kybern.machinery.status import ApiError

NAME = "pod-garbage-collector-controller"
PERIOD = 20.0
QUARANTINE = 40.0  # seconds a node must have been missing: it may be on its way in


class PodGarbageCollector:
    """runtime.Controller with one key."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._pods = context.informers.of(Pod)
        self._nodes = context.informers.of(Node)
        self._missing: dict[str, float] = {}  # node -> since, monotonic
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        self.loops = (self.loop,)
        self.loop.queue.add("all")

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        everything, nodes = self._pods.list(), self._nodes.list()
        doomed = plan.plan_terminated(everything, self._context.settings.terminated_pod_gc_threshold)
        doomed += plan.plan_out_of_service(everything, nodes)
        doomed += plan.plan_orphaned(everything, await self._gone(plan.unknown_nodes(everything, nodes)))
        doomed += plan.plan_unscheduled(everything)
        errors = await runtime.fan_out(doomed, self._delete)
        if errors:
            raise errors[0]
        return runtime.RequeueAfter(PERIOD)

    async def _gone(self, unknown: set[str]) -> set[str]:
        now = self._context.clock.monotonic()
        self._missing = {name: self._missing.get(name, now) for name in unknown}
        gone = set()
        for name, since in self._missing.items():
            if now - since < QUARANTINE:
                continue
            try:
                await self._context.client.get(Node, "", name)
            except ApiError as error:
                if not error.is_not_found:
                    raise
                gone.add(name)
        return gone

    async def _delete(self, doomed: plan.Doomed) -> None:
        pod = doomed.pod
        if doomed.fails or not pods.is_finished(pod):
            fresh = codec.clone(pod)
            fresh.status.phase = "Failed"
            others = [c for c in fresh.status.conditions if c.type != "DisruptionTarget"]
            stamp = scalars.render_time(self._context.clock.now())
            fresh.status.conditions = [
                *others,
                PodCondition(
                    type="DisruptionTarget",
                    status="True",
                    reason=doomed.reason,
                    message=doomed.message,
                    lastTransitionTime=stamp,
                ),
            ]
            try:
                await self._context.update_status(fresh)
            except ApiError as error:
                if error.is_not_found:
                    return
                raise
        await self._context.delete(pod, grace_period=0)


def build(context: runtime.Context) -> PodGarbageCollector:
    return PodGarbageCollector(context)
