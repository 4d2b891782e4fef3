"""NodePorts: two pods of a node cannot have the same port of the host."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Change, Event, Rejection
from kybern.scheduler.pod_info import PodInfo


def _frees_port(pod: PodInfo, change: Change) -> bool:
    return any(mine.conflicts(other) for mine in pod.host_ports for other in change.old.host_ports)


@contract.filter("NodePorts", wakes={Event.NODE_ADDED: contract.always, Event.POD_GONE: _frees_port})
def node_ports(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    taken = np.zeros(len(cluster.snapshot), dtype=np.bool_)
    for port in pod.host_ports:
        taken |= cluster.snapshot.mask_of(cluster.snapshot.nodes_with_port(port))
    if taken.any():
        yield Rejection(taken, "node(s) didn't have free ports for the requested pod ports")
