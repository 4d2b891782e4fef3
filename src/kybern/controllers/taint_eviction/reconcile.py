"""Evict pods from nodes with NoExecute taints, each when its toleration has run out.

Woken by pods and by nodes whose taints changed. Times run from when this controller first saw the pod on the tainted
node; a taint that goes away forgets them.
"""

from __future__ import annotations

from kybern.api import codec, scalars
from kybern.api.core_v1 import Node, Pod, PodCondition
from kybern.client import shapes
from kybern.controllers import pods, runtime
from kybern.controllers.taint_eviction import plan
from kybern.machinery.status import ApiError

NAME = "taint-eviction-controller"
INDEX = "node"


class TaintEvictionController:
    """runtime.Controller; keys are those of pods."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder(NAME)
        self._nodes = context.informers.of(Node)
        self._pods = context.informers.of(Pod)
        self._pods.add_index(INDEX, lambda pod: (pod.spec.nodeName or "",))
        self._since: dict[str, float] = {}  # uid of a pod on a tainted node -> monotonic
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=8)
        self.loops = (self.loop,)
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._since.pop(old.metadata.uid, None)
        elif new.spec.nodeName and (
            old is None or old.spec.nodeName != new.spec.nodeName or old.spec.tolerations != new.spec.tolerations
        ):
            self.loop.queue.add(shapes.key_of(new))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and old.spec.taints == new.spec.taints):
            return
        if old is None and not new.spec.taints:
            return
        for pod in self._pods.by_index(INDEX, new.metadata.name):
            self.loop.queue.add(shapes.key_of(pod))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        pod = self._pods.by_key(key)
        node = self._nodes.by_key(pod.spec.nodeName) if pod is not None and pod.spec.nodeName else None
        if pod is None or node is None or pod.metadata.deletionTimestamp or pods.is_finished(pod):
            return None
        if not any(taint.effect == "NoExecute" for taint in node.spec.taints):
            if self._since.pop(pod.metadata.uid, None) is not None:
                self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
            return None
        limit = plan.seconds_left(pod, node.spec.taints)
        if limit == plan.FOR_EVER:
            return None
        now = self._context.clock.monotonic()
        left = self._since.setdefault(pod.metadata.uid, now) + limit - now
        if left > 0:
            return runtime.RequeueAfter(left)
        await self._evict(pod)
        return None

    async def _evict(self, pod: Pod) -> None:
        self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {shapes.key_of(pod)}")
        fresh = codec.clone(pod)
        fresh.status.conditions = [c for c in fresh.status.conditions if c.type != "DisruptionTarget"]
        fresh.status.conditions.append(
            PodCondition(
                type="DisruptionTarget",
                status="True",
                reason="DeletionByTaintManager",
                message="Taint manager: deleting due to NoExecute taint",
                lastTransitionTime=scalars.render_time(self._context.clock.now()),
            )
        )
        try:
            await self._context.update_status(fresh)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return
        await self._context.delete(pod)


def build(context: runtime.Context) -> TaintEvictionController:
    return TaintEvictionController(context)
