"""NodeResourcesFit and NodeResourcesBalancedAllocation: room for the pod, and using nodes evenly.

Only what the pod asks for is looked at: a node whose other resources are overdrawn still takes it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import MOST_POINTS, Change, Event, Points, Rejection, Rows
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Ints


def _asks_for_less(pod: PodInfo, change: Change) -> bool:
    old, new = change.old.requests, change.new.requests
    return any(new.get(name, 0) < old.get(name, 0) for name in pod.requests)


def _has_more(pod: PodInfo, change: Change) -> bool:
    old, new = change.old.status, change.new.status
    return bool((old.allocatable or old.capacity) != (new.allocatable or new.capacity))


@contract.filter(
    "NodeResourcesFit",
    wakes={
        Event.NODE_ADDED: contract.always,
        Event.NODE_CHANGED: _has_more,
        Event.POD_GONE: contract.always,
        Event.POD_CHANGED: _asks_for_less,
        Event.OWN_CHANGE: contract.always,
    },
)
def node_resources_fit(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    snapshot = cluster.snapshot
    full = snapshot.pod_count + 1 > snapshot.pod_limit
    if full.any():
        yield Rejection(full, "Too many pods", is_final=False)
    for name, wanted in pod.requests.items():
        column = snapshot.resources.get(name)
        if column is None:
            yield Rejection(np.ones(len(snapshot), dtype=np.bool_), f"Insufficient {name}", is_final=True)
            continue
        allocatable = snapshot.allocatable[:, column]
        never = allocatable < wanted
        short = allocatable - snapshot.requested[:, column] < wanted
        if never.any():
            yield Rejection(never, f"Insufficient {name}", is_final=True)
        yield Rejection(short & ~never, f"Insufficient {name}")


@contract.score("NodeResourcesFit")
def least_allocated(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    """The share of cpu and memory that stays free, averaged over those a node has."""
    points: Points = cluster.snapshot.by_load(
        ("least allocated", pod.nonzero), lambda changed: _free_share(pod, cluster, changed)
    )[rows]
    return points


def _free_share(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points:
    snapshot = cluster.snapshot
    allocatable = snapshot.allocatable[rows, :2]
    used = snapshot.nonzero[rows] + np.array(pod.nonzero, dtype=np.int64)
    has = allocatable > 0
    safe = np.where(has, allocatable, 1)
    free = np.where(has & (used <= allocatable), np.floor((allocatable - used) * MOST_POINTS / safe), 0.0)
    count = has.sum(axis=1)
    points: Points = np.floor(free.sum(axis=1) / np.maximum(count, 1))
    return points


@contract.score("NodeResourcesBalancedAllocation")
def balanced_allocation(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    """How much more alike the pod makes the used shares of cpu and memory; no opinion on pods that ask for neither."""
    wanted = (pod.requests.get("cpu", 0), pod.requests.get("memory", 0))
    if not any(wanted):
        return None
    points: Points = cluster.snapshot.by_load(
        ("balanced", wanted), lambda changed: _gain(np.array(wanted, dtype=np.int64), cluster, changed)
    )[rows]
    return points


def _gain(wanted: Ints, cluster: Cluster, rows: Rows) -> Points:
    allocatable, requested = cluster.snapshot.allocatable[rows, :2], cluster.snapshot.requested[rows, :2]
    # 75 where nothing changes, whole points before and after: as kube-scheduler 1.36 answers.
    points: Points = np.floor(
        (_balance(allocatable, requested + wanted) - _balance(allocatable, requested) + 1.5 * MOST_POINTS) / 2
    )
    return points


def _balance(allocatable: Ints, requested: Ints) -> Points:
    """100 where the shares in use are the same, down to 50."""
    has = allocatable > 0
    share = np.minimum(requested / np.where(has, allocatable, 1), 1.0)
    deviation = np.where(has.all(axis=1), np.abs(share[:, 0] - share[:, 1]) / 2, 0.0)
    points: Points = np.floor((1 - deviation) * MOST_POINTS)
    return points
