"""What the node and its pods use, as the Summary API (stats/v1alpha1) tells it. Pure.

Fed by sampler; read by application (/stats/summary). exposition.py tells the same to Prometheus.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kybern.api import scalars
from kybern.api.core_v1 import Pod
from kybern.kubelet.cri.contract import ContainerId, ContainerUsage
from kybern.kubelet.cri.labels import CONTAINER_NAME, POD_UID


@dataclass(frozen=True, slots=True)
class NodeSample:
    """The machine at one moment. Bytes; cpu in nanoseconds since boot."""

    time: datetime.datetime
    boot_time: datetime.datetime
    cpu_ns: int
    memory_total: int
    memory_available: int
    memory_usage: int
    memory_rss: int
    page_faults: int
    major_page_faults: int
    swap_total: int
    swap_free: int
    interfaces: tuple[tuple[str, int, int, int, int], ...]  # name, rx bytes, rx errors, tx bytes, tx errors
    filesystem: tuple[int, int, int, int]  # capacity, available bytes; inodes, free inodes
    processes: int
    max_processes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Everything known at one moment, and cpu rates since an earlier one."""

    node: NodeSample
    node_nanocores: int | None
    containers: tuple[ContainerUsage, ...]
    nanocores: Mapping[ContainerId, int]  # container id -> rate


def _time(moment: datetime.datetime) -> str:
    return str.__str__(scalars.render_time(moment))


def _moment(nanoseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC)


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _cpu(time: str, total: int, rate: int | None) -> dict[str, Any]:
    return _without_none({"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": total})


def _network(node: NodeSample, default: str) -> dict[str, Any]:
    interfaces = [
        {"name": name, "rxBytes": rx, "rxErrors": rx_bad, "txBytes": tx, "txErrors": tx_bad}
        for name, rx, rx_bad, tx, tx_bad in node.interfaces
    ]
    main = next((i for i in interfaces if i["name"] == default), None)
    return {"time": _time(node.time), **(main or {"name": default}), "interfaces": interfaces}


def node_summary(node_name: str, usage: Usage) -> dict[str, Any]:
    """`node` of the Summary."""
    node, now = usage.node, _time(usage.node.time)
    capacity, available, inodes, inodes_free = node.filesystem
    filesystem = {
        "time": now,
        "availableBytes": available,
        "capacityBytes": capacity,
        "usedBytes": capacity - available,
        "inodesFree": inodes_free,
        "inodes": inodes,
        "inodesUsed": inodes - inodes_free,
    }
    return {
        "nodeName": node_name,
        "startTime": _time(node.boot_time),
        "cpu": _cpu(now, node.cpu_ns, usage.node_nanocores),
        "memory": {
            "time": now,
            "availableBytes": node.memory_available,
            "usageBytes": node.memory_usage,
            "workingSetBytes": node.memory_total - node.memory_available,
            "rssBytes": node.memory_rss,
            "pageFaults": node.page_faults,
            "majorPageFaults": node.major_page_faults,
        },
        "network": _network(node, "eth0"),
        "fs": filesystem,
        "runtime": {"imageFs": filesystem, "containerFs": filesystem},
        "rlimit": {"time": now, "maxpid": node.max_processes, "curproc": node.processes},
        "swap": {
            "time": now,
            "swapAvailableBytes": node.swap_free,
            "swapUsageBytes": node.swap_total - node.swap_free,
        },
    }


def _container_summary(usage: ContainerUsage, rate: int | None, started: str | None) -> dict[str, Any]:
    time = _time(_moment(usage.timestamp))
    return _without_none(
        {
            "name": usage.labels.get(CONTAINER_NAME, usage.name),
            "startTime": started,
            "cpu": _cpu(time, usage.cpu_ns, rate),
            "memory": {
                "time": time,
                "usageBytes": usage.usage or usage.working_set,
                "workingSetBytes": usage.working_set,
                "rssBytes": usage.rss,
                "pageFaults": usage.page_faults,
                "majorPageFaults": usage.major_page_faults,
            },
            "rootfs": {
                "time": time,
                "usedBytes": usage.layer_bytes,
                "inodesUsed": usage.layer_inodes,
            },
        }
    )


def started_at(pod: Pod, container: str) -> str | None:
    for status in pod.status.containerStatuses:
        if status.name == container and status.state.running is not None:
            return status.state.running.startedAt
    return None


def by_pod(containers: Iterable[ContainerUsage]) -> dict[str, list[ContainerUsage]]:
    """Containers by the uid of their pod."""
    found: dict[str, list[ContainerUsage]] = {}
    for usage in containers:
        found.setdefault(usage.labels.get(POD_UID, ""), []).append(usage)
    return found


def pod_summaries(pods: Sequence[Pod], usage: Usage) -> list[dict[str, Any]]:
    """`pods` of the Summary: those with a running container."""
    containers = by_pod(usage.containers)
    found = []
    for pod in pods:
        own = containers.get(pod.metadata.uid or "", [])
        if not own:
            continue
        time = _time(_moment(max(c.timestamp for c in own)))
        rates = [usage.nanocores.get(c.id) for c in own]
        known = [rate for rate in rates if rate is not None]
        found.append(
            _without_none(
                {
                    "podRef": {
                        "name": pod.metadata.name,
                        "namespace": pod.metadata.namespace,
                        "uid": pod.metadata.uid,
                    },
                    "startTime": pod.status.startTime,
                    "containers": [
                        _container_summary(c, rate, started_at(pod, c.labels.get(CONTAINER_NAME, "")))
                        for c, rate in zip(own, rates, strict=True)
                    ],
                    "cpu": _cpu(time, sum(c.cpu_ns for c in own), sum(known) if len(known) == len(own) else None),
                    "memory": {
                        "time": time,
                        "usageBytes": sum(c.usage or c.working_set for c in own),
                        "workingSetBytes": sum(c.working_set for c in own),
                        "rssBytes": sum(c.rss for c in own),
                        "pageFaults": sum(c.page_faults for c in own),
                        "majorPageFaults": sum(c.major_page_faults for c in own),
                    },
                    "ephemeral-storage": {
                        "time": time,
                        "usedBytes": sum(c.layer_bytes for c in own),
                        "inodesUsed": sum(c.layer_inodes for c in own),
                    },
                }
            )
        )
    return found
