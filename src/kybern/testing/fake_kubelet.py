"""A node without containers: says it is ready, "runs" the pods bound to it, and lets go of deleted ones.

Works through a RestClient, so against FakeApi as well as a real API server. Pods become ready after `start_delay`;
one annotated `test.kybern/exit` ends with that code after `run_time`; `test.kybern/unready` never gets ready.
With `binds` it is a scheduler too, one that puts every pod on this node.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from kybern.api import codec, scalars
from kybern.api.coordination_v1 import Lease, LeaseSpec
from kybern.api.core_v1 import (
    Binding,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    Node,
    NodeAddress,
    NodeCondition,
    ObjectReference,
    Pod,
    PodCondition,
    PodIP,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.informer import Informers
from kybern.client.rest import RestClient
from kybern.client.workqueue import WorkQueue
from kybern.controllers import pods
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

EXIT = "test.kybern/exit"
UNREADY = "test.kybern/unready"


def exit_by_annotation(pod: Pod) -> int | None:
    """The code a pod ends with; None for one that runs on."""
    text = pod.metadata.annotations.get(EXIT)
    return int(text) if text is not None else None


def is_ready_by_annotation(pod: Pod) -> bool:
    return UNREADY not in pod.metadata.annotations


@dataclass(frozen=True, slots=True)
class Habits:
    """How the node behaves; seconds."""

    start_delay: float = 0.5
    run_time: float = 1.0
    stop_delay: float = 0.5
    heartbeat: float = 10.0
    binds: bool = True
    exit_code: Callable[[Pod], int | None] = exit_by_annotation
    gets_ready: Callable[[Pod], bool] = is_ready_by_annotation


class FakeKubelet:
    """One node."""

    def __init__(self, client: RestClient, clock: Clock, name: str = "fake", habits: Habits | None = None) -> None:
        self.name = name
        self.habits = habits or Habits()
        self.alive = True  # set to False: heartbeats and all work stop
        self._client = client
        self._clock = clock
        self._informers = Informers(client, clock, random.Random(5))
        self._pods = self._informers.of(Pod)
        self._queue = WorkQueue(clock)
        self._addresses: dict[str, str] = {}

    async def run(self) -> None:
        await self._register()
        self._pods.on_change(
            lambda old, new: self._queue.add(f"{new.metadata.namespace}/{new.metadata.name}") if new else None
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._informers.run())
            tasks.create_task(self._queue.run())
            tasks.create_task(self._beat())
            for _ in range(4):
                tasks.create_task(self._work())

    async def _register(self) -> None:
        node = Node(
            metadata=ObjectMeta(
                name=self.name, labels={"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux"}
            )
        )
        try:
            await self._client.create(node)
        except ApiError as error:
            if not error.is_already_exists:
                raise

    async def _beat(self) -> None:
        while True:
            if self.alive:
                now = self._clock.now()
                await self._ready(now.replace(microsecond=0).isoformat().replace("+00:00", "Z"))
                await self._renew()
            await self._clock.sleep(self.habits.heartbeat)

    async def _ready(self, stamp: str) -> None:
        try:
            node = await self._client.get(Node, "", self.name)
        except ApiError:
            return
        time = scalars.Time(stamp)
        old = next((c for c in node.status.conditions if c.type == "Ready"), None)
        since = old.lastTransitionTime if old is not None and old.status == "True" else time
        if old is not None and old.status == "True" and node.status.allocatable:
            return
        node.status.conditions = [
            NodeCondition(
                type="Ready", status="True", reason="KubeletReady", lastHeartbeatTime=time, lastTransitionTime=since
            )
        ]
        node.status.addresses = [NodeAddress(type="InternalIP", address="10.250.0.9")]
        amounts = {name: scalars.Quantity(text) for name, text in (("cpu", "64"), ("memory", "64Gi"), ("pods", "500"))}
        node.status.capacity, node.status.allocatable = amounts, dict(amounts)
        await self._try(node)

    async def _try(self, node: Node) -> None:
        try:
            await self._client.update(node, subresource="status")
        except ApiError as error:
            if not error.is_conflict:
                raise
            self._queue.add("")  # the next heartbeat tries again

    async def _renew(self) -> None:
        stamp = scalars.render_micro_time(self._clock.now())
        spec = LeaseSpec(holderIdentity=self.name, leaseDurationSeconds=40, renewTime=stamp)
        lease = Lease(metadata=ObjectMeta(name=self.name, namespace="kube-node-lease"), spec=spec)
        try:
            stored = await self._client.get(Lease, "kube-node-lease", self.name)
            stored.spec = spec
            await self._client.update(stored)
        except ApiError as error:
            if error.is_not_found:
                await self._client.create(lease)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                if key and self.alive:
                    await self._sync(key)
            except ApiError as error:
                if not error.is_not_found:
                    self._queue.add_after(key, 0.2)
            finally:
                self._queue.done(key)

    async def _sync(self, key: str) -> None:
        pod = self._pods.by_key(key)
        if pod is None:
            return
        if not pod.spec.nodeName and self.habits.binds and pod.metadata.deletionTimestamp is None:
            target = ObjectReference(kind="Node", name=self.name)
            binding = Binding(
                metadata=ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace), target=target
            )
            await self._client.create(binding, subresource="binding", name=pod.metadata.name)
            return
        if pod.spec.nodeName != self.name:
            return
        if pod.metadata.deletionTimestamp is not None:
            await self._stop(pod)
        elif pod.status.phase in (None, "Pending"):
            await self._start(pod)
        elif pod.status.phase == "Running" and (code := self.habits.exit_code(pod)) is not None:
            await self._clock.sleep(self.habits.run_time)
            await self._report(pod, "Succeeded" if code == 0 else "Failed", code)

    async def _start(self, pod: Pod) -> None:
        await self._clock.sleep(self.habits.start_delay)
        await self._report(pod, "Running", None)

    async def _stop(self, pod: Pod) -> None:
        await self._clock.sleep(self.habits.stop_delay)
        if not pods.is_finished(pod):
            await self._report(pod, "Failed", 143)  # 128 + SIGTERM
        await self._client.delete(Pod, pod.metadata.namespace, pod.metadata.name, uid=pod.metadata.uid, grace_period=0)

    async def _report(self, pod: Pod, phase: str, code: int | None) -> None:
        current = await self._client.get(Pod, pod.metadata.namespace, pod.metadata.name)
        if current.metadata.uid != pod.metadata.uid:
            return
        fresh = codec.clone(current)
        stamp = scalars.render_time(self._clock.now())
        ready = phase == "Running" and self.habits.gets_ready(pod)
        fresh.status.phase = phase
        fresh.status.startTime = fresh.status.startTime or stamp
        address = self._addresses.setdefault(
            pod.metadata.uid, f"10.244.{len(self._addresses) // 250}.{len(self._addresses) % 250 + 2}"
        )
        fresh.status.podIP, fresh.status.podIPs, fresh.status.hostIP = address, [PodIP(ip=address)], "10.250.0.9"
        value = "True" if ready else "False"
        others = [c for c in fresh.status.conditions if c.type not in ("Ready", "ContainersReady", "Initialized")]
        fresh.status.conditions = [
            *others,
            PodCondition(type="Initialized", status="True", lastTransitionTime=stamp),
            PodCondition(type="ContainersReady", status=value, lastTransitionTime=stamp),
            PodCondition(type="Ready", status=value, lastTransitionTime=stamp),
        ]
        state = ContainerState(running=ContainerStateRunning(startedAt=stamp))
        if code is not None:
            ended = ContainerStateTerminated(
                exitCode=code, reason="Completed" if code == 0 else "Error", finishedAt=stamp
            )
            state = ContainerState(terminated=ended)
        fresh.status.containerStatuses = [
            ContainerStatus(name=c.name, image=c.image or "", ready=ready, started=ready, state=state)
            for c in pod.spec.containers
        ]
        await self._client.update(fresh, subresource="status")
