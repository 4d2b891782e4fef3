"""Watch over nodes: mark the silent ones, keep taints, tell pods of lost nodes that they are not ready.

Woken by nodes and, every `node_monitor_period`, by itself. A sign of life is a change of the node's lease or of its
Ready heartbeat; the clocks of nodes are never compared with ours.
"""

from __future__ import annotations

from kybern.api import codec, scalars
from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import Node, Pod
from kybern.controllers import pods, runtime
from kybern.controllers.node_lifecycle import plan
from kybern.machinery.status import ApiError

NAME = "node-lifecycle-controller"
INDEX = "node"


class NodeLifecycleController:
    """runtime.Controller; keys are names of nodes."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder("node-controller")
        self._nodes = context.informers.of(Node)
        self._leases = context.informers.of(Lease, namespace="kube-node-lease")
        self._pods = context.informers.of(Pod)
        self._pods.add_index(INDEX, lambda pod: (pod.spec.nodeName or "",))
        self._heard: dict[str, plan.Heard] = {}
        self._next_eviction: dict[str, float] = {}  # zone -> monotonic
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            self.loop.queue.add(new.metadata.name)
        elif old is not None:
            self._heard.pop(old.metadata.name, None)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        node = self._nodes.by_key(key)
        if node is None:
            return None
        again = runtime.RequeueAfter(self._context.settings.node_monitor_period)
        now = self._context.clock.now()
        conditions = plan.plan_conditions(node, self._silence(node), self._context.settings, now)
        if conditions is not None:
            fresh = codec.clone(node)
            fresh.status.conditions = conditions
            node = await self._context.update_status(fresh)
        if plan.condition_of(node, "Ready") is not None and not plan.is_ready(node):
            await self._mark_pods(node)
        evict = plan.needs_eviction(node) and self._take_turn(node)
        taints = plan.plan_taints(node, evict=evict, now=now)
        if taints is not None:
            patch = {
                "metadata": {"resourceVersion": node.metadata.resourceVersion},
                "spec": {"taints": codec.to_json(taints)},
            }
            await self._context.patch(Node, "", key, patch)
        return again

    def _silence(self, node: Node) -> float:
        """Seconds since the last sign of life; a new one is noted."""
        name = node.metadata.name
        lease = self._leases.get("kube-node-lease", name)
        ready = plan.condition_of(node, "Ready")
        renewed = lease.spec.renewTime if lease is not None else None
        beat = ready.lastHeartbeatTime if ready is not None else None
        now = self._context.clock.monotonic()
        sign = (renewed or "", beat or "")
        heard = self._heard.get(name)
        if heard is None or heard.sign != sign:
            heard = self._heard[name] = plan.Heard(sign, now)
        return now - heard.at

    def _take_turn(self, node: Node) -> bool:
        """Whether this node may be tainted NoExecute now; if so, the next of its zone has to wait."""
        zone = plan.zone_of(node)
        now = self._context.clock.monotonic()
        rate = self._rate(zone)
        if rate <= 0 or now < self._next_eviction.get(zone, 0.0):
            return False
        self._next_eviction[zone] = now + 1 / rate
        return True

    def _rate(self, zone: str) -> float:
        nodes = self._nodes.list()
        states = plan.zone_states(nodes, self._context.settings)
        size = sum(plan.zone_of(node) == zone for node in nodes)
        return plan.eviction_rate(zone, states, size, self._context.settings)

    async def _mark_pods(self, node: Node) -> None:
        """Pods of a node that is not ready are not ready: services must stop to send them traffic."""
        for pod in self._pods.by_index(INDEX, node.metadata.name):
            ready = pods.condition_of(pod, "Ready")
            if ready is None or ready.status != "True":
                continue
            fresh = codec.clone(pod)
            for condition in fresh.status.conditions:
                if condition.type == "Ready":
                    condition.status = "False"
                    condition.lastTransitionTime = scalars.render_time(self._context.clock.now())
            try:
                await self._context.update_status(fresh)
            except ApiError as error:
                if not (error.is_not_found or error.is_conflict):
                    raise
                continue
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def build(context: runtime.Context) -> NodeLifecycleController:
    return NodeLifecycleController(context)
