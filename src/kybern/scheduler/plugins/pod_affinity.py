"""InterPodAffinity: near to some pods and far from others, by topology domain.

Required terms of the pod, required anti-affinity of the pods that are there (it is symmetric), and preferences of both.
Counts pods a node with bincount, and a domain by the codes of the topology key's column.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import MOST_POINTS, Change, Event, Points, Rejection, Rows
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Ints, Snapshot
from kybern.scheduler.terms import PodTerm

AFFINITY_REASON = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY_REASON = "node(s) didn't match pod anti-affinity rules"
EXISTING_REASON = "node(s) didn't satisfy existing pods anti-affinity rules"
HARD_WEIGHT = 1  # what a required affinity of a pod that is there is worth in scores (kube-scheduler: 1)


def per_domain(snapshot: Snapshot, topology_key: str, per_node: Ints) -> Ints:
    """For each node, the sum over the nodes of its domain; 0 where a node lacks the key."""
    codes = snapshot.node_labels.codes(topology_key)
    known = codes >= 0
    if not known.any():
        return np.zeros(len(snapshot), dtype=np.int64)
    sums = np.bincount(codes[known], per_node[known], minlength=int(codes.max()) + 1).astype(np.int64)
    return np.where(known, sums[codes], 0)


def _pods_matching(term: PodTerm, cluster: Cluster) -> Bools:
    snapshot = cluster.snapshot
    found = snapshot.pod_labels.matches(term.selector)
    if term.namespace_selector is None:
        return found & snapshot.in_namespaces(term.namespaces)
    if term.namespace_selector.is_empty:
        return found
    spaces = {n for n in cluster.namespaces if term.admits(n, cluster.labels_of_namespace(n))}
    return found & snapshot.in_namespaces(spaces | term.namespaces)


def _own_affinity(pod: PodInfo, cluster: Cluster, wanted: tuple[PodTerm, ...]) -> Bools:
    """Nodes near to a pod that all of the terms speak of."""
    snapshot = cluster.snapshot
    # One pod must match every term; where it is then counts for each term's key.
    matching = np.ones(len(snapshot.pod_list), dtype=np.bool_)
    for term in wanted:
        matching &= _pods_matching(term, cluster)
    per_node = snapshot.per_node(matching)
    near = np.ones(len(snapshot), dtype=np.bool_)
    has_keys = np.ones(len(snapshot), dtype=np.bool_)
    anywhere = False
    for term in wanted:
        counts = per_domain(snapshot, term.topology_key, per_node)
        anywhere = anywhere or bool(counts.any())
        near &= counts > 0
        has_keys &= snapshot.node_labels.codes(term.topology_key) >= 0
    if not anywhere and all(t.matches(pod, cluster.labels_of_namespace(pod.namespace)) for t in wanted):
        return has_keys  # the first of a group that wants to be together
    return near


def _concerns(pod: PodInfo, change: Change) -> bool:
    """Whether a pod that came, changed or went matters to this pod's terms, or its terms to this pod."""
    other: PodInfo = change.new or change.old
    mine = terms.pod_terms(pod)
    # Labels of namespaces are not at hand: a selector of them is taken to match.
    if any(_may_match(t, other) for t in (*mine.affinity, *mine.anti_affinity)):
        return True
    return any(_may_match(t, pod) for t in terms.pod_terms(change.old or other).anti_affinity)


def _may_match(term: PodTerm, pod: PodInfo) -> bool:
    if pod.namespace not in term.namespaces and term.namespace_selector is None:
        return False
    return term.selector.matches(pod.labels)


def _concerns_change(pod: PodInfo, change: Change) -> bool:
    return change.old.labels != change.new.labels and (
        _concerns(pod, Change(change.event, None, change.new)) or _concerns(pod, Change(change.event, change.old, None))
    )


def _labels_changed(pod: PodInfo, change: Change) -> bool:
    return change.old is None or change.old.metadata.labels != change.new.metadata.labels


@contract.filter(
    "InterPodAffinity",
    wakes={
        Event.NODE_ADDED: contract.always,
        Event.NODE_CHANGED: _labels_changed,
        Event.POD_PLACED: _concerns,
        Event.POD_CHANGED: _concerns_change,
        Event.POD_GONE: _concerns,
        Event.OWN_CHANGE: contract.always,
        Event.NAMESPACE: contract.always,
    },
)
def inter_pod_affinity(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    snapshot = cluster.snapshot
    mine = terms.pod_terms(pod)
    if mine.affinity:
        yield Rejection(~_own_affinity(pod, cluster, mine.affinity), AFFINITY_REASON, is_final=True)
    if mine.anti_affinity:
        met = np.zeros(len(snapshot), dtype=np.bool_)
        for term in mine.anti_affinity:
            met |= per_domain(snapshot, term.topology_key, snapshot.per_node(_pods_matching(term, cluster))) > 0
        yield Rejection(met, ANTI_AFFINITY_REASON)
    own_labels = cluster.labels_of_namespace(pod.namespace)
    met = np.zeros(len(snapshot), dtype=np.bool_)
    for term, where in snapshot.terms.items():
        if term.kind == terms.ANTI_AFFINITY and term.matches(pod, own_labels):
            met |= per_domain(snapshot, term.topology_key, snapshot.counts_of(where)) > 0
    if met.any():
        yield Rejection(met, EXISTING_REASON)


_WORTH = {terms.PREFERRED: 1, terms.PREFERRED_ANTI: -1}


@contract.score("InterPodAffinity")
def preferred_neighbours(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    snapshot = cluster.snapshot
    mine = terms.pod_terms(pod)
    total = np.zeros(len(snapshot), dtype=np.int64)
    for term in (*mine.preferred, *mine.preferred_anti):
        counts = per_domain(snapshot, term.topology_key, snapshot.per_node(_pods_matching(term, cluster)))
        total += _WORTH[term.kind] * term.weight * counts
    own_labels = cluster.labels_of_namespace(pod.namespace)
    for term, where in snapshot.terms.items():
        worth = HARD_WEIGHT if term.kind == terms.AFFINITY else _WORTH.get(term.kind, 0) * term.weight
        if worth and term.matches(pod, own_labels):
            total += worth * per_domain(snapshot, term.topology_key, snapshot.counts_of(where))
    chosen = total[rows]
    if not len(chosen) or chosen.max() == chosen.min():
        return None
    points: Points = np.floor((chosen - chosen.min()) * MOST_POINTS / (chosen.max() - chosen.min()))
    return points
