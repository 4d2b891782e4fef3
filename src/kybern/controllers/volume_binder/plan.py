"""Which volume suits a claim, and what both should say. Pure.

Fed by reconcile. A volume is bound in two writes (volume first, then claim), each of which can be found half done and
carried on. Source: "Persistent Volumes", the life cycle of a volume and claim.
"""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api import codec
from kybern.api.core_v1 import ObjectReference, PersistentVolume, PersistentVolumeClaim
from kybern.api.storage_v1 import StorageClass
from kybern.machinery import labels, quantity

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONER_BETA = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
CLASS_BETA = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def class_of(obj: PersistentVolume | PersistentVolumeClaim) -> str:
    return obj.metadata.annotations.get(CLASS_BETA) or obj.spec.storageClassName or ""


def reference_to(claim: PersistentVolumeClaim) -> ObjectReference:
    return ObjectReference(
        kind="PersistentVolumeClaim",
        apiVersion="v1",
        namespace=claim.metadata.namespace,
        name=claim.metadata.name,
        uid=claim.metadata.uid,
        resourceVersion=claim.metadata.resourceVersion,
    )


def is_for(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """The volume is reserved for this claim (of this life, if it says which)."""
    reference = volume.spec.claimRef
    if reference is None:
        return False
    same = reference.namespace == claim.metadata.namespace and reference.name == claim.metadata.name
    return same and reference.uid in (None, "", claim.metadata.uid)


def _suits(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    if (volume.spec.volumeMode or "Filesystem") != (claim.spec.volumeMode or "Filesystem"):
        return False
    if class_of(volume) != class_of(claim) or not set(claim.spec.accessModes) <= set(volume.spec.accessModes):
        return False
    if (volume.spec.volumeAttributesClassName or "") != (claim.spec.volumeAttributesClassName or ""):
        return False
    wanted = claim.spec.resources.requests.get("storage", "0")
    if quantity.compare(volume.spec.capacity.get("storage", "0"), wanted) < 0:
        return False
    selector = claim.spec.selector
    return selector is None or labels.from_label_selector(selector).matches(volume.metadata.labels)


def find_volume(claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume]) -> PersistentVolume | None:
    """The one reserved for the claim, else the smallest free one that suits it."""
    best: PersistentVolume | None = None
    for volume in sorted(volumes, key=lambda v: v.metadata.name):
        if is_for(volume, claim):
            return volume
        if volume.spec.claimRef is not None or volume.metadata.deletionTimestamp is not None:
            continue
        if volume.status.phase not in (None, "Pending", "Available") or not _suits(volume, claim):
            continue
        size = volume.spec.capacity.get("storage", "0")
        if best is None or quantity.compare(size, best.spec.capacity.get("storage", "0")) < 0:
            best = volume
    return best


def waits_for_consumer(claim: PersistentVolumeClaim, storage_class: StorageClass | None) -> bool:
    """Binding is the scheduler's to start."""
    if storage_class is None or storage_class.volumeBindingMode != "WaitForFirstConsumer":
        return False
    return SELECTED_NODE not in claim.metadata.annotations


def reserve(volume: PersistentVolume, claim: PersistentVolumeClaim) -> PersistentVolume | None:
    """The volume, reserved for the claim; None if it is."""
    reference = volume.spec.claimRef
    if reference is not None and reference.uid == claim.metadata.uid:
        return None
    fresh = codec.clone(volume)
    if reference is None:
        fresh.metadata.annotations[BOUND_BY_US] = "yes"
    fresh.spec.claimRef = reference_to(claim)
    return fresh


def bind(claim: PersistentVolumeClaim, volume: PersistentVolume) -> PersistentVolumeClaim | None:
    """The claim, bound to the volume; None if it is."""
    fresh = codec.clone(claim)
    if not fresh.spec.volumeName:
        fresh.spec.volumeName = volume.metadata.name
        fresh.metadata.annotations[BOUND_BY_US] = "yes"
    fresh.metadata.annotations[BIND_COMPLETED] = "yes"
    return None if fresh == claim else fresh


def claim_status(
    claim: PersistentVolumeClaim, phase: str, volume: PersistentVolume | None
) -> PersistentVolumeClaim | None:
    """The claim with this phase, and with what its volume gives; None if it says so already."""
    fresh = codec.clone(claim)
    fresh.status.phase = phase
    if phase == "Bound" and volume is not None:
        fresh.status.accessModes = list(volume.spec.accessModes)
        if not fresh.status.capacity:
            fresh.status.capacity = dict(volume.spec.capacity)
        fresh.status.currentVolumeAttributesClassName = volume.spec.volumeAttributesClassName
    elif phase != "Bound":
        fresh.status.accessModes, fresh.status.capacity = [], {}
    return None if fresh.status == claim.status else fresh


def volume_phase(volume: PersistentVolume, claim: PersistentVolumeClaim | None) -> str:
    """Available, Bound or Released. `claim`: the one its claimRef names, if it lives."""
    reference = volume.spec.claimRef
    if reference is None:
        return "Available"
    if not reference.uid:
        return "Available"  # reserved for a claim that was not bound yet
    if claim is None or claim.metadata.uid != reference.uid:
        return "Released"
    return "Bound" if claim.spec.volumeName in (None, "", volume.metadata.name) else "Available"


def provision(claim: PersistentVolumeClaim, storage_class: StorageClass) -> PersistentVolumeClaim | None:
    """The claim, telling an external provisioner that it is its turn; None if it does."""
    fresh = codec.clone(claim)
    for name in (PROVISIONER, PROVISIONER_BETA):
        fresh.metadata.annotations[name] = storage_class.provisioner
    return None if fresh == claim else fresh
