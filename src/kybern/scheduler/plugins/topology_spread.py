"""PodTopologySpread: keep the pods of a selector even over domains, as a rule (hard) or a wish (soft).

Pods without constraints of their own, but of a service or a set, are spread softly by host and zone.
Source: "Pod Topology Spread Constraints".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kybern.api.core_v1 import TopologySpreadConstraint
from kybern.machinery import labels
from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.plugins import contract, node_affinity, taint_toleration
from kybern.scheduler.plugins.contract import MOST_POINTS, Change, Event, Points, Rejection, Rows
from kybern.scheduler.plugins.pod_affinity import per_domain
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Ints

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
REASON = "node(s) didn't match pod topology spread constraints"
MOST_REMEMBERED = 1024  # sets of labels in a namespace
MISSING_REASON = f"{REASON} (missing required label)"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint, compiled."""

    topology_key: str
    max_skew: int
    selector: labels.Selector
    min_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False


def _compile(constraint: TopologySpreadConstraint, pod: PodInfo) -> Constraint:
    selector = terms.compile_selector(constraint.labelSelector)
    return Constraint(
        constraint.topologyKey,
        constraint.maxSkew,
        terms.with_keys(selector, pod.labels, constraint.matchLabelKeys),
        constraint.minDomains or 1,
        (constraint.nodeAffinityPolicy or "Honor") == "Honor",
        (constraint.nodeTaintsPolicy or "Ignore") == "Honor",
    )


def _constraints(pod: PodInfo, action: str) -> list[Constraint]:
    found = pod.memo.get(action)
    if found is None:
        wanted = (c for c in pod.pod.spec.topologySpreadConstraints if c.whenUnsatisfiable == action)
        found = pod.memo[action] = [_compile(c, pod) for c in wanted]
    assert isinstance(found, list)
    return found


def _default_constraints(pod: PodInfo, cluster: Cluster) -> list[Constraint]:
    """Soft ones, for pods of services and sets (kube-scheduler: defaultingType System)."""
    if pod.pod.spec.topologySpreadConstraints or not pod.labels:
        return []
    known = cluster.of_owners.setdefault(pod.namespace, {})
    found = known.get(key := frozenset(pod.labels.items()))
    if found is None:
        if len(known) >= MOST_REMEMBERED:
            known.clear()
        found = known[key] = _spread_by_owners(pod, cluster)
    assert isinstance(found, list)
    return found


def _spread_by_owners(pod: PodInfo, cluster: Cluster) -> list[Constraint]:
    owners = [s for s in cluster.owners.get(pod.namespace, {}).values() if s.matches(pod.labels)]
    if not owners:
        return []
    selector = labels.Selector(tuple(dict.fromkeys(r for s in owners for r in s.requirements)))
    return [Constraint(HOSTNAME, 3, selector), Constraint(ZONE, 5, selector)]


def _counted_nodes(pod: PodInfo, cluster: Cluster, constraint: Constraint) -> Bools:
    """Nodes whose pods and domains count."""
    nodes = np.ones(len(cluster.snapshot), dtype=np.bool_)
    if constraint.honors_affinity:
        nodes &= node_affinity.matching_nodes(pod, cluster)
    if constraint.honors_taints:
        for rejection in taint_toleration.taint_toleration.run(pod, cluster):
            nodes &= ~rejection.nodes
    return nodes


def _pods_per_node(pod: PodInfo, cluster: Cluster, selector: labels.Selector) -> Ints:
    snapshot = cluster.snapshot
    alive = snapshot.in_namespace(pod.namespace) & ~snapshot.pod_leaving
    return snapshot.per_node(snapshot.pod_labels.matches(selector) & alive)


def _spread_concerns(pod: PodInfo, change: Change) -> bool:
    constraints = _constraints(pod, "DoNotSchedule")
    pods = [p for p in (change.old, change.new) if p is not None]
    return any(p.namespace == pod.namespace and c.selector.matches(p.labels) for p in pods for c in constraints)


