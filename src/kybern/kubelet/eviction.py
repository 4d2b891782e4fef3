"""Pressure on the node: told in its conditions, and relieved at the cost of a pod.

Run by kubelet every ten seconds. One pod is evicted a pass, the one that uses most beyond what it asked for. Pods
that use more local storage than they said they would are evicted whatever the node has left.
Source: "Node-pressure Eviction" and "Local ephemeral storage" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from kybern.api.core_v1 import Pod, PodCondition
from kybern.kubelet import podkeys, resources
from kybern.kubelet.cri.contract import ContainerUsage, Cri, CriError
from kybern.kubelet.cri.labels import CONTAINER_NAME, POD_UID
from kybern.kubelet.image_collection import ImageCollection
from kybern.kubelet.metrics import Metrics
from kybern.kubelet.node import machine
from kybern.kubelet.node.status import Health
from kybern.kubelet.status.generate import Verdict
from kybern.machinery import quantity
from kybern.machinery.clock import Clock

PERIOD = 10.0
TRANSITION = 300.0  # a condition stays so long after the pressure is gone
GRACE = 1  # seconds an evicted pod has: the node needs its room now

_SIGNALS = {"memory": "memory.available", "ephemeral-storage": "nodefs.available", "inodes": "nodefs.inodesFree"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What must stay free: bytes of memory, parts of the disk and of its inodes."""

    memory: int = 100 << 20
    disk: float = 0.10
    inodes: float = 0.05


DEFAULT = Thresholds()


@dataclass(frozen=True, slots=True)
class Room:
    """What is free now."""

    memory: int
    memory_capacity: int
    disk: int
    disk_capacity: int
    inodes: int
    inode_capacity: int


@dataclass(frozen=True, slots=True)
class PodUse:
    """What a pod uses, in bytes; by container and by emptyDir volume."""

    memory: Mapping[str, int] = field(default_factory=dict)
    disk: Mapping[str, int] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_memory(self) -> int:
        return sum(self.memory.values())

    @property
    def total_disk(self) -> int:
        return sum(self.disk.values()) + sum(self.volumes.values())


def lacking(room: Room, thresholds: Thresholds) -> tuple[str, ...]:
    """Which of memory, ephemeral-storage and inodes are below their thresholds."""
    found = []
    if room.memory < thresholds.memory:
        found.append("memory")
    if room.disk_capacity and room.disk < room.disk_capacity * thresholds.disk:
        found.append("ephemeral-storage")
    if room.inode_capacity and room.inodes < room.inode_capacity * thresholds.inodes:
        found.append("inodes")
    return tuple(found)


def rank(pods: Sequence[Pod], use: Mapping[str, PodUse], resource: str) -> list[Pod]:
    """Whom to evict first: who exceeds its request, then the least important, then who exceeds it most."""

    def key(pod: Pod) -> tuple[bool, int, int]:
        used = use.get(pod.metadata.uid, PodUse())
        amount = used.total_memory if resource == "memory" else used.total_disk
        name = "memory" if resource == "memory" else "ephemeral-storage"
        asked = quantity.value(resources.pod_requests(pod).get(name, "0"))
        return (amount <= asked, pod.spec.priority or 0, asked - amount)

    return sorted((pod for pod in pods if not podkeys.is_critical(pod)), key=key)


def plan_storage_limits(pod: Pod, use: PodUse) -> str:
    """Why a pod must go for its local storage; "" when it keeps within what it said."""
    for volume in pod.spec.volumes:
        limit = volume.emptyDir.sizeLimit if volume.emptyDir else None
        in_memory = volume.emptyDir is not None and volume.emptyDir.medium == "Memory"
        if limit and not in_memory and use.volumes.get(volume.name, 0) > quantity.value(limit) > 0:
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
    total = resources.pod_limits_of(pod, "ephemeral-storage")
    if total is not None and use.total_disk > quantity.value(total):
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    for container in [*pod.spec.initContainers, *pod.spec.containers]:
        limit = container.resources.limits.get("ephemeral-storage")
        if limit and use.disk.get(container.name, 0) > quantity.value(limit):
            return f'Container {container.name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def evicted(message: str) -> Verdict:
    return Verdict(
        "Evicted",
        message,
        PodCondition(type="DisruptionTarget", status="True", reason="TerminationByKubelet", message=message),
        GRACE,
    )


