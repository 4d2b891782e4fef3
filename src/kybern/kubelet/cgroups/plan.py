"""Where a pod's cgroup is and what is written into it, as data.

Pure. The tree is upstream's: /kubepods/pod<uid> (Guaranteed), /kubepods/burstable/pod<uid>,
/kubepods/besteffort/pod<uid>, below an optional --cgroup-root.
Source: "Node Allocatable" and the kernel's cgroup-v1 and cgroup-v2 documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kybern.api.core_v1 import Pod
from kybern.kubelet import resources
from kybern.machinery import quantity

KUBEPODS = "kubepods"
_CLASS = {resources.GUARANTEED: "", resources.BURSTABLE: "burstable", resources.BEST_EFFORT: "besteffort"}
_UNLIMITED_V1 = "-1"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one cgroup; 0 means not set, `memory` and `cpu_quota` -1 no limit."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    memory: int = 0
    pids: int = 0


def join(*parts: str) -> str:
    return "/" + "/".join(p.strip("/") for p in parts if p.strip("/"))


def class_path(root: str, qos: str) -> str:
    return join(root, KUBEPODS, _CLASS[qos])


def pod_path(root: str, pod: Pod) -> str:
    qos = pod.status.qosClass or resources.qos_class(pod)
    return join(class_path(root, qos), f"pod{pod.metadata.uid}")


def pod_limits(pod: Pod, pids: int = 0) -> Limits:
    """The sum of what its containers ask for, and of their limits where all have one."""
    requests, limits = resources.pod_requests(pod), resources.pod_limits(pod)
    qos = pod.status.qosClass or resources.qos_class(pod)
    shares = resources.MIN_SHARES
    if qos != resources.BEST_EFFORT:
        shares = resources.cpu_shares(quantity.milli(requests.get("cpu", "0")))
    return Limits(
        cpu_shares=shares,
        cpu_quota=resources.cpu_quota(quantity.milli(limits.get("cpu", "0"))) or -1,
        memory=quantity.value(limits.get("memory", "0")) or -1,
        pids=pids,
    )


def widest(a: Limits, b: Limits) -> Limits:
    """The larger of each; -1 (no limit) is the largest."""

    def larger(x: int, y: int) -> int:
        return -1 if -1 in (x, y) else max(x, y)

    return Limits(
        max(a.cpu_shares, b.cpu_shares),
        larger(a.cpu_quota, b.cpu_quota),
        larger(a.memory, b.memory),
        max(a.pids, b.pids),
    )


def burstable_shares(pods: Iterable[Pod]) -> int:
    """The weight of all burstable pods together is what they ask for."""
    total = 0
    for pod in pods:
        if (pod.status.qosClass or resources.qos_class(pod)) == resources.BURSTABLE:
            total += quantity.milli(resources.pod_requests(pod).get("cpu", "0"))
    return resources.cpu_shares(total)


def shares_to_weight(shares: int) -> int:
    """cpu.shares 2..262144 as cpu.weight 1..10000. Source: the formula of KEP-2254."""
    bounded = min(max(shares, resources.MIN_SHARES), resources.MAX_SHARES)
    return 1 + (bounded - 2) * 9999 // 262142


def files_v1(limits: Limits) -> list[tuple[str, str, str]]:
    """(controller, file, value), in the order to write them."""
    files = []
    if limits.cpu_shares:
        files.append(("cpu", "cpu.shares", str(limits.cpu_shares)))
    if limits.cpu_quota:
        files.append(("cpu", "cpu.cfs_period_us", str(resources.PERIOD)))
        files.append(("cpu", "cpu.cfs_quota_us", str(limits.cpu_quota)))
    if limits.memory:
        files.append(("memory", "memory.limit_in_bytes", str(limits.memory) if limits.memory > 0 else _UNLIMITED_V1))
    if limits.pids:
        files.append(("pids", "pids.max", str(limits.pids)))
    return files


def files_v2(limits: Limits) -> list[tuple[str, str]]:
    """(file, value)."""
    files = []
    if limits.cpu_shares:
        files.append(("cpu.weight", str(shares_to_weight(limits.cpu_shares))))
    if limits.cpu_quota:
        files.append(("cpu.max", f"{limits.cpu_quota if limits.cpu_quota > 0 else 'max'} {resources.PERIOD}"))
    if limits.memory:
        files.append(("memory.max", str(limits.memory) if limits.memory > 0 else "max"))
    if limits.pids:
        files.append(("pids.max", str(limits.pids)))
    return files
