"""What to attach to a node, what to detach from it, and what its kubelet may mount. Pure.

Called by reconcile with what is seen of one node. The order keeps data safe: a volume leaves `volumesAttached` (the
kubelet mounts nothing that is not there) before its attachment goes, and no attachment goes while the kubelet says that
it uses the volume, unless the node is dead for certain (tainted out-of-service) or has been sick for six minutes.
Source: "Non-graceful node shutdown" and the storage concepts in the documentation, and a v1.36 controller manager.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kybern.api.core_v1 import Node, PersistentVolume
from kybern.api.storage_v1 import VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec
from kybern.controllers import taints

MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
PATIENCE = 360.0  # seconds that a sick node may keep a volume which nobody wants there (kube-controller-manager)
_MANY_NODES = ("ReadOnlyMany", "ReadWriteMany")


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that has to be attached before it can be mounted."""

    volume: str  # name of the PersistentVolume
    driver: str
    handle: str
    is_exclusive: bool  # to one node at a time

    @property
    def unique_name(self) -> str:
        """As kubelets name it in volumesInUse."""
        return f"kubernetes.io/csi/{self.driver}^{self.handle}"

    def attachment_name(self, node: str) -> str:
        return "csi-" + hashlib.sha256(f"{self.handle}{self.driver}{node}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Seen:
    """A node, as the listers show it. `node` is None when it is gone."""

    name: str
    node: Node | None
    wanted: Sequence[Volume]  # by the pods of this node, each once
    attachments: Sequence[tuple[VolumeAttachment, Volume]]  # of this node, made by this controller
    elsewhere: frozenset[str]  # of the wanted volumes, those that have an attachment to another node
    unwanted_for: dict[str, float] = field(default_factory=dict)  # unique name -> seconds since nobody wants it here


@dataclass(frozen=True, slots=True)
class Plan:
    """In the order of the fields."""

    told: tuple[str, ...]  # unique names for volumesAttached, sorted
    detach: tuple[VolumeAttachment, ...] = ()
    attach: tuple[Volume, ...] = ()
    blocked: tuple[Volume, ...] = ()  # another node has them
    look_again: float | None = None  # seconds until patience ends for one of them


def volume_of(volume: PersistentVolume) -> Volume | None:
    """None for volumes that no CSI driver provides."""
    csi, modes = volume.spec.csi, volume.spec.accessModes
    if csi is None:
        return None
    is_exclusive = bool(modes) and not any(mode in _MANY_NODES for mode in modes)
    return Volume(volume.metadata.name, csi.driver, csi.volumeHandle, is_exclusive)


def new_attachment(volume: Volume, node: str) -> VolumeAttachment:
    attachment = VolumeAttachment()
    attachment.metadata.name = volume.attachment_name(node)
    source = VolumeAttachmentSource(persistentVolumeName=volume.volume)
    attachment.spec = VolumeAttachmentSpec(attacher=volume.driver, nodeName=node, source=source)
    return attachment


def is_managed(node: Node) -> bool:
    """Its kubelet leaves attaching to this controller."""
    return node.metadata.annotations.get(MANAGED) == "true"


def is_out_of_service(node: Node) -> bool:
    """Somebody made sure that it is off."""
    return any(taint.key == taints.OUT_OF_SERVICE for taint in node.spec.taints)


def _is_well(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def plan_node(seen: Seen) -> Plan:
    wanted = {volume.unique_name: volume for volume in seen.wanted}
    present = {volume.unique_name: attachment for attachment, volume in seen.attachments}
    going = [name for name in present if name not in wanted]
    waits = {name: _patience(seen, name) for name in going}
    attach, blocked = [], []
    for name, volume in wanted.items():
        if name in present:
            continue  # there already, or on its way out: then its deletion brings us back
        if volume.is_exclusive and volume.unique_name in seen.elsewhere:
            blocked.append(volume)
        elif seen.node is not None and is_managed(seen.node):
            attach.append(volume)
    told = [
        name
        for name, attachment in present.items()
        if attachment.status.attached and attachment.metadata.deletionTimestamp is None and waits.get(name) != 0.0
    ]
    left = [seconds for seconds in waits.values() if seconds]
    return Plan(
        tuple(sorted(told)),
        tuple(
            present[name]
            for name, seconds in waits.items()
            if seconds == 0.0 and present[name].metadata.deletionTimestamp is None
        ),
        tuple(attach),
        tuple(blocked),
        min(left) if left else None,
    )


def _patience(seen: Seen, name: str) -> float | None:
    """Seconds until a volume that nobody wants here may be taken away; 0: now; None: when the kubelet lets go."""
    node = seen.node
    if node is not None and (is_out_of_service(node) or name not in node.status.volumesInUse):
        return 0.0
    if node is not None and _is_well(node):
        return None
    return max(0.0, PATIENCE - seen.unwanted_for.get(name, 0.0))


def plan_blame(volume: Volume, namespace: str, others: Iterable[tuple[str, str]]) -> str:
    """Why a volume cannot be attached, by the pods (namespace, name) that use it on other nodes."""
    here = [name for home, name in others if home == namespace]
    elsewhere = sum(home != namespace for home, _ in others)
    if not here and not elsewhere:
        why = "Volume is already exclusively attached to one node and can't be attached to another"
    elif not here:
        why = f"Volume is already used by {elsewhere} pod(s) in different namespaces"
    else:
        also = f" and {elsewhere} pod(s) in different namespaces" if elsewhere else ""
        why = f"Volume is already used by pod(s) {', '.join(sorted(here))}{also}"
    return f'Multi-Attach error for volume "{volume.volume}" {why}'
