"""Whether a volume fits a claim, and which one fits best. Pure.

Source: "Persistent Volumes: Binding" in the documentation. Read by plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from kybern.machinery import labels, quantity

CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: PersistentVolume | PersistentVolumeClaim) -> str:
    return obj.metadata.annotations.get(CLASS_ANNOTATION) or obj.spec.storageClassName or ""


def is_promised(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """The volume names this claim: by name only, if a person wrote that before there was a claim."""
    ref = volume.spec.claimRef
    if ref is None or (ref.namespace, ref.name) != (claim.metadata.namespace, claim.metadata.name):
        return False
    return not ref.uid or ref.uid == claim.metadata.uid


def is_bound_to(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    return is_promised(volume, claim) and volume.spec.claimRef is not None and bool(volume.spec.claimRef.uid)


def mismatch(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Why the claim cannot have the volume that it, or the volume, asks for by name; "" if it can."""
    wanted = claim.spec.resources.requests.get("storage", "0")
    if quantity.compare(volume.spec.capacity.get("storage", "0"), wanted) < 0:
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (volume.spec.volumeAttributesClassName or "") != (claim.spec.volumeAttributesClassName or ""):
        return "volumeAttributesClassName does not match"
    if (volume.spec.volumeMode or "Filesystem") != (claim.spec.volumeMode or "Filesystem"):
        return "incompatible volumeMode"
    if not set(claim.spec.accessModes) <= set(volume.spec.accessModes):
        return "incompatible accessMode"
    return ""


def find(
    claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume], *, promised_only: bool
) -> PersistentVolume | None:
    """A volume promised to the claim, else the smallest free one that fits. Names decide between equals."""
    selector = labels.from_label_selector(claim.spec.selector) if claim.spec.selector is not None else None
    best: tuple[int, str] | None = None
    found: PersistentVolume | None = None
    for volume in volumes:
        if volume.metadata.deletionTimestamp is not None:
            continue
        if is_promised(volume, claim):
            if not mismatch(volume, claim):
                return volume
            continue
        if promised_only or volume.spec.claimRef is not None or volume.status.phase not in (None, "", "Available"):
            continue
        if mismatch(volume, claim) or (selector is not None and not selector.matches(volume.metadata.labels)):
            continue
        rank = (quantity.nano(volume.spec.capacity.get("storage", "0")), volume.metadata.name)
        if best is None or rank < best:
            best, found = rank, volume
    return found
