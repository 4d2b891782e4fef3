"""TaintToleration: taints keep pods away (NoSchedule, NoExecute), or would rather (PreferNoSchedule)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Change, Event, Points, Rejection, Rows
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Snapshot, Words

REASON = "node(s) had untolerated taint(s)"
_HARD = ("NoSchedule", "NoExecute")


def _untolerated(pod: PodInfo, snapshot: Snapshot, effects: tuple[str, ...]) -> Words:
    """The bits of taints the pod does not tolerate."""
    mask = [0] * snapshot.taint_bits.shape[1]
    for taint, bit in snapshot.taints.items():
        if taint.effect in effects and not terms.tolerates(
            pod.pod.spec.tolerations, taint.key, taint.value, taint.effect
        ):
            mask[bit // 64] |= 1 << (bit % 64)
    return np.array(mask, dtype=np.uint64)


def _tolerated_now(pod: PodInfo, change: Change) -> bool:
    taints = [t for t in change.new.spec.taints if t.effect in _HARD]
    return all(terms.tolerates(pod.pod.spec.tolerations, t.key, t.value or "", t.effect) for t in taints)


@contract.filter(
    "TaintToleration",
    nodes_only=True,
    wakes={Event.NODE_ADDED: _tolerated_now, Event.NODE_CHANGED: _tolerated_now, Event.OWN_CHANGE: contract.always},
)
def taint_toleration(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    mask = _untolerated(pod, cluster.snapshot, _HARD)
    if mask.any():
        yield Rejection(((cluster.snapshot.taint_bits & mask) != 0).any(axis=1), REASON, is_final=True)


@contract.score("TaintToleration")
def fewer_taints(pod: PodInfo, cluster: Cluster, rows: Rows) -> Points | None:
    """The fewer taints that would rather not have the pod, the better."""
    mask = _untolerated(pod, cluster.snapshot, ("PreferNoSchedule",))
    if not mask.any():
        return None
    met = cluster.snapshot.taint_bits[rows] & mask
    return contract.normalised(np.bitwise_count(met).sum(axis=1).astype(np.int64), reverse=True)
