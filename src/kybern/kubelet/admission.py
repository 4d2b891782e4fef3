"""May a pod run on this node? Asked once, when the node first sees it.

Pure. Called by pod_workers; a Rejected pod becomes Failed with the reason. The scheduler has asked the same
questions before; this is for pods that came another way, or whose node has changed since.
Source: "Pod Admission" of the kubelet in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kybern.api.core_v1 import Node, Pod, Taint, Toleration
from kybern.kubelet import podkeys, resources, security
from kybern.kubelet.failures import Rejected
from kybern.machinery import node_selectors, quantity


@dataclass(frozen=True, slots=True)
class Room:
    """What the node has, and what its other pods take."""

    node: Node | None
    allocatable: Mapping[str, str]
    others: Sequence[Pod]  # admitted, and not ended
    allowed_sysctls: tuple[str, ...] = ()
    pressure: tuple[str, ...] = ()  # MemoryPressure, DiskPressure


def admit(pod: Pod, room: Room) -> None:
    """Raises Rejected."""
    problem = security.forbidden_sysctl(pod, room.allowed_sysctls)
    if problem:
        raise Rejected("SysctlForbidden", problem)
    if pod.spec.os is not None and pod.spec.os.name not in ("", "linux"):
        raise Rejected(
            "PodOSNotSupported", f"Failed to admit pod as the OS field doesn't match node OS: {pod.spec.os.name}"
        )
    _check_pressure(pod, room)
    _check_resources(pod, room)
    if room.node is None:
        return
    if not node_selectors.admits(pod.spec, room.node):
        raise Rejected(
            "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        )
    if _host_ports(pod) & {port for other in room.others for port in _host_ports(other)}:
        raise Rejected(
            "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        )
    if not podkeys.is_static(pod):
        _check_taints(pod, room.node)


def _check_pressure(pod: Pod, room: Room) -> None:
    """Short of memory, only pods that said what they need are taken; short of disk, none."""
    if not room.pressure or podkeys.is_critical(pod):
        return
    tolerates = any(
        _tolerates(t, Taint(key="node.kubernetes.io/memory-pressure", effect="NoSchedule"))
        for t in pod.spec.tolerations
    )
    if room.pressure == ("MemoryPressure",) and (resources.qos_class(pod) != resources.BEST_EFFORT or tolerates):
        return
    raise Rejected("Evicted", f"The node had condition: [{' '.join(room.pressure)}]. ")


def _check_resources(pod: Pod, room: Room) -> None:
    limit = quantity.value(room.allocatable.get("pods", "110"))
    if len(room.others) + 1 > limit:
        raise Rejected("OutOfpods", _lacking("pods", 1, len(room.others), limit))
    if podkeys.is_critical(pod):
        return
    used = quantity.add_maps(resources.pod_requests(other) for other in room.others)
    for name, amount in sorted(resources.pod_requests(pod).items()):
        wanted = quantity.nano(amount)
        if wanted == 0:
            continue
        present = room.allocatable.get(name)
        if present is None and "/" in name:
            # An extended resource: of those that somebody advertised for this node it has so much; all others are the
            # cluster's, and the scheduler has counted them.
            present = room.node.status.allocatable.get(name) if room.node is not None else None
            if present is None:
                continue
        has = quantity.nano(present or "0")
        taken = quantity.nano(used.get(name, "0"))
        if wanted > has - taken:
            unit = 10**6 if name == "cpu" else 10**9
            raise Rejected(f"OutOf{name}", _lacking(name, wanted // unit, taken // unit, has // unit))


def _lacking(name: str, wanted: int, used: int, capacity: int) -> str:
    return f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"


def _host_ports(pod: Pod) -> set[tuple[str, str, int]]:
    return {
        (port.hostIP or "0.0.0.0", port.protocol or "TCP", port.hostPort)
        for container in pod.spec.containers
        for port in container.ports
        if port.hostPort
    }


# Taints.


def _check_taints(pod: Pod, node: Node) -> None:
    """Only NoExecute concerns a pod that is bound already."""
    for taint in node.spec.taints:
        if taint.effect == "NoExecute" and not any(_tolerates(t, taint) for t in pod.spec.tolerations):
            raise Rejected("TaintToleration", "Predicate TaintToleration failed: node(s) had untolerated taint(s)")


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and (toleration.value or "") == (taint.value or "")
