"""VolumeBinding: nodes from which all volumes of a pod's claims can be reached, bound already or to be bound.

A claim of a class that waits for its first consumer is bound to a free volume the node reaches, or provisioned for the
node: `plan_volumes` says which, once cycle has chosen the node; bind carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kybern.api.core_v1 import TopologySelectorTerm
from kybern.machinery import quantity
from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.columns import Bools
from kybern.scheduler.objects import ClaimView, ClassView, PersistentVolumeView
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Event, Rejection, Unplaceable
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Snapshot

NO_PROVISIONER = "kubernetes.io/no-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
LOST_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(frozen=True, slots=True)
class BindVolume:
    """Promise a free volume to a claim."""

    volume: str
    namespace: str
    claim: str
    claim_uid: str


@dataclass(frozen=True, slots=True)
class ProvisionVolume:
    """Have a volume made for a claim, where the pod will be."""

    namespace: str
    claim: str
    node: str


VolumeStep = BindVolume | ProvisionVolume


def is_bound(claim: ClaimView) -> bool:
    return bool(claim.spec.volumeName) and (
        BIND_COMPLETED in claim.metadata.annotations or claim.status.phase == "Bound"
    )


def claims_of(pod: PodInfo, cluster: Cluster) -> Iterator[ClaimView]:
    """The claims a pod uses. Raises Unplaceable for one that cannot be used."""
    for name, is_own in pod.claims:
        claim = cluster.claims.get(f"{pod.namespace}/{name}")
        if claim is None:
            if is_own:
                why = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                raise Unplaceable(why)
            raise Unplaceable(f'persistentvolumeclaim "{name}" not found')
        if is_own and not any(o.controller and o.uid == pod.uid for o in claim.metadata.ownerReferences):
            why = f"PVC {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
            raise Unplaceable(why)
        if claim.status.phase == "Lost":
            volume = claim.spec.volumeName or ""
            raise Unplaceable(f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"')
        if claim.metadata.deletionTimestamp is not None:
            raise Unplaceable(f'persistentvolumeclaim "{name}" is being deleted')
        yield claim


def reach(volume: PersistentVolumeView, snapshot: Snapshot) -> Bools:
    """Nodes that a volume can be reached from."""
    affinity = volume.spec.nodeAffinity
    if affinity is None or affinity.required is None:
        return np.ones(len(snapshot), dtype=np.bool_)
    return terms.match_nodes(affinity.required, snapshot.node_labels, snapshot.names)


def _class_of(claim: ClaimView, cluster: Cluster) -> ClassView | None:
    return cluster.classes.get(claim.spec.storageClassName or "")


def _waits(claim: ClaimView, cluster: Cluster) -> bool:
    found = _class_of(claim, cluster)
    return found is not None and found.volumeBindingMode == "WaitForFirstConsumer"


def _fits(volume: PersistentVolumeView, claim: ClaimView, cluster: Cluster) -> bool:
    """Whether a claim may have a volume."""
    meta, spec, key = claim.metadata, volume.spec, f"{claim.metadata.namespace}/{claim.metadata.name}"
    promised = cluster.promised_volumes.get(volume.metadata.name)
    if promised is not None and promised != key:
        return False
    ref = spec.claimRef
    if ref is not None:
        is_ours = (ref.namespace, ref.name) == (meta.namespace, meta.name) and ref.uid in (None, "", meta.uid)
        if not is_ours:
            return False
    elif volume.status.phase not in (None, "", "Available"):
        return False
    if volume.metadata.deletionTimestamp is not None:
        return False
    if (spec.storageClassName or "") != (claim.spec.storageClassName or ""):
        return False
    if (spec.volumeMode or "Filesystem") != (claim.spec.volumeMode or "Filesystem"):
        return False
    if not set(claim.spec.accessModes) <= set(spec.accessModes):
        return False
    wanted = claim.spec.resources.requests.get("storage", "0")
    if quantity.compare(spec.capacity.get("storage", "0"), wanted) < 0:
        return False
    selector = claim.spec.selector
    return selector is None or terms.compile_selector(selector).matches(volume.metadata.labels)


def _size(volume: PersistentVolumeView) -> tuple[int, int, str]:
    # Promised to the claim already, then the smallest; the name makes it the same each time.
    promised = 0 if volume.spec.claimRef is not None else 1
    return promised, quantity.nano(volume.spec.capacity.get("storage", "0")), volume.metadata.name


def _can_provision(claim: ClaimView, cluster: Cluster) -> Bools:
    snapshot = cluster.snapshot
    found = _class_of(claim, cluster)
    if found is None or found.provisioner in ("", NO_PROVISIONER):
        return np.zeros(len(snapshot), dtype=np.bool_)
    allowed = _in_topologies(found.allowedTopologies, snapshot)
    selected = claim.metadata.annotations.get(SELECTED_NODE)
    return allowed & snapshot.mask_of([selected]) if selected else allowed


def _in_topologies(topologies: list[TopologySelectorTerm], snapshot: Snapshot) -> Bools:
    if not topologies:
        return np.ones(len(snapshot), dtype=np.bool_)
    found = np.zeros(len(snapshot), dtype=np.bool_)
    for term in topologies:
        every = np.ones(len(snapshot), dtype=np.bool_)
        for expression in term.matchLabelExpressions:
            every &= snapshot.node_labels.holds(terms.requirement_in(expression.key, expression.values))
        found |= every
    return found


def _satisfiable(waiting: list[ClaimView], cluster: Cluster) -> Bools:
    """Nodes where every claim finds a volume of its own, or can have one made."""
    snapshot = cluster.snapshot
    ok = np.ones(len(snapshot), dtype=np.bool_)
    if len(waiting) == 1:
        claim = waiting[0]
        ok &= _can_provision(claim, cluster)
        for volume in cluster.volumes.values():
            if _fits(volume, claim, cluster):
                ok |= reach(volume, snapshot)
        return ok
    for row, name in enumerate(snapshot.names):
        ok[row] = _choose(waiting, cluster, name) is not None
    return ok


def _choose(waiting: list[ClaimView], cluster: Cluster, node: str) -> list[VolumeStep] | None:
    """A volume (or its making) for each claim on a node; the claims that are hardest to satisfy go first."""
    snapshot, row = cluster.snapshot, cluster.snapshot.rows[node]
    taken: set[str] = set()
    steps: list[VolumeStep] = []
    size = lambda c: quantity.nano(c.spec.resources.requests.get("storage", "0"))  # noqa: E731
    for claim in sorted(waiting, key=size):
        meta = claim.metadata
        free = [
            v
            for v in cluster.volumes.values()
            if v.metadata.name not in taken and _fits(v, claim, cluster) and reach(v, snapshot)[row]
        ]
        if free:
            best = min(free, key=_size)
            taken.add(best.metadata.name)
            steps.append(BindVolume(best.metadata.name, meta.namespace, meta.name, meta.uid))
        elif _can_provision(claim, cluster)[row]:
            steps.append(ProvisionVolume(meta.namespace, meta.name, node))
        else:
            return None
    return steps


def plan_volumes(pod: PodInfo, cluster: Cluster, node: str) -> list[VolumeStep]:
    """What must be done about the pod's unbound claims, once it is to go to a node the filter let through."""
    waiting = [c for c in claims_of(pod, cluster) if not is_bound(c)]
    return (_choose(waiting, cluster, node) or []) if waiting else []


