"""What to do about a claim, and about a volume. Pure.

Fed and carried out by reconcile. Binding is two-way: the volume names the claim (with its uid), the claim names the
volume and says that binding is complete; whichever half is missing is written. Source: "Persistent Volumes:
Lifecycle of a volume and claim" in the documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from kybern.api.storage_v1 import StorageClass
from kybern.controllers.persistentvolume_binder import match

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONER_BETA = "volume.beta.kubernetes.io/storage-provisioner"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
DEFAULT_CLASS_BETA = "storageclass.beta.kubernetes.io/is-default-class"
IN_TREE = "kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Event:
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Bind:
    """Write whatever is missing of the tie between the claim and this volume."""

    volume: PersistentVolume


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to bind to yet. `provisioner`: who shall make a volume."""

    event: Event | None = None
    provisioner: str = ""


@dataclass(frozen=True, slots=True)
class Lose:
    """The claim's volume is gone, or another's: nothing brings it back."""

    event: Event


@dataclass(frozen=True, slots=True)
class TakeClass:
    """A claim without class gets the default one."""

    name: str


ClaimStep = Bind | Wait | Lose | TakeClass


@dataclass(frozen=True, slots=True)
class World:
    """What a claim is judged by."""

    volumes: Sequence[PersistentVolume]
    classes: Sequence[StorageClass]

    def volume(self, name: str) -> PersistentVolume | None:
        return next((v for v in self.volumes if v.metadata.name == name), None)

    def storage_class(self, name: str) -> StorageClass | None:
        return next((c for c in self.classes if c.metadata.name == name), None)


def plan_claim(claim: PersistentVolumeClaim, world: World) -> ClaimStep:
    """The next step of a claim."""
    if BIND_COMPLETED in claim.metadata.annotations:
        return _keep(claim, world)
    if claim.metadata.deletionTimestamp is not None:
        return Wait()
    if claim.spec.volumeName:
        return _bind_by_name(claim, world)
    if claim.spec.storageClassName is None and match.CLASS_ANNOTATION not in claim.metadata.annotations:
        default = default_class(world.classes)
        if default:
            return TakeClass(default)
    return _search(claim, world)


def _keep(claim: PersistentVolumeClaim, world: World) -> ClaimStep:
    if not claim.spec.volumeName:
        return _lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
    volume = world.volume(claim.spec.volumeName)
    if volume is None:
        return _lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    if volume.spec.claimRef is None or match.is_promised(volume, claim):
        return Bind(volume)
    return _lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")


def _lost(reason: str, message: str) -> Lose:
    return Lose(Event("Warning", reason, message))


def _bind_by_name(claim: PersistentVolumeClaim, world: World) -> ClaimStep:
    """A person, or the scheduler, or an earlier half of a binding has chosen the volume."""
    name = claim.spec.volumeName or ""
    volume = world.volume(name)
    if volume is None:
        return Wait(Event("Warning", "FailedBinding", f'volume "{name}" not found'))
    if match.is_bound_to(volume, claim):
        return Bind(volume)
    if volume.spec.claimRef is not None and not match.is_promised(volume, claim):
        return Wait(Event("Warning", "FailedBinding", f'volume "{name}" already bound to a different claim.'))
    why = match.mismatch(volume, claim)
    if why:
        return Wait(Event("Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": {why}'))
    return Bind(volume)


def _search(claim: PersistentVolumeClaim, world: World) -> ClaimStep:
    class_name = match.class_of(claim)
    storage_class = world.storage_class(class_name) if class_name else None
    waits = storage_class is not None and storage_class.volumeBindingMode == "WaitForFirstConsumer"
    volume = match.find(claim, world.volumes, promised_only=waits)
    if volume is not None:
        return Bind(volume)
    if waits and SELECTED_NODE not in claim.metadata.annotations:
        message = "waiting for first consumer to be created before binding"
        return Wait(Event("Normal", "WaitForFirstConsumer", message))
    if not class_name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return Wait(Event("Normal", "FailedBinding", message))
    if storage_class is None:
        message = f'storageclass.storage.k8s.io "{class_name}" not found'
        return Wait(Event("Warning", "ProvisioningFailed", message))
    provisioner = storage_class.provisioner
    if provisioner.startswith(IN_TREE):
        return Wait(Event("Warning", "ProvisioningFailed", f"no volume plugin matched name: {provisioner}"))
    message = (
        "Waiting for a volume to be created either by the external provisioner "
        f"'{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that "
        "the provisioner is running and correctly registered."
    )
    return Wait(Event("Normal", "ExternalProvisioning", message), provisioner)


def default_class(classes: Iterable[StorageClass]) -> str:
    """The newest of those marked as default; "" if there is none."""
    marked = [
        c for c in classes if "true" in (c.metadata.annotations.get(n) for n in (DEFAULT_CLASS, DEFAULT_CLASS_BETA))
    ]
    marked.sort(key=lambda c: c.metadata.name)
    newest = max(marked, key=lambda c: c.metadata.creationTimestamp or "", default=None)
    return newest.metadata.name if newest is not None else ""


@dataclass(frozen=True, slots=True)
class SetPhase:
    """Write a volume's phase. `event`: why it failed."""

    phase: str
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Unbind:
    """Take back what a volume promised: its claim has another one."""


VolumeStep = SetPhase | Unbind


def plan_volume(volume: PersistentVolume, claim: PersistentVolumeClaim | None) -> VolumeStep | None:
    """The next step of a volume. `claim` is the one it names, if that still exists with the same uid."""
    ref = volume.spec.claimRef
    if ref is None or not ref.uid:
        return _phase(volume, "Available")
    if claim is None:
        return _reclaim(volume)
    if claim.spec.volumeName == volume.metadata.name:
        return _phase(volume, "Bound")
    if claim.spec.volumeName:
        provisioned = volume.metadata.annotations.get(PROVISIONED_BY)
        if provisioned and volume.spec.persistentVolumeReclaimPolicy == "Delete":
            return _reclaim(volume)  # made for this claim, which took another: nobody needs it
        return Unbind()
    return None  # half bound: the claim's own turn


def _phase(volume: PersistentVolume, phase: str) -> SetPhase | None:
    return SetPhase(phase) if volume.status.phase != phase else None


def _reclaim(volume: PersistentVolume) -> SetPhase | None:
    """Released; what then becomes of it is an external provisioner's work, or a person's."""
    phase = volume.status.phase
    if phase == "Failed":
        return None
    policy = volume.spec.persistentVolumeReclaimPolicy or "Retain"
    maker = volume.metadata.annotations.get(PROVISIONED_BY, "")
    is_external = bool(maker) and not maker.startswith(IN_TREE)
    if phase != "Released":
        return SetPhase("Released")
    if policy == "Recycle":
        why = f'volume "{volume.metadata.name}" has reclaim policy Recycle, which no volume plugin supports'
        return SetPhase("Failed", Event("Warning", "VolumeFailedRecycle", why))
    if policy == "Delete" and not is_external and volume.spec.csi is None:
        name = volume.metadata.name
        why = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        return SetPhase("Failed", Event("Warning", "VolumeFailedDelete", why))
    return None
