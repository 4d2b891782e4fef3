"""Which pods of a DaemonSet to make and which to take away. Pure.

Fed by reconcile. Manages first (one good pod a node), then updates: old pods make room for new ones, within
maxUnavailable (the old goes first) or maxSurge (the new comes first).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kybern.api import codec
from kybern.api.apps_v1 import DaemonSet, DaemonSetStatus
from kybern.api.core_v1 import Node, Pod
from kybern.controllers import history, pods
from kybern.controllers.daemonset import placement

BURST = 250


@dataclass(slots=True)
class Plan:
    create: list[str] = field(default_factory=list)  # names of nodes
    delete: list[Pod] = field(default_factory=list)
    failed: list[Pod] = field(default_factory=list)  # of those deleted: ended, to be replaced


@dataclass(frozen=True, slots=True)
class Seen:
    """A DaemonSet and its world. `hash_` is that of its present template."""

    daemonset: DaemonSet
    nodes: Sequence[Node]
    by_node: Mapping[str, Sequence[Pod]]
    hash_: str
    now: datetime.datetime


def group(own: Sequence[Pod]) -> dict[str, list[Pod]]:
    """Pods by node."""
    result: dict[str, list[Pod]] = {}
    for pod in own:
        result.setdefault(placement.node_of(pod), []).append(pod)
    return result


def resolve(value: int | str | None, total: int) -> int:
    if value is None:
        return 0
    if isinstance(value, int):
        return max(0, value)
    text = value.removesuffix("%")
    return -(-int(text) * total // 100) if text.isascii() and text.isdigit() else 0


def limits(daemonset: DaemonSet, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers, not both 0."""
    rolling = daemonset.spec.updateStrategy.rollingUpdate
    surge = resolve(rolling.maxSurge, desired) if rolling is not None else 0
    unavailable = resolve(rolling.maxUnavailable, desired) if rolling is not None else 1
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def is_current(pod: Pod, hash_: str) -> bool:
    return pod.metadata.labels.get(history.HASH) == hash_


def plan_pods(seen: Seen) -> Plan:
    """One good pod on every node that should have one, none elsewhere."""
    step = Plan()
    known = {node.metadata.name for node in seen.nodes}
    surge, _ = limits(seen.daemonset, _desired(seen))
    for node in seen.nodes:
        verdict = placement.judge(seen.daemonset, node)
        here = list(seen.by_node.get(node.metadata.name, ()))
        if verdict.run and not here:
            step.create.append(node.metadata.name)
        elif verdict.stay:
            _keep_one(seen, here, step, node.metadata.name, surge > 0, may_create=verdict.run)
        else:
            step.delete += [pod for pod in here if pod.metadata.deletionTimestamp is None]
    for name, left in seen.by_node.items():
        if name not in known:  # bound to a node that is gone, and not scheduled: it never will be
            step.delete += [p for p in left if not p.spec.nodeName and p.metadata.deletionTimestamp is None]
    step.create = step.create[:BURST]
    return step


def _keep_one(seen: Seen, here: list[Pod], step: Plan, node: str, surging: bool, *, may_create: bool) -> None:
    running = []
    for pod in here:
        if pod.metadata.deletionTimestamp is not None:
            continue
        if pods.is_finished(pod):
            step.delete.append(pod)
            step.failed.append(pod)
        else:
            running.append(pod)
    if not running and not here and may_create:
        step.create.append(node)
    if len(running) <= 1:
        return
    running.sort(key=lambda p: (p.metadata.creationTimestamp or "", p.metadata.name))
    if not surging:
        step.delete += running[1:]
        return
    # Amid a surge an old pod may stand beside its successor: one of each.
    new = [pod for pod in running if is_current(pod, seen.hash_)]
    old = [pod for pod in running if not is_current(pod, seen.hash_)]
    step.delete += new[1:] + old[1:]


def _desired(seen: Seen) -> int:
    return sum(placement.judge(seen.daemonset, node).run for node in seen.nodes)


def plan_update(seen: Seen) -> Plan:
    """The next old pods to replace, in a rolling update."""
    surge, unavailable = limits(seen.daemonset, _desired(seen))
    return _surge(seen, surge) if surge > 0 else _replace(seen, unavailable)


def _split(seen: Seen, node: Node) -> tuple[list[Pod], list[Pod]]:
    """(pods of the present template, older ones) that are not on their way out."""
    here = [p for p in seen.by_node.get(node.metadata.name, ()) if pods.is_active(p)]
    return [p for p in here if is_current(p, seen.hash_)], [p for p in here if not is_current(p, seen.hash_)]


def _is_available(seen: Seen, pod: Pod) -> bool:
    return pods.is_available(pod, seen.daemonset.spec.minReadySeconds or 0, seen.now)


def _replace(seen: Seen, limit: int) -> Plan:
    step = Plan()
    missing = 0
    candidates: list[Pod] = []
    for node in seen.nodes:
        if not placement.judge(seen.daemonset, node).run:
            continue
        new, old = _split(seen, node)
        if new:
            missing += not _is_available(seen, new[0])
        elif not old:
            missing += 1
        elif not _is_available(seen, old[0]):
            missing += 1
            step.delete += old  # it serves nobody: nothing is lost
        else:
            candidates += old
    room = max(0, limit - missing)
    step.delete += candidates[:room]
    return step


def _surge(seen: Seen, limit: int) -> Plan:
    step = Plan()
    surging = 0
    candidates: list[str] = []
    for node in seen.nodes:
        if not placement.judge(seen.daemonset, node).run:
            continue
        new, old = _split(seen, node)
        if not old:
            continue
        if new:
            if _is_available(seen, new[0]):
                step.delete += old
            else:
                surging += 1
        elif not _is_available(seen, old[0]):
            step.create.append(node.metadata.name)
        else:
            candidates.append(node.metadata.name)
    step.create += candidates[: max(0, limit - surging)]
    return step


def plan_status(seen: Seen) -> tuple[DaemonSetStatus, float | None]:
    """The numbers, and seconds until the next pod counts as available."""
    desired = scheduled = misscheduled = ready = available = updated = 0
    soonest: float | None = None
    min_ready = seen.daemonset.spec.minReadySeconds or 0
    for node in seen.nodes:
        here = seen.by_node.get(node.metadata.name, ())
        if not placement.judge(seen.daemonset, node).run:
            misscheduled += bool(here)
            continue
        desired += 1
        if not here:
            continue
        scheduled += 1
        oldest = sorted(here, key=lambda p: (p.metadata.creationTimestamp or "", p.metadata.name))
        # With a surge the newest revision's pod speaks for the node if it is ready, else the one that serves.
        pod = next((p for p in oldest if pods.is_ready(p)), oldest[0])
        updated += any(is_current(p, seen.hash_) for p in oldest)
        waits = pods.available_in(pod, min_ready, seen.now)
        ready += waits is not None
        if waits == 0.0:
            available += 1
        elif waits is not None:
            soonest = waits if soonest is None else min(soonest, waits)
    status = codec.clone(seen.daemonset.status)
    status.desiredNumberScheduled = desired
    status.currentNumberScheduled = scheduled
    status.numberMisscheduled = misscheduled
    status.numberReady = ready
    status.updatedNumberScheduled = updated or None
    status.numberAvailable = available or None
    status.numberUnavailable = (desired - available) or None
    status.observedGeneration = seen.daemonset.metadata.generation
    return status, soonest
