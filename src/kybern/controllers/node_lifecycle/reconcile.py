"""Watch over nodes: mark the silent ones, keep taints, tell pods of lost nodes that they are not ready.

Woken by nodes and by itself: when a node would have been silent for too long, or, while it is not ready, every
`node_monitor_period`. A sign of life is a change of the node's lease or of its Ready heartbeat, noted when it comes;
the clocks of nodes are never compared with ours. With thousands of nodes a renewed lease costs a dictionary's entry.
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
LEASES = "kube-node-lease"
ZONES_FOR = 1.0  # seconds that the states of zones hold: counting them is work, and many nodes may ask


class NodeLifecycleController:
    """runtime.Controller; keys are names of nodes."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder("node-controller")
        self._nodes = context.informers.of(Node)
        self._leases = context.informers.of(Lease, namespace=LEASES)
        self._pods = context.informers.of(Pod)
        self._pods.add_index(INDEX, lambda pod: (pod.spec.nodeName or "",))
        self._heard: dict[str, plan.Heard] = {}
        self._next_eviction: dict[str, float] = {}  # zone -> monotonic
        self._zones = plan.Zones()
        self._zones_at = float("-inf")  # monotonic: when they were counted
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        self.loops = (self.loop,)
        self._nodes.on_change(self._node_changed)
        self._leases.on_change(self._lease_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            self._note(new)
            self.loop.queue.add(new.metadata.name)
        elif old is not None:
            self._heard.pop(old.metadata.name, None)

    def _lease_changed(self, old: Lease | None, new: Lease | None) -> None:
        node = self._nodes.by_key(new.metadata.name) if new is not None else None
        if node is not None:
            self._note(node)

    def _note(self, node: Node) -> plan.Heard:
        """The last sign of life, which may be one that came just now."""
        name = node.metadata.name
        lease = self._leases.get(LEASES, name)
        ready = plan.condition_of(node, "Ready")
        renewed = lease.spec.renewTime if lease is not None else None
        beat = ready.lastHeartbeatTime if ready is not None else None
        sign = (renewed or "", beat or "")
        heard = self._heard.get(name)
        if heard is None or heard.sign != sign:
            heard = self._heard[name] = plan.Heard(sign, self._context.clock.monotonic())
        return heard

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        node = self._nodes.by_key(key)
        if node is None:
            return None
        settings = self._context.settings
        now = self._context.clock.now()
        silence = self._context.clock.monotonic() - self._note(node).at
        conditions = plan.plan_conditions(node, silence, settings, now)
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
        return runtime.RequeueAfter(plan.next_look(node, silence, settings))

    def _take_turn(self, node: Node) -> bool:
        """Whether this node may be tainted NoExecute now; if so, the next of its zone has to wait."""
        zone = plan.zone_of(node)
        now = self._context.clock.monotonic()
        if now < self._next_eviction.get(zone, 0.0):
            return False
        if now - self._zones_at >= ZONES_FOR:
            self._zones, self._zones_at = plan.count_zones(self._nodes.list(), self._context.settings), now
        rate = plan.eviction_rate(zone, self._zones, self._context.settings)
        if rate <= 0:
            return False
        self._next_eviction[zone] = now + 1 / rate
        return True

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
