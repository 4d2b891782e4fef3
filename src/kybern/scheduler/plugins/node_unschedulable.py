"""NodeUnschedulable: a cordoned node takes only pods that tolerate it."""

from __future__ import annotations

from collections.abc import Iterable

from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Change, Event, Rejection
from kybern.scheduler.pod_info import PodInfo

TAINT = "node.kubernetes.io/unschedulable"


def _uncordoned(pod: PodInfo, change: Change) -> bool:
    return not change.new.spec.unschedulable and (change.old is None or bool(change.old.spec.unschedulable))


@contract.filter(
    "NodeUnschedulable",
    nodes_only=True,
    wakes={Event.NODE_ADDED: _uncordoned, Event.NODE_CHANGED: _uncordoned, Event.OWN_CHANGE: contract.always},
)
def node_unschedulable(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    if cluster.snapshot.unschedulable.any() and not terms.tolerates(pod.pod.spec.tolerations, TAINT, "", "NoSchedule"):
        yield Rejection(cluster.snapshot.unschedulable, "node(s) were unschedulable", is_final=True)
