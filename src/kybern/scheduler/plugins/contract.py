"""What a plugin is: a function from a pod and the cluster to masks over nodes (`@filter`) or points (`@score`).

Called by cycle and preempt, in the order of profile. Plugins are pure: the same cluster gives the same answer.
`@filter_each` is for rules that are simpler to say of one node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.objects import NodeView
from kybern.scheduler.pod_info import PodInfo

Rows = NDArray[np.intp]
Points = NDArray[np.float64]
MOST_POINTS = 100.0


class Rejection(NamedTuple):
    """Nodes a rule excludes, and why. `is_final`: no pod that goes could change that."""

    nodes: Bools
    reason: str
    is_final: bool = False


class Unplaceable(Exception):
    """The pod fits nowhere for a reason that is not a node's."""

    def __init__(self, reason: str, is_final: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


class Event(Enum):
    """What may happen in a cluster that lets a pod fit that did not."""

    NODE_ADDED = "node added"
    NODE_CHANGED = "node changed"
    POD_PLACED = "pod placed"
    POD_CHANGED = "pod changed"
    POD_GONE = "pod gone"
    OWN_CHANGE = "the pod itself changed"
    CLAIM = "claim changed"
    VOLUME = "volume changed"
    CLASS = "storage class changed"
    CSI_NODE = "CSI node changed"
    NAMESPACE = "namespace changed"


class Change(NamedTuple):
    """An event with what changed (pods as PodInfo)."""

    event: Event
    old: Any = None
    new: Any = None


Hint = Callable[[PodInfo, Change], bool]


def always(pod: PodInfo, change: Change) -> bool:
    return True


FilterFunction = Callable[[PodInfo, Cluster], Iterable[Rejection]]
ScoreFunction = Callable[[PodInfo, Cluster, Rows], "Points | None"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A rule that excludes nodes."""

    name: str
    run: FilterFunction
    nodes_only: bool = False  # the answer depends on the nodes and PodInfo.shape alone, and may be remembered
    wakes: Mapping[Event, Hint] = field(default_factory=dict)  # what may help a pod it rejected


@dataclass(frozen=True, slots=True)
class Score:
    """A rule that prefers nodes: 0 to 100 points for each of the rows given, None where it has no opinion."""

    name: str
    run: ScoreFunction


def filter(
    name: str, *, nodes_only: bool = False, wakes: Mapping[Event, Hint] | None = None
) -> Callable[[FilterFunction], Filter]:
    """Make a function a filter."""
    return lambda run: Filter(name, run, nodes_only, wakes or {})


def filter_each(
    name: str, *, wakes: Mapping[Event, Hint] | None = None
) -> Callable[[Callable[[PodInfo, NodeView], str]], Filter]:
    """Make a filter of a function of one node: "" lets the pod in, anything else is the reason against it."""

    def decorate(judge: Callable[[PodInfo, NodeView], str]) -> Filter:
        def run(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
            reasons = [judge(pod, node) for node in cluster.snapshot.nodes]
            for reason in dict.fromkeys(r for r in reasons if r):
                yield Rejection(np.array([r == reason for r in reasons], dtype=np.bool_), reason)

        return Filter(name, run, False, wakes or dict.fromkeys(Event, always))

    return decorate


def score(name: str) -> Callable[[ScoreFunction], Score]:
    """Make a function a score."""
    return lambda run: Score(name, run)


def normalised(raw: NDArray[Any], *, reverse: bool = False) -> Points:
    """Points as shares of the largest; reversed: the largest gets none."""
    top = float(raw.max()) if len(raw) else 0.0
    if top == 0:
        return np.full(len(raw), MOST_POINTS if reverse else 0.0)
    points = np.floor(raw * MOST_POINTS / top)
    return MOST_POINTS - points if reverse else points
