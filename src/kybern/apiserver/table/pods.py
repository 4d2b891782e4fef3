"""Rows of pods: the STATUS column tells the most telling of phase, reasons and container states."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from kybern.api import scalars
from kybern.apiserver.table.column import NONE, Printer, age, human, or_none, printer


def status_of(pod: Any) -> tuple[str, int, int, int, str]:
    """(STATUS, ready, total, restarts, time of the last restart or "")."""
    spec, status = pod.spec, pod.status
    reason = status.reason or status.phase or "Pending"
    if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in status.conditions):
        reason = "SchedulingGated"
    sidecars = {c.name for c in spec.initContainers if c.restartPolicy == "Always"}
    total = len(spec.containers) + len(sidecars)
    ready, restarts, last = 0, 0, ""
    initializing = False
    inits = {c.name: c for c in spec.initContainers}
    for index, container in enumerate(status.initContainerStatuses):
        restarts += container.restartCount
        last = max(last, _finished(container))
        if container.name in sidecars and container.started and container.ready:
            ready += 1
        if initializing:
            continue
        text = _init_reason(container, index, len(inits), container.name in sidecars)
        if text is not None:
            reason = text
            initializing = True
    if not initializing or _is_initialized(pod):
        restarts = restarts if sidecars else 0
        has_running = False
        for container in reversed(status.containerStatuses):
            restarts += container.restartCount
            last = max(last, _finished(container))
            state = container.state
            if state.waiting is not None and state.waiting.reason:
                reason = state.waiting.reason
            elif state.terminated is not None:
                reason = _terminated(state.terminated)
            elif container.ready and state.running is not None:
                has_running = True
                ready += 1
        if reason == "Completed" and has_running:
            is_ready = any(c.type == "Ready" and c.status == "True" for c in status.conditions)
            reason = "Running" if is_ready else "NotReady"
    if pod.metadata.deletionTimestamp is not None:
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif status.phase not in ("Failed", "Succeeded"):
            reason = "Terminating"
    return reason, ready, total, restarts, last


def _is_initialized(pod: Any) -> bool:
    return any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions)


def _finished(container: Any) -> str:
    ended = container.lastState.terminated
    return str(ended.finishedAt or "") if ended is not None else ""


def _terminated(ended: Any) -> str:
    if ended.reason:
        return str(ended.reason)
    return f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exitCode}"


def _init_reason(container: Any, index: int, count: int, is_sidecar: bool) -> str | None:
    """What an init container has to say, or None where it is done."""
    state = container.state
    if state.terminated is not None and state.terminated.exitCode == 0:
        return None
    if is_sidecar and container.started:
        return None
    if state.terminated is not None:
        return f"Init:{_terminated(state.terminated)}"
    if state.waiting is not None and state.waiting.reason and state.waiting.reason != "PodInitializing":
        return f"Init:{state.waiting.reason}"
    return f"Init:{index}/{count}"


def _cells(pod: Any, now: datetime.datetime) -> list[Any]:
    reason, ready, total, restarts, last = status_of(pod)
    shown = str(restarts)
    if restarts and last:
        shown = f"{restarts} ({human(now - scalars.parse_time(last))} ago)"
    gates = NONE
    if pod.spec.readinessGates:
        true = {c.type for c in pod.status.conditions if c.status == "True"}
        gates = f"{sum(g.conditionType in true for g in pod.spec.readinessGates)}/{len(pod.spec.readinessGates)}"
    ip = pod.status.podIPs[0].ip if pod.status.podIPs else pod.status.podIP
    return [
        pod.metadata.name,
        f"{ready}/{total}",
        reason,
        shown,
        age(pod, now),
        or_none(ip),
        or_none(pod.spec.nodeName),
        or_none(pod.status.nominatedNodeName),
        gates,
    ]


def _template_cells(template: Any, now: datetime.datetime) -> list[Any]:
    containers = template.template.spec.containers
    return [
        template.metadata.name,
        ",".join(c.name for c in containers),
        ",".join(c.image or "" for c in containers),
        ",".join(f"{k}={v}" for k, v in sorted(template.template.metadata.labels.items())) or NONE,
    ]


_ENDS = {
    "Succeeded": {"reason": "Succeeded", "message": "The pod has completed successfully."},
    "Failed": {"reason": "Failed", "message": "The pod failed."},
}


def _conditions(pod: Any) -> list[dict[str, str]]:
    end = _ENDS.get(pod.status.phase or "")
    return [{"type": "Completed", "status": "True", **end}] if end is not None else []


_PODS = printer(
    _cells, "Name", "Ready", "Status", "Restarts", "Age", "IP+", "Node+", "Nominated Node+", "Readiness Gates+"
)
PRINTERS: dict[str, Printer] = {
    "pods": dataclasses.replace(_PODS, conditions=_conditions),
    "podtemplates": printer(_template_cells, "Name", "Containers", "Images", "Pod Labels"),
}
