"""Write `spec.podCIDR` of nodes that have none.

Woken by nodes. One worker: what was given is seen by the next turn, because writes are read back at once.
"""

from __future__ import annotations

import ipaddress

from kybern.api.core_v1 import Node
from kybern.controllers import runtime
from kybern.controllers.node_ipam import plan

NAME = "node-ipam-controller"


class NodeIpamController:
    """runtime.Controller; keys are names of nodes."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder("cidrAllocator")
        settings = context.settings
        self._ranges = plan.parse_ranges(settings.cluster_cidr) if settings.allocate_node_cidrs else []
        self._reserved = plan.parse_ranges(settings.service_cidr)
        self._nodes = context.informers.of(Node)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        self.loops = (self.loop,)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None and not new.spec.podCIDRs and not new.metadata.deletionTimestamp:
            self.loop.queue.add(new.metadata.name)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        node = self._nodes.by_key(key)
        if node is None or node.spec.podCIDRs or node.spec.podCIDR or not self._ranges:
            return None
        taken = list(self._reserved)
        for other in self._nodes.list():
            for text in other.spec.podCIDRs or ([other.spec.podCIDR] if other.spec.podCIDR else []):
                try:
                    taken.append(ipaddress.ip_network(text, strict=False))
                except ValueError:
                    continue
        chosen = []
        for cluster in self._ranges:
            mask = plan.mask_for(cluster, self._context.settings.node_cidr_mask_size)
            found = plan.free_range(cluster, mask, taken)
            if found is None:
                message = f"Node {key} status is now: CIDRNotAvailable"
                self._recorder.event(node, "Normal", "CIDRNotAvailable", message)
                return runtime.RequeueAfter(30.0)
            chosen.append(str(found))
        patch = {
            "metadata": {"resourceVersion": node.metadata.resourceVersion},
            "spec": {"podCIDR": chosen[0], "podCIDRs": chosen},
        }
        await self._context.patch(Node, "", key, patch)
        return None


def build(context: runtime.Context) -> NodeIpamController:
    return NodeIpamController(context)
