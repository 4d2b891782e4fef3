"""NodeAffinity: which nodes a pod must have (nodeSelector, required terms) and would like (preferred terms)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kybern.machinery import labels
from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools, LabelTable
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Change, Event, Points, Rejection, Rows
from kybern.scheduler.pod_info import PodInfo

REASON = "node(s) didn't match Pod's node affinity/selector"


def _matches(pod: PodInfo, table: LabelTable, names: list[str]) -> Bools:
    wanted = pod.pod.spec.nodeSelector
    found = table.matches(labels.from_map(wanted)) if wanted else np.ones(len(names), dtype=np.bool_)
    if pod.required_nodes is not None:
        found = found & terms.match_nodes(pod.required_nodes, table, names)
    return found


def matching_nodes(pod: PodInfo, cluster: Cluster) -> Bools:
    """Nodes that the pod's selector and required terms allow."""
    snapshot = cluster.snapshot
    found: Bools = snapshot.memo(
        ("node affinity", pod.shape), lambda: _matches(pod, snapshot.node_labels, snapshot.names)
    )
    return found


def _matches_now(pod: PodInfo, change: Change) -> bool:
    table = LabelTable()
    table.append(change.new.metadata.labels)
    return bool(_matches(pod, table, [change.new.metadata.name])[0])


@contract.filter(
    "NodeAffinity",
    nodes_only=True,
    wakes={Event.NODE_ADDED: _matches_now, Event.NODE_CHANGED: _matches_now, Event.OWN_CHANGE: contract.always},
)
def node_affinity(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    if pod.pod.spec.nodeSelector or pod.required_nodes is not None:
        yield Rejection(~matching_nodes(pod, cluster), REASON, is_final=True)


@contract.score("NodeAffinity")
def preferred_nodes(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    """The weights of the preferred terms a node meets."""
    affinity = pod.pod.spec.affinity
    if affinity is None or affinity.nodeAffinity is None:
        return None
    preferred = affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution
    if not preferred:
        return None
    snapshot = cluster.snapshot
    total = np.zeros(len(snapshot), dtype=np.int64)
    for term in preferred:
        total += term.weight * terms.match_term(term.preference, snapshot.node_labels, snapshot.names)
    return contract.normalised(total[rows])