def _domain_changed(pod: PodInfo, change: Change) -> bool:
    keys = [c.topologyKey for c in pod.pod.spec.topologySpreadConstraints]
    old = change.old.metadata.labels if change.old is not None else {}
    new = change.new.metadata.labels if change.new is not None else {}
    if change.old is not None and change.new is not None and change.old.spec.taints != change.new.spec.taints:
        return True
    return any(old.get(k) != new.get(k) for k in keys) or old != new


@contract.filter(
    "PodTopologySpread",
    wakes={
        Event.NODE_ADDED: _domain_changed,
        Event.NODE_CHANGED: _domain_changed,
        Event.POD_PLACED: _spread_concerns,
        Event.POD_CHANGED: _spread_concerns,
        Event.POD_GONE: _spread_concerns,
        Event.OWN_CHANGE: contract.always,
    },
)
def topology_spread(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    constraints = _constraints(pod, "DoNotSchedule")
    if not constraints:
        return
    snapshot = cluster.snapshot
    has_all = np.ones(len(snapshot), dtype=np.bool_)
    for constraint in constraints:
        has_all &= snapshot.node_labels.codes(constraint.topology_key) >= 0
    lacking, uneven = np.zeros(len(snapshot), dtype=np.bool_), np.zeros(len(snapshot), dtype=np.bool_)
    for constraint in constraints:
        codes = snapshot.node_labels.codes(constraint.topology_key)
        lacking |= codes < 0
        counted = has_all & _counted_nodes(pod, cluster, constraint)
        per_node = np.where(counted, _pods_per_node(pod, cluster, constraint.selector), 0)
        in_domain = per_domain(snapshot, constraint.topology_key, per_node)
        domains = np.unique(codes[counted])
        fewest = int(in_domain[counted].min()) if len(domains) >= constraint.min_domains and len(domains) else 0
        self_match = int(constraint.selector.matches(pod.labels))
        uneven |= in_domain + self_match - fewest > constraint.max_skew
    if lacking.any():
        yield Rejection(lacking, MISSING_REASON, is_final=True)
    yield Rejection(uneven & ~lacking, REASON)


@contract.score("PodTopologySpread")
def even_spread(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    """The fewer pods of the selector in a node's domains, the better; domains of large topologies weigh more."""
    own = _constraints(pod, "ScheduleAnyway")
    constraints = own or _default_constraints(pod, cluster)
    if not constraints or not len(rows):
        return None
    snapshot = cluster.snapshot
    has_all = np.ones(len(snapshot), dtype=np.bool_)
    if own:
        for constraint in own:
            has_all &= snapshot.node_labels.codes(constraint.topology_key) >= 0
    total = np.zeros(len(rows), dtype=np.float64)
    considered = has_all[rows]
    counted_by: dict[labels.Selector, Ints] = {}
    for constraint in constraints:
        codes = snapshot.node_labels.codes(constraint.topology_key)
        here = codes[rows]
        per_node = counted_by.get(constraint.selector)
        if per_node is None:
            per_node = counted_by[constraint.selector] = _pods_per_node(pod, cluster, constraint.selector)
        if constraint.topology_key == HOSTNAME:
            size, counts = int(considered.sum()), per_node[rows]
        else:
            counted = has_all & _counted_nodes(pod, cluster, constraint)
            in_domain = per_domain(snapshot, constraint.topology_key, np.where(counted, per_node, 0))
            size = int(np.count_nonzero(np.bincount(here[considered & (here >= 0)])))
            counts = in_domain[rows]
        points = counts * np.log(size + 2) + (constraint.max_skew - 1)
        total += np.where(here >= 0, points, 0.0)
    return _invert(np.floor(total + 0.5), considered)


def _invert(total: Points, considered: Bools) -> Points:
    if not considered.any():
        return np.zeros(len(total))
    most, least = total[considered].max(), total[considered].min()
    points = np.full(len(total), MOST_POINTS) if most == 0 else np.floor(MOST_POINTS * (most + least - total) / most)
    return np.where(considered, points, 0.0)
