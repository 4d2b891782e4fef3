"""VolumeRestrictions, VolumeZone, NodeVolumeLimits: who uses a volume, where it is, how many a node takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from kybern.scheduler import terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.objects import ClaimView, PersistentVolumeView
from kybern.scheduler.plugins import contract
from kybern.scheduler.plugins.contract import Change, Event, Rejection
from kybern.scheduler.pod_info import PodInfo

IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
OTHER_ZONE = "node(s) had no available volume zone"
TOO_MANY = "node(s) exceed max volume count"
# A volume says where it is in these labels; several zones are joined by "__".
TOPOLOGY = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)


def _uses_claims(pod: PodInfo, change: Change) -> bool:
    return bool(change.old.claims)


_CLAIM_EVENTS = {
    Event.NODE_ADDED: contract.always,
    Event.NODE_CHANGED: contract.always,
    Event.CLAIM: contract.always,
    Event.VOLUME: contract.always,
    Event.CLASS: contract.always,
    Event.CSI_NODE: contract.always,
    Event.POD_GONE: _uses_claims,
}


@contract.filter("VolumeRestrictions", wakes={Event.POD_GONE: _uses_claims, Event.CLAIM: contract.always})
def volume_restrictions(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    for name, _ in pod.claims:
        key = f"{pod.namespace}/{name}"
        claim = cluster.claims.get(key)
        if claim is None or "ReadWriteOncePod" not in claim.spec.accessModes:
            continue
        if cluster.snapshot.claims.get(key):
            yield Rejection(np.ones(len(cluster.snapshot), dtype=np.bool_), IN_USE)
            return


def _bound(pod: PodInfo, cluster: Cluster) -> Iterator[PersistentVolumeView]:
    """The volumes of a pod's claims that are bound."""
    for name, _ in pod.claims:
        claim = cluster.claims.get(f"{pod.namespace}/{name}")
        volume = cluster.volumes.get(claim.spec.volumeName or "") if claim is not None else None
        if volume is not None:
            yield volume


@contract.filter("VolumeZone", wakes=_CLAIM_EVENTS)
def volume_zone(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    labels = cluster.snapshot.node_labels
    wanted = [
        (key, volume.metadata.labels[key])
        for volume in _bound(pod, cluster)
        for key in TOPOLOGY
        if key in volume.metadata.labels
    ]
    if not wanted:
        return
    elsewhere = np.zeros(len(cluster.snapshot), dtype=np.bool_)
    for key, zones in wanted:
        elsewhere |= ~labels.holds(terms.requirement_in(key, zones.split("__")))
    # Nodes that say nothing of zones and regions are taken to reach everything.
    silent = np.ones(len(cluster.snapshot), dtype=np.bool_)
    for key in TOPOLOGY:
        silent &= labels.codes(key) < 0
    yield Rejection(elsewhere & ~silent, OTHER_ZONE, is_final=True)


def _attached(pod: PodInfo, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """(driver, volume) of what a pod has attached; of a volume yet to be made, its claim stands for it."""
    for name, _ in pod.claims:
        key = f"{pod.namespace}/{name}"
        claim = cluster.claims.get(key)
        if claim is not None and (found := _driver_of(claim, cluster)):
            yield found, claim.spec.volumeName or key


def _driver_of(claim: ClaimView, cluster: Cluster) -> str:
    volume = cluster.volumes.get(claim.spec.volumeName or "")
    if volume is not None:
        return volume.spec.csi.driver if volume.spec.csi is not None else ""
    storage_class = cluster.classes.get(claim.spec.storageClassName or "")
    return storage_class.provisioner if storage_class is not None else ""


@contract.filter("NodeVolumeLimits", wakes=_CLAIM_EVENTS)
def node_volume_limits(pod: PodInfo, cluster: Cluster) -> Iterable[Rejection]:
    if not pod.claims or not cluster.csi_nodes:
        return
    wanted = set(_attached(pod, cluster))
    drivers = {driver for driver, _ in wanted}
    full = []
    for name, csi_node in cluster.csi_nodes.items():
        limits = {d.name: d.allocatable.count for d in csi_node.spec.drivers if d.allocatable is not None}
        limited = {d: limits[d] for d in drivers if limits.get(d) is not None}
        if not limited or name not in cluster.snapshot.rows:
            continue
        here = {a for p in cluster.snapshot.pods_of.get(name, {}).values() if p.claims for a in _attached(p, cluster)}
        if any(
            sum(d == driver for d, _ in here | wanted) > limit and any(d == driver for d, _ in wanted - here)
            for driver, limit in limited.items()
            if limit is not None
        ):
            full.append(name)
    if full:
        yield Rejection(cluster.snapshot.mask_of(full), TOO_MANY)