@contract.filter(
    "VolumeBinding",
    wakes={
        Event.NODE_ADDED: contract.always,
        Event.NODE_CHANGED: contract.always,
        Event.CLAIM: lambda pod, change: change.new.metadata.namespace == pod.namespace,
        Event.VOLUME: contract.always,
        Event.CLASS: contract.always,
        Event.CSI_NODE: contract.always,
    },
)
def volume_binding(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    if not pod.claims:
        return
    snapshot = cluster.snapshot
    waiting: list[ClaimView] = []
    lost, far = np.zeros(len(snapshot), dtype=np.bool_), np.zeros(len(snapshot), dtype=np.bool_)
    for claim in claims_of(pod, cluster):
        if is_bound(claim):
            volume = cluster.volumes.get(claim.spec.volumeName or "")
            if volume is None:
                lost[:] = True
            else:
                far |= ~reach(volume, snapshot)
        elif not _waits(claim, cluster):
            raise Unplaceable("pod has unbound immediate PersistentVolumeClaims")
        else:
            waiting.append(claim)
    if lost.any():
        yield Rejection(lost, LOST_VOLUME, is_final=True)
    if far.any():
        yield Rejection(far, CONFLICT, is_final=True)
    if waiting:
        yield Rejection(~_satisfiable(waiting, cluster), NO_VOLUME, is_final=True)
