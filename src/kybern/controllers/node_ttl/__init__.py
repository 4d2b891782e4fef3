"""Nodes are annotated with how long their kubelet may keep what it read of secrets and config maps.

The larger the cluster, the longer. Steps up and down overlap, so that a cluster at a boundary does not swing.
Source: the annotations that a v1.36 controller manager sets as a cluster grows and shrinks.
"""

from __future__ import annotations

from kybern.api.core_v1 import Node
from kybern.controllers import runtime
from kybern.machinery.status import ApiError

NAME = "ttl-controller"
ANNOTATION = "node.alpha.kubernetes.io/ttl"
# (fewer nodes than this: one step down, more than this: one step up, seconds)
STEPS = (
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, 10000, 300),
    (9000, 1 << 31, 600),
)


def plan_step(step: int, nodes: int) -> int:
    """The step of STEPS after `step`, in a cluster of so many nodes."""
    while step + 1 < len(STEPS) and nodes > STEPS[step][1]:
        step += 1
    while step > 0 and nodes < STEPS[step][0]:
        step -= 1
    return step


class NodeTtl(runtime.Looped):
    """runtime.Controller; keys are names of nodes."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._nodes = context.informers.of(Node)
        self._step = 0
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        self._nodes.on_change(self._changed)

    def _changed(self, old: Node | None, new: Node | None) -> None:
        step = plan_step(self._step, len(self._nodes))
        if step != self._step:
            self._step = step
            for node in self._nodes.list():
                self.loop.queue.add(node.metadata.name)
        elif new is not None and new.metadata.annotations.get(ANNOTATION) != self._wanted:
            self.loop.queue.add(new.metadata.name)

    @property
    def _wanted(self) -> str:
        return str(STEPS[self._step][2])

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        node = self._nodes.by_key(key)
        if node is None or node.metadata.annotations.get(ANNOTATION) == self._wanted:
            return None
        patch = {"metadata": {"uid": node.metadata.uid, "annotations": {ANNOTATION: self._wanted}}}
        try:
            await self._context.patch(Node, "", key, patch)
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None


def build(context: runtime.Context) -> NodeTtl:
    return NodeTtl(context)
