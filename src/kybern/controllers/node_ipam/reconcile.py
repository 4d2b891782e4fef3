"""Write `spec.podCIDR` of nodes that have none.

Woken by nodes. One worker: what was given is seen by the next turn, because writes are read back at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from kybern.api.core_v1 import Node
from kybern.controllers import runtime
from kybern.controllers.node_ipam import plan

NAME = "node-ipam-controller"
Texts = tuple[str, ...]


class NodeIpamController:
    """runtime.Controller; keys are names of nodes."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder("cidrAllocator")
        settings = context.settings
        ranges = plan.parse_ranges(settings.cluster_cidr) if settings.allocate_node_cidrs else []
        self._pools = [plan.Pool(found, plan.mask_for(found, settings.node_cidr_mask_size)) for found in ranges]
        for reserved in plan.parse_ranges(settings.service_cidr):
            for pool in self._pools:
                pool.take(reserved)
        self._counted: dict[str, Texts] = {}  # node -> the ranges it has, as the pools know
        self._nodes = context.informers.of(Node)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        self.loops = (self.loop,)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if not self._pools:
            return
        if new is not None:
            self._count(new.metadata.name, _ranges_of(new))
            if not new.spec.podCIDRs and not new.metadata.deletionTimestamp:
                self.loop.queue.add(new.metadata.name)
        elif old is not None:
            self._count(old.metadata.name, ())

    def _count(self, name: str, texts: Texts) -> None:
        """Tell the pools what a node has now."""
        known = self._counted.get(name, ())
        if known == texts:
            return
        for pool in self._pools:
            for network in _parsed(texts):
                pool.take(network)
            for network in _parsed(known):
                pool.release(network)
        if texts:
            self._counted[name] = texts
        else:
            del self._counted[name]

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        node = self._nodes.by_key(key)
        if node is None or _ranges_of(node):
            return None
        chosen = []
        for pool in self._pools:
            found = pool.free()
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


def _ranges_of(node: Node) -> Texts:
    return tuple(node.spec.podCIDRs or ([node.spec.podCIDR] if node.spec.podCIDR else []))


def _parsed(texts: Texts) -> Iterator[plan.Network]:
    """What is not a range (somebody else wrote it) is left out."""
    for text in texts:
        try:
            yield ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue


def build(context: runtime.Context) -> NodeIpamController:
    return NodeIpamController(context)
