"""Attach what the pods of a node need, and detach what they need no more.

Woken by pods with claims, by claims, volumes, attachments and nodes; keys are names of nodes. A VolumeAttachment is an
order to the driver's own attacher, which reports in its status. One worker: of two nodes that want a volume which only
one may have, the second must see what the first one ordered.
"""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api.core_v1 import Node, PersistentVolume, PersistentVolumeClaim, Pod
from kybern.api.storage_v1 import CSIDriver, VolumeAttachment
from kybern.client import shapes
from kybern.controllers import ownership, pods, runtime
from kybern.controllers.attach_detach import plan
from kybern.controllers.volume_protection import INDEX as CLAIM_INDEX
from kybern.controllers.volume_protection import claims_of
from kybern.machinery.status import ApiError

NAME = "persistentvolume-attach-detach-controller"
_NODE_INDEX = "node"
_VOLUME_INDEX = "volume"


class AttachDetach(runtime.Looped):
    """runtime.Controller."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder("attachdetach-controller")
        self._nodes = context.informers.of(Node)
        self._pods = context.informers.of(Pod)
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._volumes = context.informers.of(PersistentVolume)
        self._drivers = context.informers.of(CSIDriver)
        self._attachments = context.informers.of(VolumeAttachment)
        self._pods.add_index(_NODE_INDEX, lambda pod: (pod.spec.nodeName or "",))
        self._pods.add_index(CLAIM_INDEX, claims_of)
        self._attachments.add_index(_NODE_INDEX, lambda attachment: (attachment.spec.nodeName,))
        self._attachments.add_index(_VOLUME_INDEX, lambda a: (a.spec.source.persistentVolumeName or "",))
        self._unwanted: dict[tuple[str, str], float] = {}  # (node, unique name) -> monotonic
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        self._pods.on_change(self._pod_changed)
        self._claims.on_change(lambda old, new: self._claim_changed(shapes.key_of(new if new is not None else old)))
        self._volumes.on_change(self._volume_changed)
        self._attachments.on_change(self._attachment_changed)
        self._nodes.on_change(self._node_changed)

    # -- what wakes it -------------------------------------------------------------------------------------------

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Most pods have no claims: they cost this look."""
        pod = new if new is not None else old
        if pod is None or not pod.spec.nodeName or not claims_of(pod):
            return
        placed = old is None or old.spec.nodeName != pod.spec.nodeName
        if new is None or placed or pods.is_finished(new):
            self.loop.queue.add(pod.spec.nodeName)

    def _claim_changed(self, key: str) -> None:
        for pod in self._pods.by_index(CLAIM_INDEX, key):
            if pod.spec.nodeName:
                self.loop.queue.add(pod.spec.nodeName)

    def _volume_changed(self, old: PersistentVolume | None, new: PersistentVolume | None) -> None:
        volume = new if new is not None else old
        if volume is not None and volume.spec.csi is not None and volume.spec.claimRef is not None:
            self._claim_changed(f"{volume.spec.claimRef.namespace}/{volume.spec.claimRef.name}")

    def _attachment_changed(self, old: VolumeAttachment | None, new: VolumeAttachment | None) -> None:
        attachment = new if new is not None else old
        if attachment is None:
            return
        self.loop.queue.add(attachment.spec.nodeName)
        volume = self._volumes.by_key(attachment.spec.source.persistentVolumeName or "")
        if new is None and volume is not None:
            self._volume_changed(None, volume)  # another node may wait for it
        if new is not None and old is not None:
            self._tell(old, new)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self.loop.queue.add(old.metadata.name)
        elif old is None:
            if new.status.volumesAttached:
                self.loop.queue.add(new.metadata.name)
        elif (
            old.status.volumesInUse != new.status.volumesInUse
            or old.spec.taints != new.spec.taints
            or plan.is_managed(old) != plan.is_managed(new)
        ):
            self.loop.queue.add(new.metadata.name)

    def _tell(self, old: VolumeAttachment, new: VolumeAttachment) -> None:
        """The pods that wait for an attachment hear how it goes."""
        name = new.spec.source.persistentVolumeName
        if new.status.attached and not old.status.attached:
            told = ("Normal", "SuccessfulAttachVolume", f'AttachVolume.Attach succeeded for volume "{name}" ')
        elif new.status.attachError is not None and new.status.attachError != old.status.attachError:
            why = new.status.attachError.message
            told = ("Warning", "FailedAttachVolume", f'AttachVolume.Attach failed for volume "{name}" : {why}')
        else:
            return
        for pod in self._users(name or "", new.spec.nodeName):
            self._recorder.event(pod, *told)

    # -- what is seen --------------------------------------------------------------------------------------------

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        seen = self._see(key)
        decided = plan.plan_node(seen)
        if seen.node is not None:
            await self._report(seen.node, decided.told)
        await self._detach(decided.detach)
        for volume in decided.blocked:
            self._blame(volume, key)
        for volume in decided.attach:
            try:
                await self._context.create(plan.new_attachment(volume, key))
            except ApiError as error:
                if not error.is_already_exists:
                    raise
        return None if decided.look_again is None else runtime.RequeueAfter(decided.look_again)

    def _see(self, name: str) -> plan.Seen:
        wanted: dict[str, plan.Volume] = {}
        for pod in self._pods.by_index(_NODE_INDEX, name):
            if not pods.is_finished(pod):
                wanted.update((v.unique_name, v) for v in self._volumes_of(pod))
        attachments = []
        for attachment in self._attachments.by_index(_NODE_INDEX, name):
            found = self._volumes.by_key(attachment.spec.source.persistentVolumeName or "")
            volume = plan.volume_of(found) if found is not None else None
            # Others make attachments too, and take care of them.
            if volume is not None and volume.attachment_name(name) == attachment.metadata.name:
                attachments.append((attachment, volume))
        elsewhere = frozenset(
            unique
            for unique, volume in wanted.items()
            if any(a.spec.nodeName != name for a in self._attachments.by_index(_VOLUME_INDEX, volume.volume))
        )
        unwanted = self._note_unwanted(name, {v.unique_name for _, v in attachments} - wanted.keys())
        return plan.Seen(name, self._nodes.by_key(name), tuple(wanted.values()), attachments, elsewhere, unwanted)

    def _note_unwanted(self, node: str, unwanted: set[str]) -> dict[str, float]:
        """Seconds since each became so, as far as this process knows."""
        now = self._context.clock.monotonic()
        for key in [k for k in self._unwanted if k[0] == node and k[1] not in unwanted]:
            del self._unwanted[key]
        return {name: now - self._unwanted.setdefault((node, name), now) for name in unwanted}

    def _volumes_of(self, pod: Pod) -> Iterable[plan.Volume]:
        for key in claims_of(pod):
            claim = self._claims.by_key(key)
            if claim is None or not claim.spec.volumeName or claim.status.phase != "Bound":
                continue
            if not _is_of(claim, pod):
                continue
            found = self._volumes.by_key(claim.spec.volumeName)
            ref = found.spec.claimRef if found is not None else None
            if found is None or ref is None or ref.uid != claim.metadata.uid:
                continue
            volume = plan.volume_of(found)
            if volume is not None and self._needs_attaching(volume.driver):
                yield volume

    def _needs_attaching(self, driver: str) -> bool:
        found = self._drivers.by_key(driver)
        return found is None or found.spec.attachRequired is not False

    def _users(self, volume: str, node: str = "") -> list[Pod]:
        """Pods that use a volume, on a node or on any."""
        found = self._volumes.by_key(volume)
        ref = found.spec.claimRef if found is not None else None
        if ref is None:
            return []
        users = self._pods.by_index(CLAIM_INDEX, f"{ref.namespace}/{ref.name}")
        return [pod for pod in users if pod.spec.nodeName and (not node or pod.spec.nodeName == node)]

    # -- carrying it out -----------------------------------------------------------------------------------------

    async def _report(self, node: Node, told: tuple[str, ...]) -> None:
        if tuple(sorted(v.name for v in node.status.volumesAttached)) == told:
            return
        patch = {
            "metadata": {"resourceVersion": node.metadata.resourceVersion},
            "status": {"volumesAttached": [{"name": name, "devicePath": ""} for name in told] or None},
        }
        await self._context.patch(Node, "", node.metadata.name, patch, subresource="status")

    async def _detach(self, attachments: tuple[VolumeAttachment, ...]) -> None:
        for attachment in attachments:
            await self._context.delete(attachment)

    def _blame(self, volume: plan.Volume, node: str) -> None:
        users = self._users(volume.volume)
        others = [(p.metadata.namespace, p.metadata.name) for p in users if p.spec.nodeName != node]
        for pod in users:
            if pod.spec.nodeName == node:
                message = plan.plan_blame(volume, pod.metadata.namespace, others)
                self._recorder.event(pod, "Warning", "FailedAttachVolume", message)


def _is_of(claim: PersistentVolumeClaim, pod: Pod) -> bool:
    """A claim of an ephemeral volume is made for one pod; one that only has its name is somebody else's."""
    for volume in pod.spec.volumes:
        if volume.ephemeral is not None and claim.metadata.name == f"{pod.metadata.name}-{volume.name}":
            owner = ownership.controller_of(claim)
            return owner is not None and owner.uid == pod.metadata.uid
    return True


def build(context: runtime.Context) -> AttachDetach:
    return AttachDetach(context)
