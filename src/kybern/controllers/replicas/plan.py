"""How many pods to make, which to take away, and what to tell: for one owner of replicas. Pure.

Fed and applied by replicas/reconcile. Victims are chosen so that the least is lost: pods that do not run yet
first, then by deletion cost, crowding of nodes, and youth ("Scaling down a ReplicaSet" in the documentation).
"""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kybern.api import scalars
from kybern.api.core_v1 import Pod
from kybern.controllers import pods

BURST = 500  # creates or deletes of one owner at once, as upstream
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Scale:
    """What to do now; `replicas` beyond BURST follow in the next turn."""

    create: int = 0
    delete: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of a status."""

    replicas: int
    fully_labeled: int
    ready: int
    available: int
    terminating: int
    available_in: float | None  # seconds until the next ready pod counts as available


def plan_scale(active: Sequence[Pod], replicas: int, related: Iterable[Pod], now: datetime.datetime) -> Scale:
    """`related`: active pods of all replica sets of the same controller, which count as crowding a node."""
    surplus = len(active) - replicas
    if surplus < 0:
        return Scale(create=min(-surplus, BURST))
    if surplus == 0:
        return Scale()
    crowd = collections.Counter(pod.spec.nodeName or "" for pod in related)
    ranked = sorted(active, key=lambda pod: _rank(pod, crowd, now))
    return Scale(delete=tuple(ranked[: min(surplus, BURST)]))


def _rank(pod: Pod, crowd: collections.Counter[str], now: datetime.datetime) -> tuple[Any, ...]:
    """Lower goes first."""
    ready = pods.is_ready(pod)
    since = pods.ready_since(pod)
    return (
        bool(pod.spec.nodeName),
        _PHASES.get(pod.status.phase or "Pending", 0),
        ready,
        _deletion_cost(pod),
        -crowd[pod.spec.nodeName] if pod.spec.nodeName else 0,
        _age_class(since, now) if ready else 0,
        -pods.restarts(pod),
        _age_class(_created(pod), now),
        pod.metadata.uid,
    )


def _deletion_cost(pod: Pod) -> int:
    text = pod.metadata.annotations.get(pods.DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _created(pod: Pod) -> datetime.datetime | None:
    stamp = pod.metadata.creationTimestamp
    return scalars.parse_time(stamp) if stamp else None


def _age_class(since: datetime.datetime | None, now: datetime.datetime) -> int:
    """Ages on a logarithmic scale: among pods about as old as each other chance decides, which spreads the loss."""
    if since is None:
        return -1
    seconds = (now - since).total_seconds()
    return int(math.log2(seconds)) + 1 if seconds >= 1 else 0


def count(all_pods: Iterable[Pod], template_labels: dict[str, str], min_ready: int, now: datetime.datetime) -> Counts:
    """The numbers of a status, from the pods an owner holds."""
    replicas = labeled = ready = available = terminating = 0
    soonest: float | None = None
    for pod in all_pods:
        if pods.is_terminating(pod):
            terminating += 1
        if not pods.is_active(pod):
            continue
        replicas += 1
        labeled += template_labels.items() <= pod.metadata.labels.items()
        waits = pods.available_in(pod, min_ready, now)
        if not pods.is_ready(pod):
            continue
        ready += 1
        if waits == 0.0:
            available += 1
        elif waits is not None:
            soonest = waits if soonest is None else min(soonest, waits)
    return Counts(replicas, labeled, ready, available, terminating, soonest)


def plan_condition(conditions: list[Any], wanted: Any | None) -> list[Any]:
    """The conditions with a ReplicaFailure that is `wanted`, or without one; its time stays while it lasts."""
    others = [c for c in conditions if c.type != "ReplicaFailure"]
    if wanted is None:
        return others
    for old in conditions:
        if old.type == "ReplicaFailure" and old.status == wanted.status and old.reason == wanted.reason:
            return list(conditions)
    return [*others, wanted]
