"""Whom to evict so that a more important pod fits: the fewest and least important pods of one node. Pure.

Asked by run when no node is feasible. Takes pods out of the snapshot to see what would be, and puts them back.
The choice among nodes: fewest broken disruption budgets, then the lowest of the highest priorities, the lowest sum
of priorities, the fewest victims, the victims that started last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.cycle import NO_NODES, Outcome, Reason, filter_nodes, render_failure
from kybern.scheduler.plugins.contract import Filter
from kybern.scheduler.pod_info import PodInfo

NEVER = "not eligible due to preemptionPolicy=Never."
WAITING = "not eligible due to a terminating pod on the nominated node."
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
LEAST_CANDIDATES = 100  # nodes looked at closely, at least ...
CANDIDATE_SHARE = 0.1  # ... or this share of all
_PRIORITY_OFFSET = 1 << 31  # so that two victims always weigh more than one


@dataclass(frozen=True, slots=True)
class Preemption:
    """Evict `victims` from `node` and keep it for the pod; without a node, `message` says why not."""

    node: str = ""
    victims: tuple[PodInfo, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: str
    victims: tuple[PodInfo, ...]  # the most important first
    violations: int

    def rank(self) -> tuple[int, int, int, int, str]:
        highest = max(v.priority for v in self.victims)
        total = sum(v.priority + _PRIORITY_OFFSET for v in self.victims)
        return self.violations, highest, total, len(self.victims), self.node

    def first_start(self) -> str:
        """When the first of the most important victims started; the texts sort as the times do."""
        highest = max(v.priority for v in self.victims)
        return min(_started(v) for v in self.victims if v.priority == highest)


def _started(pod: PodInfo) -> str:
    return str(pod.pod.status.startTime or pod.pod.metadata.creationTimestamp or "")


def _importance(pod: PodInfo) -> tuple[int, str]:
    return -pod.priority, _started(pod)


def plan_preemption(pod: PodInfo, cluster: Cluster, outcome: Outcome, filters: tuple[Filter, ...]) -> Preemption:
    """What to evict for a pod that fits nowhere (`outcome`: why not)."""
    snapshot = cluster.snapshot
    if pod.pod.spec.preemptionPolicy == "Never":
        return Preemption(message=NEVER)
    if not len(snapshot):
        return Preemption(message=NO_NODES)
    if _waits_for_victims(pod, cluster, outcome):
        return Preemption(message=WAITING)
    helpful = ~outcome.final
    if outcome.blanket:
        helpful[:] = False
    below = (snapshot.pod_priority < pod.priority) & (snapshot.pod_node >= 0)
    has_victims = snapshot.per_node(below) > 0
    tried = helpful & has_victims & _would_have_room(pod, cluster, below)
    candidates: list[_Candidate] = []
    limit = max(LEAST_CANDIDATES, int(len(snapshot) * CANDIDATE_SHARE))
    why: dict[str, int] = {}
    for row in np.flatnonzero(tried):
        name = snapshot.names[row]
        victims = [p for p in snapshot.pods_of[name].values() if p.priority < pod.priority]
        found = _choose_victims(pod, cluster, filters, name, victims)
        if isinstance(found, _Candidate):
            candidates.append(found)
            if len(candidates) >= limit:
                break
        else:
            for text in found:
                why[text] = why.get(text, 0) + 1
    if candidates:
        best = _best(candidates)
        return Preemption(best.node, best.victims)
    return Preemption(message=_explain(outcome, helpful, has_victims, tried, pod, cluster, why))


def _waits_for_victims(pod: PodInfo, cluster: Cluster, outcome: Outcome) -> bool:
    """Victims of an earlier preemption are still going: no more of them until they are gone."""
    row = cluster.snapshot.rows.get(pod.nominated)
    if row is None or outcome.final[row]:
        return False
    here = cluster.snapshot.pods_of.get(pod.nominated, {}).values()
    return any(p.is_terminating and p.priority < pod.priority and _is_victim(p) for p in here)


def _is_victim(pod: PodInfo) -> bool:
    conditions = pod.pod.status.conditions
    return any(
        c.type == "DisruptionTarget" and c.status == "True" and c.reason == "PreemptionByScheduler" for c in conditions
    )


def _would_have_room(pod: PodInfo, cluster: Cluster, below: Bools) -> Bools:
    """Where there is room for the pod's requests once all lower pods are gone: a quick look at all nodes at once."""
    snapshot = cluster.snapshot
    room = np.ones(len(snapshot), dtype=np.bool_)
    for name, wanted in pod.requests.items():
        column = snapshot.resources.get(name)
        if column is None:
            return np.zeros(len(snapshot), dtype=np.bool_)
        held = np.fromiter((p.requests.get(name, 0) for p in snapshot.pod_list), np.int64, len(snapshot.pod_list))
        freed = snapshot.sum_per_node(below, held)
        room &= snapshot.allocatable[:, column] - snapshot.requested[:, column] + freed >= wanted
    return room


