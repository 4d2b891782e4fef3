"""What the node and its containers use, as Prometheus reads it. Pure.

Fed by sampler; read by application (/metrics/resource for metrics-server, /metrics/cadvisor for dashboards).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from kybern.api.core_v1 import Pod
from kybern.kubelet.cri.labels import CONTAINER_NAME, POD_NAME, POD_NAMESPACE
from kybern.kubelet.server import summary
from kybern.kubelet.server.summary import Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _line(name: str, labels: Mapping[str, str], value: float | int, milliseconds: int | None = None) -> str:
    shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    braces = f"{{{shown}}}" if shown else ""
    return f"{name}{braces} {value:.9g} {milliseconds}" if milliseconds else f"{name}{braces} {value:.9g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def resource_metrics(pods: Sequence[Pod], usage: Usage) -> str:
    """/metrics/resource: what metrics-server reads. Names as upstream's stable resource metrics."""
    node_ms = int(usage.node.time.timestamp() * 1000)
    lines = [
        *_head("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds"),
        _line("node_cpu_usage_seconds_total", {}, usage.node.cpu_ns / 1e9, node_ms),
        *_head("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes"),
        _line("node_memory_working_set_bytes", {}, usage.node.memory_total - usage.node.memory_available, node_ms),
        *_head("node_swap_usage_bytes", "gauge", "Current swap usage of the node in bytes"),
        _line("node_swap_usage_bytes", {}, usage.node.swap_total - usage.node.swap_free, node_ms),
    ]
    cpu = _head("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time of the container in core-seconds")
    memory = _head("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes")
    pod_cpu = _head("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time of the pod in core-seconds")
    pod_memory = _head("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes")
    starts = _head("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds")
    containers = summary.by_pod(usage.containers)
    for pod in pods:
        own = containers.get(pod.metadata.uid or "", [])
        named = {"namespace": pod.metadata.namespace or "", "pod": pod.metadata.name or ""}
        for each in own:
            name = each.labels.get(CONTAINER_NAME, each.name)
            labels, ms = {"container": name, **named}, each.timestamp // 1_000_000
            cpu.append(_line("container_cpu_usage_seconds_total", labels, each.cpu_ns / 1e9, ms))
            memory.append(_line("container_memory_working_set_bytes", labels, each.working_set, ms))
            since = summary.started_at(pod, name)
            if since:
                seconds = datetime.datetime.fromisoformat(since).timestamp()
                starts.append(_line("container_start_time_seconds", labels, seconds))
        if own:
            ms = max(c.timestamp for c in own) // 1_000_000
            pod_cpu.append(_line("pod_cpu_usage_seconds_total", named, sum(c.cpu_ns for c in own) / 1e9, ms))
            pod_memory.append(_line("pod_memory_working_set_bytes", named, sum(c.working_set for c in own), ms))
    failed = [
        *_head(
            "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise"
        ),
        _line("resource_scrape_error", {}, 0),
    ]
    return "\n".join([*cpu, *memory, *starts, *lines, *pod_cpu, *pod_memory, *failed, ""])


def cadvisor_metrics(usage: Usage, cpus: int) -> str:
    """/metrics/cadvisor: the core of what cAdvisor exports, by container."""
    lines = [
        *_head("machine_cpu_cores", "gauge", "Number of logical CPU cores."),
        _line("machine_cpu_cores", {}, cpus),
        *_head("machine_memory_bytes", "gauge", "Amount of memory installed on the machine."),
        _line("machine_memory_bytes", {}, usage.node.memory_total),
    ]
    series = (
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
        ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes."),
        ("container_memory_rss", "gauge", "Size of RSS in bytes."),
        ("container_fs_usage_bytes", "gauge", "Bytes consumed by the container on this filesystem."),
    )
    for name, kind, text in series:
        lines += _head(name, kind, text)
        for each in usage.containers:
            labels = {
                "container": each.labels.get(CONTAINER_NAME, each.name),
                "id": each.id,
                "namespace": each.labels.get(POD_NAMESPACE, ""),
                "pod": each.labels.get(POD_NAME, ""),
            }
            value = {
                "container_cpu_usage_seconds_total": each.cpu_ns / 1e9,
                "container_memory_working_set_bytes": each.working_set,
                "container_memory_usage_bytes": each.usage or each.working_set,
                "container_memory_rss": each.rss,
                "container_fs_usage_bytes": each.layer_bytes,
            }[name]
            lines.append(_line(name, labels, value, each.timestamp // 1_000_000))
    return "\n".join([*lines, ""])
