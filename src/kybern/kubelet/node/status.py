"""The Node object: what the kubelet says of its machine, as data.

Pure. Used by registration. Source: "Node status" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kybern.api.core_v1 import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeFeatures,
    NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Taint,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity, Time
from kybern.kubelet.cri import contract
from kybern.kubelet.node.machine import Machine
from kybern.machinery import quantity

MAX_IMAGES = 50
MAX_IMAGE_NAMES = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the node is."""

    name: str
    addresses: tuple[str, ...]
    port: int
    kubelet_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    provider_id: str = ""
    is_schedulable: bool = True


@dataclass(frozen=True, slots=True)
class Reserve:
    """What pods do not get."""

    system: Mapping[str, str] = field(default_factory=dict)
    kube: Mapping[str, str] = field(default_factory=dict)
    memory_eviction: int = 100 << 20
    disk_eviction: float = 0.10  # of the capacity
    max_pods: int = 110


@dataclass(frozen=True, slots=True)
class Health:
    """What conditions are made of. "" means fine."""

    not_ready: tuple[str, ...] = ()
    memory: str = ""
    disk: str = ""
    pids: str = ""


def capacity(machine: Machine, reserve: Reserve) -> dict[str, Quantity]:
    amounts = {
        "cpu": quantity.from_value(machine.cpus),
        "memory": quantity.from_value(machine.memory >> 10 << 10, binary=True),
        "ephemeral-storage": quantity.from_value(machine.disk >> 10 << 10, binary=True),
        "pods": quantity.from_value(reserve.max_pods),
    }
    amounts.update({f"hugepages-{size}": quantity.ZERO for size in machine.hugepages})
    return amounts


def allocatable(machine: Machine, reserve: Reserve) -> dict[str, Quantity]:
    amounts = capacity(machine, reserve)
    for held in (reserve.system, reserve.kube):
        for name, amount in held.items():
            if name in amounts:
                amounts[name] = quantity.sub(amounts[name], amount)
    amounts["memory"] = quantity.sub(amounts["memory"], f"{reserve.memory_eviction >> 10}Ki")
    disk = quantity.value(amounts["ephemeral-storage"]) - int(machine.disk * reserve.disk_eviction)
    amounts["ephemeral-storage"] = quantity.from_value(max(0, disk))
    return amounts


def system_labels(identity: Identity, machine: Machine) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": identity.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
        **identity.labels,
    }


def new_node(identity: Identity, machine: Machine, status: NodeStatus) -> Node:
    """What a node that registers for the first time sends."""
    return Node(
        metadata=ObjectMeta(
            name=identity.name,
            labels=system_labels(identity, machine),
            annotations={"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        ),
        spec=NodeSpec(
            taints=list(identity.taints),
            providerID=identity.provider_id or None,
            unschedulable=None if identity.is_schedulable else True,
        ),
        status=status,
    )


def node_status(
    identity: Identity,
    machine: Machine,
    reserve: Reserve,
    runtime: contract.Version | None,
    runtime_status: contract.RuntimeStatus,
    images: Sequence[contract.Image],
    conditions: list[NodeCondition],
) -> NodeStatus:
    return NodeStatus(
        addresses=[
            *(NodeAddress(type="InternalIP", address=a) for a in identity.addresses),
            NodeAddress(type="Hostname", address=identity.name),
        ],
        capacity=capacity(machine, reserve),
        allocatable=allocatable(machine, reserve),
        conditions=conditions,
        daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=identity.port)),
        nodeInfo=NodeSystemInfo(
            architecture=machine.architecture,
            bootID=machine.boot_id,
            containerRuntimeVersion=f"{runtime.name}://{runtime.version}" if runtime else "",
            kernelVersion=machine.kernel,
            kubeletVersion=identity.kubelet_version,
            machineID=machine.machine_id,
            operatingSystem="linux",
            osImage=machine.os_image,
            systemUUID=machine.system_uuid,
        ),
        images=_images(images),
        runtimeHandlers=[
            NodeRuntimeHandler(
                name=handler.name or None,
                features=NodeRuntimeHandlerFeatures(
                    recursiveReadOnlyMounts=handler.recursive_read_only, userNamespaces=handler.user_namespaces
                ),
            )
            for handler in runtime_status.handlers
        ],
        features=NodeFeatures(supplementalGroupsPolicy=False),
    )


def _images(images: Sequence[contract.Image]) -> list[ContainerImage]:
    chosen = sorted(images, key=lambda i: (-i.size, i.id))[:MAX_IMAGES]
    return [
        ContainerImage(names=[*image.digests, *image.tags][:MAX_IMAGE_NAMES], sizeBytes=image.size) for image in chosen
    ]


def conditions(health: Health, old: Sequence[NodeCondition], now: Time) -> list[NodeCondition]:
    """In upstream's order; lastTransitionTime changes with the status only."""
    fresh = [
        _pressure(
            "MemoryPressure", health.memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        _pressure(
            "DiskPressure", health.disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        _pressure(
            "PIDPressure", health.pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        NodeCondition(type="Ready", status="False", reason="KubeletNotReady", message=_joined(health.not_ready))
        if health.not_ready
        else NodeCondition(
            type="Ready", status="True", reason="KubeletReady", message="kubelet is posting ready status"
        ),
    ]  # fmt: skip
    before = {c.type: c for c in old}
    for condition in fresh:
        known = before.get(condition.type)
        condition.lastHeartbeatTime = now
        same = known is not None and known.status == condition.status and known.lastTransitionTime
        condition.lastTransitionTime = known.lastTransitionTime if known is not None and same else now
    return fresh


def _joined(problems: Sequence[str]) -> str:
    return problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"


def _pressure(kind: str, problem: str, bad: str, good: str, fine: str) -> NodeCondition:
    if problem:
        return NodeCondition(type=kind, status="True", reason=bad, message=problem)
    return NodeCondition(type=kind, status="False", reason=good, message=fine)


def is_same(old: NodeStatus, new: NodeStatus) -> bool:
    """Does `new` say nothing but "still there"?"""
    if (
        old.addresses != new.addresses
        or old.capacity != new.capacity
        or old.allocatable != new.allocatable
        or old.nodeInfo != new.nodeInfo
        or old.daemonEndpoints != new.daemonEndpoints
        or old.images != new.images
        or old.runtimeHandlers != new.runtimeHandlers
        or old.volumesInUse != new.volumesInUse
    ):
        return False
    before = {c.type: (c.status, c.reason, c.message) for c in old.conditions}
    return all(before.get(c.type) == (c.status, c.reason, c.message) for c in new.conditions)