def _choose_victims(
    pod: PodInfo, cluster: Cluster, filters: tuple[Filter, ...], node: str, lower: list[PodInfo]
) -> _Candidate | list[str]:
    """The victims needed on a node, or why even evicting all lower pods is not enough."""
    row = cluster.snapshot.rows[node]
    with cluster.snapshot.supposing(without=lower):
        outcome = filter_nodes(pod, cluster, filters)
    if not outcome.feasible[row]:
        return outcome.reasons_of(row)
    lower.sort(key=_importance)
    breaking, others = _split_by_budget(lower, cluster)
    victims: list[PodInfo] = list(lower)
    violations = 0
    # Spare them one by one while the pod still fits: those protected by a budget first, then by importance.
    for candidate in (*breaking, *others):
        kept = [v for v in victims if v.uid != candidate.uid]
        with cluster.snapshot.supposing(without=kept):
            fits = bool(filter_nodes(pod, cluster, filters).feasible[row])
        if fits:
            victims = kept
        elif candidate in breaking:
            violations += 1
    if not victims:
        return [NO_VICTIMS]  # it fits as things are: the next cycle will find that
    return _Candidate(node, tuple(victims), violations)


def _split_by_budget(pods: Iterable[PodInfo], cluster: Cluster) -> tuple[list[PodInfo], list[PodInfo]]:
    """Pods whose eviction would break a disruption budget, and the others, both in the order given."""
    allowed: dict[tuple[str, str], int] = {}
    breaking: list[PodInfo] = []
    others: list[PodInfo] = []
    for pod in pods:
        breaks = False
        for name, (budget, selector) in cluster.budgets.get(pod.namespace, {}).items():
            if not pod.labels or selector.is_empty or not selector.matches(pod.labels):
                continue
            if pod.name in budget.status.disruptedPods:
                continue  # on its way out already, and counted
            key = (pod.namespace, name)
            left = allowed.get(key, budget.status.disruptionsAllowed or 0) - 1
            allowed[key] = left
            breaks = breaks or left < 0
        (breaking if breaks else others).append(pod)
    return breaking, others


def _best(candidates: list[_Candidate]) -> _Candidate:
    least = min(c.rank()[:4] for c in candidates)
    equal = [c for c in candidates if c.rank()[:4] == least]
    latest = max(c.first_start() for c in equal)
    return min((c for c in equal if c.first_start() == latest), key=lambda c: c.node)


def _explain(
    outcome: Outcome,
    helpful: Bools,
    has_victims: Bools,
    tried: Bools,
    pod: PodInfo,
    cluster: Cluster,
    why: dict[str, int],
) -> str:
    summary = Outcome(np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_))
    counts = {
        NOT_HELPFUL: int((~helpful).sum()),
        NO_VICTIMS: int((helpful & ~has_victims).sum()),
    }
    # Nodes with lower pods, whose eviction would not be enough: what would still be lacking.
    for name in pod.requests:
        lacking = helpful & has_victims & ~tried
        if lacking.any():
            counts[f"Insufficient {name}"] = counts.get(f"Insufficient {name}", 0) + int(
                (lacking & _short_of(name, pod, cluster)).sum()
            )
    for text, count in why.items():
        counts[text] = counts.get(text, 0) + count
    summary.reasons = [Reason("", text, count) for text, count in counts.items() if count]
    return render_failure(len(cluster.snapshot), summary)


def _short_of(name: str, pod: PodInfo, cluster: Cluster) -> Bools:
    """Nodes whose free amount of a resource is less than the pod asks for, even without lower pods."""
    snapshot = cluster.snapshot
    column = snapshot.resources.get(name)
    if column is None:
        return np.ones(len(snapshot), dtype=np.bool_)
    below = (snapshot.pod_priority < pod.priority) & (snapshot.pod_node >= 0)
    held = np.fromiter((p.requests.get(name, 0) for p in snapshot.pod_list), np.int64, len(snapshot.pod_list))
    free = snapshot.allocatable[:, column] - snapshot.requested[:, column] + snapshot.sum_per_node(below, held)
    short: Bools = free < pod.requests[name]
    return short
