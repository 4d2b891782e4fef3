"""Write `spec.podCIDR` of nodes that have none.

Woken by nodes. A range is counted as given before it is written, so that many nodes that come together need not wait
for each other's writes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from kybern.api.core_v1 import Node
from kybern.controllers import runtime
from kybern.controllers.node_ipam import plan

NAME = "node-ipam-controller"
WORKERS = 16  # kube-controller-manager: 30
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
        self._giving: set[str] = set()  # nodes whose ranges are being written
        self._nodes = context.informers.of(Node)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=WORKERS)
        self.loops = (self.loop,)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if not self._pools:
            return
        if new is not None:
            ranges = _ranges_of(new)
            if ranges or new.metadata.name not in self._giving:
                self._count(new.metadata.name, ranges)
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
        self._giving.add(key)
        self._count(key, tuple(chosen))
        try:
            await self._context.patch(Node, "", key, patch)
        finally:
            self._giving.discard(key)
            known = self._nodes.by_key(key)  # with the ranges, unless the write failed
            self._count(key, _ranges_of(known) if known is not None else ())
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
