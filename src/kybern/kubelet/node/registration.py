"""Keep the Node object true: register it, report its status, renew its lease.

Run by kubelet. The status is computed every 10 s and sent when it changed, at the latest every 5 minutes; the lease
is the heartbeat. Source: "Nodes: heartbeats" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from kybern.api import codec, scalars
from kybern.api.coordination_v1 import Lease, LeaseSpec
from kybern.api.core_v1 import Node, NodeCondition, NodeStatus
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.client.rest import RestClient
from kybern.kubelet import waiting
from kybern.kubelet.node import status
from kybern.kubelet.node.machine import Machine
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

STATUS_PERIOD = 10.0
REPORT_PERIOD = 300.0
LEASE_SECONDS = 40
LEASE_NAMESPACE = "kube-node-lease"
LONGEST_PAUSE = 7.0

StatusSource = Callable[[list[NodeCondition]], Awaitable[NodeStatus]]
log = structlog.get_logger(__name__)


class Registration:
    """The Node object of this machine."""

    def __init__(
        self,
        client: RestClient,
        clock: Clock,
        identity: status.Identity,
        machine: Machine,
        source: StatusSource,
        observe: Callable[[Node], None],
        *,
        period: float = STATUS_PERIOD,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._identity = identity
        self._machine = machine
        self._source = source
        self._observe = observe
        self._period = period
        self._lease_seconds = lease_seconds
        self._soon = asyncio.Event()
        self._registered = asyncio.Event()
        self._last_sent = float("-inf")
        self.node: Node | None = None

    def report_soon(self) -> None:
        """Something changed that people wait for (the network became ready)."""
        self._soon.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_status(), name="node status")
            tasks.create_task(self._run_lease(), name="node lease")

    # Registration and status.

    async def _run_status(self) -> None:
        await self._register()
        self._registered.set()
        while True:
            try:
                await self._report()
                pause = self._period
            except ApiError as error:
                log.warning("could not report the node's status", error=str(error))
                if error.is_not_found:
                    await self._register()  # somebody deleted the Node
                pause = 1.0
            if await waiting.wait_for(self._soon, pause, self._clock):
                self._soon.clear()

    async def _register(self) -> None:
        pause = 0.1
        while True:
            try:
                self.node = await self._register_once()
                log.info("registered the node", node=self._identity.name)
                return
            except ApiError as error:
                log.warning("could not register the node", node=self._identity.name, error=str(error))
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _register_once(self) -> Node:
        """The Node as the server has it, with our labels. Raises ApiError."""
        name = self._identity.name
        wanted = status.new_node(self._identity, self._machine, await self._source([]))
        try:
            return await self._client.create(wanted)
        except ApiError as error:
            if not error.is_already_exists:
                raise
        known = await self._client.get(Node, "", name)
        missing = {k: v for k, v in wanted.metadata.labels.items() if known.metadata.labels.get(k) != v}
        if missing:
            known = await self._client.patch(Node, "", name, {"metadata": {"labels": missing}})
        return known

    async def _report(self) -> None:
        assert self.node is not None
        old = self.node.status
        new = await self._source(old.conditions)
        now = self._clock.monotonic()
        if status.is_same(old, new) and now - self._last_sent < REPORT_PERIOD:
            return
        patch = _patch(old, new)
        self.node = await self._client.patch(
            Node,
            "",
            self._identity.name,
            {"status": patch},
            patch_type="application/strategic-merge-patch+json",
            subresource="status",
        )
        self._last_sent = now
        self._observe(self.node)

    # The lease.

    async def _run_lease(self) -> None:
        await self._registered.wait()
        lease: Lease | None = None
        while True:
            try:
                lease = await self._renew(lease)
                pause = self._lease_seconds / 4
            except ApiError as error:
                log.warning("could not renew the node's lease", error=str(error))
                lease = None
                pause = 1.0
            await self._clock.sleep(pause)

    async def _renew(self, lease: Lease | None) -> Lease:
        assert self.node is not None
        name = self._identity.name
        now = scalars.render_micro_time(self._clock.now())
        owner = OwnerReference(apiVersion="v1", kind="Node", name=name, uid=self.node.metadata.uid)
        if lease is None:
            try:
                lease = await self._client.get(Lease, LEASE_NAMESPACE, name)
            except ApiError as error:
                if not error.is_not_found:
                    raise
                return await self._client.create(
                    Lease(
                        metadata=ObjectMeta(name=name, namespace=LEASE_NAMESPACE, ownerReferences=[owner]),
                        spec=LeaseSpec(holderIdentity=name, leaseDurationSeconds=self._lease_seconds, renewTime=now),
                    )
                )
        fresh = codec.clone(lease)
        fresh.spec.holderIdentity, fresh.spec.renewTime = name, now
        fresh.spec.leaseDurationSeconds = self._lease_seconds
        if not fresh.metadata.ownerReferences:
            fresh.metadata.ownerReferences = [owner]
        return await self._client.update(fresh)


def _patch(old: NodeStatus, new: NodeStatus) -> dict[str, Any]:
    """The strategic merge patch from one to the other; conditions and addresses merge by type."""
    before, after = codec.to_json(old), codec.to_json(new)
    patch: dict[str, Any] = {}
    for name, value in after.items():
        if name in ("conditions", "addresses"):
            continue
        if before.get(name) != value:
            patch[name] = value
    for name in ("capacity", "allocatable"):
        gone = [key for key in before.get(name, {}) if key not in after.get(name, {}) and "/" not in key]
        if gone and name in patch:
            patch[name] = {**patch[name], **dict.fromkeys(gone)}
    patch["conditions"] = after.get("conditions", [])
    if before.get("addresses") != after.get("addresses"):
        patch["addresses"] = [*after.get("addresses", []), {"$patch": "replace"}]
    return patch
