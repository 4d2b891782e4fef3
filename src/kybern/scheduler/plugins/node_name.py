"""NodeName: a pod that names its node goes nowhere else (and past the scheduler, unless it is asked about others)."""

from __future__ import annotations

from collections.abc import Iterable

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Event, Rejection
from kybern.scheduler.pod_info import PodInfo


@contract.filter("NodeName", wakes={Event.NODE_ADDED: contract.always})
def node_name(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    if pod.node_name:
        others = ~cluster.snapshot.mask_of([pod.node_name])
        yield Rejection(others, "node(s) didn't match the requested node name", is_final=True)