class Eviction:
    """The node's pressure. `health` is what its conditions say."""

    def __init__(
        self,
        cri: Cri,
        clock: Clock,
        root: Path,
        images: ImageCollection,
        pods: Callable[[], Sequence[Pod]],
        end: Callable[[str, Verdict], None],
        metrics: Metrics,
        thresholds: Thresholds = DEFAULT,
        room: Callable[[Path], Room] | None = None,
    ) -> None:
        """`pods`: running ones; `end`: by uid. `room` measures (of tests)."""
        self._cri = cri
        self._clock = clock
        self._root = root
        self._images = images
        self._pods = pods
        self._end = end
        self._thresholds = thresholds
        self._metrics = metrics
        self._room = room or measure
        self._pressed_until: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            try:
                await self.check()
            except (CriError, OSError) as error:
                log.warning("could not look for pressure", error=str(error))

    def health(self) -> Health:
        pressure = self.pressure()
        return Health(
            memory="kubelet has insufficient memory available" if "MemoryPressure" in pressure else "",
            disk="kubelet has disk pressure" if "DiskPressure" in pressure else "",
        )

    def pressure(self) -> tuple[str, ...]:
        """Conditions that hold."""
        now = self._clock.monotonic()
        return tuple(name for name, until in self._pressed_until.items() if now < until)

    async def check(self) -> None:
        """One pass. Raises CriError, OSError."""
        room = await asyncio.to_thread(self._room, self._root)
        short = lacking(room, self._thresholds)
        until = self._clock.monotonic() + TRANSITION
        for name in short:
            self._pressed_until["MemoryPressure" if name == "memory" else "DiskPressure"] = until
        pods = self._pods()
        if not pods:
            return
        use = gather(pods, await self._cri.container_usage())
        use = await asyncio.to_thread(add_volumes, use, pods, self._root)
        for pod in pods:
            why = plan_storage_limits(pod, use.get(pod.metadata.uid, PodUse()))
            if why and not podkeys.is_critical(pod):
                self._metrics.count_eviction("ephemeralpodfs.limit")
                self._end(pod.metadata.uid, evicted(why))
        if short and not await self._is_relieved_by_images(short):
            self._evict_one(pods, use, short[0], room)

    async def _is_relieved_by_images(self, short: tuple[str, ...]) -> bool:
        if short[0] == "memory" or await self._images.collect(everything=True) == 0:
            return False
        room = await asyncio.to_thread(self._room, self._root)
        return not lacking(room, self._thresholds)

    def _evict_one(self, pods: Sequence[Pod], use: Mapping[str, PodUse], resource: str, room: Room) -> None:
        ranked = rank(pods, use, resource)
        if not ranked:
            log.warning("the node is under pressure, and no pod can be evicted", resource=resource)
            return
        available = {"memory": room.memory, "ephemeral-storage": room.disk, "inodes": room.inodes}[resource]
        message = f"The node was low on resource: {resource}. Available: {_amount(available)}. "
        used = use.get(ranked[0].metadata.uid, PodUse())
        by_container = used.memory if resource == "memory" else used.disk
        name = "memory" if resource == "memory" else "ephemeral-storage"
        for container in ranked[0].spec.containers:
            amount = by_container.get(container.name, 0)
            asked = container.resources.requests.get(name, "0")
            if amount > quantity.value(asked):
                message += (
                    f"Container {container.name} was using {_amount(amount)}, request is {asked}, "
                    f"has larger consumption of {name}. "
                )
        self._metrics.count_eviction(_SIGNALS[resource])
        self._end(ranked[0].metadata.uid, evicted(message))


def _amount(value: int) -> str:
    return f"{value >> 10}Ki"


def measure(root: Path) -> Room:
    """Blocking."""
    meminfo = Path("/proc/meminfo").read_text()
    facts = os.statvfs(root)
    return Room(
        memory=machine.available_memory(meminfo),
        memory_capacity=machine.parse_memory(meminfo),
        disk=facts.f_bavail * facts.f_frsize,
        disk_capacity=facts.f_blocks * facts.f_frsize,
        inodes=facts.f_favail,
        inode_capacity=facts.f_files,
    )


def gather(pods: Iterable[Pod], usage: Iterable[ContainerUsage]) -> dict[str, PodUse]:
    """What containers use, by pod uid."""
    known = {pod.metadata.uid for pod in pods}
    memory: dict[str, dict[str, int]] = {}
    disk: dict[str, dict[str, int]] = {}
    for item in usage:
        uid, name = item.labels.get(POD_UID, ""), item.labels.get(CONTAINER_NAME, item.name)
        if uid in known:
            memory.setdefault(uid, {})[name] = item.working_set
            disk.setdefault(uid, {})[name] = item.layer_bytes
    return {uid: PodUse(memory.get(uid, {}), disk.get(uid, {})) for uid in known}


def add_volumes(use: Mapping[str, PodUse], pods: Iterable[Pod], root: Path) -> dict[str, PodUse]:
    """With the emptyDir volumes on disk. Blocking."""
    result = dict(use)
    for pod in pods:
        sizes = {}
        for volume in pod.spec.volumes:
            if volume.emptyDir is not None and not volume.emptyDir.medium:
                where = root / "pods" / pod.metadata.uid / "volumes" / "kubernetes.io~empty-dir" / volume.name
                sizes[volume.name] = directory_size(where)
        known = result.get(pod.metadata.uid, PodUse())
        result[pod.metadata.uid] = PodUse(known.memory, known.disk, sizes)
    return result


def directory_size(where: Path) -> int:
    """Bytes on disk of all files below, each counted once. What vanishes meanwhile is left out."""
    total, counted = 0, set()
    for directory, _, names in os.walk(where):
        for name in names:
            try:
                facts = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if (facts.st_dev, facts.st_ino) not in counted:
                counted.add((facts.st_dev, facts.st_ino))
                total += facts.st_blocks * 512
    return total
