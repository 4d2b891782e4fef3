"""Decide where one pod goes: filter, score, select. Called by run for each pod of the queue; binds nothing.

`decide` returns a Decision, which is kept as the record of why. Pure but for the dice that choose among equals.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.plugins.contract import Filter, Rejection, Unplaceable
from kybern.scheduler.plugins.volume_binding import VolumeStep, plan_volumes
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.profile import Profile

NO_NODES = "no nodes available to schedule pods"
MOST_SHOWN = 5  # nodes with points in a record
Shown = tuple[tuple[str, float, tuple[tuple[str, float], ...]], ...]  # (node, total, (plugin, weighted points))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule excluded nodes, and how many."""

    plugin: str
    text: str
    nodes: int
    is_final: bool = False


@dataclass(slots=True)
class Outcome:
    """What the filters made of the nodes."""

    feasible: Bools
    final: Bools  # excluded for good: preempting there cannot help
    reasons: list[Reason] = field(default_factory=list)
    blanket: str = ""  # the reason, if it is not about nodes
    plugins: set[str] = field(default_factory=set)  # that excluded a node
    excluded: list[Bools] = field(default_factory=list)  # by each of the reasons

    def reasons_of(self, row: int) -> list[str]:
        """What excluded one node."""
        return [reason.text for reason, nodes in zip(self.reasons, self.excluded, strict=True) if nodes[row]]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a pod goes and why, or why it goes nowhere."""

    pod: str
    node: str  # "": nowhere
    nodes: int
    feasible: int
    reasons: tuple[Reason, ...] = ()
    points: Shown = ()  # of the best nodes
    message: str = ""
    plugins: frozenset[str] = frozenset()
    volumes: tuple[VolumeStep, ...] = ()


def run_filters(pod: PodInfo, cluster: Cluster, filters: Iterable[Filter]) -> Outcome:
    """Which nodes can take the pod as the snapshot is. A node counts for the first rule that excludes it."""
    snapshot = cluster.snapshot
    nothing = np.zeros(len(snapshot), dtype=np.bool_)
    outcome = Outcome(~nothing, nothing.copy())
    named = terms.named_nodes(pod.required_nodes)
    if named is not None and not named:
        _give_up(outcome, "NodeAffinity", Unplaceable("pod affinity terms conflict"))
        return outcome
    if named is not None:
        # Upstream leaves these out before any rule is asked, and says so in these words.
        others = ~snapshot.mask_of(named)
        text = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
        _exclude(outcome, "NodeAffinity", [Rejection(others, text, is_final=True)])
    for rule in filters:
        if not outcome.feasible.any():
            break
        try:
            _exclude(outcome, rule.name, _ask(rule, pod, cluster))
        except Unplaceable as found:
            _give_up(outcome, rule.name, found)
            break
    return outcome


def _give_up(outcome: Outcome, plugin: str, found: Unplaceable) -> None:
    outcome.blanket = found.reason
    outcome.feasible = np.zeros(len(outcome.feasible), dtype=np.bool_)
    outcome.final = np.full(len(outcome.feasible), found.is_final)
    outcome.plugins = {plugin}


def _ask(rule: Filter, pod: PodInfo, cluster: Cluster) -> list[Rejection]:
    if not rule.nodes_only:
        return list(rule.run(pod, cluster))
    found: list[Rejection] = cluster.snapshot.memo((rule.name, pod.shape), lambda: list(rule.run(pod, cluster)))
    return found


def _exclude(outcome: Outcome, plugin: str, rejections: list[Rejection]) -> None:
    here = outcome.feasible.copy()
    for rejection in rejections:
        hit = rejection.nodes & here
        count = int(hit.sum())
        if not count:
            continue
        outcome.plugins.add(plugin)
        outcome.reasons.append(Reason(plugin, rejection.reason, count, rejection.is_final))
        outcome.excluded.append(hit)
        outcome.feasible &= ~hit
        if rejection.is_final:
            outcome.final |= hit


def filter_nodes(pod: PodInfo, cluster: Cluster, filters: tuple[Filter, ...]) -> Outcome:
    """`run_filters`, with room left to the pods that were promised it and are as important."""
    promised = [
        (other, node)
        for node, pods in cluster.nominated.items()
        for other in pods.values()
        if other.priority >= pod.priority and other.uid != pod.uid and node in cluster.snapshot.rows
    ]
    if not promised:
        return run_filters(pod, cluster, filters)
    with cluster.snapshot.supposing(placed=promised):
        outcome = run_filters(pod, cluster, filters)
    if outcome.feasible.any():
        # They may never come: what fits only because of them (affinity) does not fit.
        without = run_filters(pod, cluster, filters)
        lost = outcome.feasible & ~without.feasible
        if lost.any():
            outcome.feasible &= without.feasible
            outcome.final |= lost & without.final
            outcome.plugins |= without.plugins
            outcome.reasons, outcome.excluded = without.reasons, without.excluded
    return outcome


def decide(pod: PodInfo, cluster: Cluster, profile: Profile, rng: random.Random) -> tuple[Decision, Outcome]:
    """Choose a node for a pod."""
    snapshot = cluster.snapshot
    total = len(snapshot)
    outcome = filter_nodes(pod, cluster, profile.filters)
    rows = np.flatnonzero(outcome.feasible)
    reasons, plugins = tuple(outcome.reasons), frozenset(outcome.plugins)
    if not len(rows):
        message = render_failure(total, outcome)
        return Decision(pod.key, "", total, 0, reasons, message=message, plugins=plugins), outcome
    shown: Shown = ()
    if pod.nominated and outcome.feasible[snapshot.rows.get(pod.nominated, 0)] and pod.nominated in snapshot.rows:
        chosen = pod.nominated
    else:
        chosen, shown = _select(pod, cluster, profile, rows, rng)
    volumes = tuple(plan_volumes(pod, cluster, chosen)) if pod.claims else ()
    return Decision(pod.key, chosen, total, len(rows), reasons, shown, plugins=plugins, volumes=volumes), outcome


def _select(
    pod: PodInfo,
    cluster: Cluster,
    profile: Profile,
    rows: np.ndarray[tuple[int], np.dtype[np.intp]],
    rng: random.Random,
) -> tuple[str, Shown]:
    """The node with most points, and the best few with theirs."""
    names = cluster.snapshot.names
    if len(rows) == 1:
        return names[rows[0]], ()
    total = np.zeros(len(rows))
    parts = []
    for rule, weight in profile.scores:
        points = rule.run(pod, cluster, rows)
        if points is not None:
            parts.append((rule.name, points * weight))
            total += points * weight
    best = np.flatnonzero(total == total.max())
    choice = int(best[rng.randrange(len(best))])
    # Sorted only where it must be: in a big cluster many are as good as the best.
    leaders = best if len(best) >= MOST_SHOWN else np.argsort(-total, kind="stable")
    order = [choice, *(int(i) for i in leaders[:MOST_SHOWN] if i != choice)][:MOST_SHOWN]
    shown = tuple(
        (names[rows[i]], float(total[i]), tuple((name, float(points[i])) for name, points in parts)) for i in order
    )
    return names[rows[choice]], shown


def render_failure(nodes: int, outcome: Outcome, preemption: str = "") -> str:
    """Upstream's words: `0/3 nodes are available: 1 Insufficient cpu, 2 ...`, and what came of preemption."""
    if not nodes:
        return NO_NODES
    counts: dict[str, int] = {}
    for reason in outcome.reasons:
        counts[reason.text] = counts.get(reason.text, 0) + reason.nodes
    texts = sorted(f"{count} {text}" for text, count in counts.items())
    # The words at the ends are those of kube-scheduler 1.36, where dynamic resources have their say before preemption.
    if outcome.blanket:
        return f"0/{nodes} nodes are available: {outcome.blanket}. not found"
    message = f"0/{nodes} nodes are available: {', '.join(texts)}."
    return f"{message} no new claims to deallocate, preemption: {preemption}" if preemption else message
