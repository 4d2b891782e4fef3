"""Bind claims to volumes, and keep the phase of both.

Woken by claims, volumes and storage classes; decides in plan. Volumes are made and wiped by others: external
provisioners, told by an annotation, and people.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from kybern.api.storage_v1 import StorageClass
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.volume_binder import plan

NAME = "persistentvolume-binder-controller"


class BinderController(runtime.Looped):
    """runtime.Controller with a loop for claims and one for volumes, each of one worker: no volume is given twice."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder("persistentvolume-controller")
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._volumes = context.informers.of(PersistentVolume)
        self._classes = context.informers.of(StorageClass)
        self.claims = runtime.Loop("claims", self.reconcile_claim, context.clock, workers=1)
        self.volumes = runtime.Loop("volumes", self.reconcile_volume, context.clock, workers=1)
        super().__init__(NAME, self.claims, self.volumes)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)
        self._classes.on_change(lambda old, new: self._wake_pending())

    def _claim_changed(self, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None) -> None:
        for claim in (old, new):
            if claim is not None:
                self.claims.queue.add(shapes.key_of(claim))
                if claim.spec.volumeName:
                    self.volumes.queue.add(claim.spec.volumeName)

    def _volume_changed(self, old: PersistentVolume | None, new: PersistentVolume | None) -> None:
        for volume in (old, new):
            if volume is None:
                continue
            self.volumes.queue.add(volume.metadata.name)
            reference = volume.spec.claimRef
            if reference is not None:
                self.claims.queue.add(f"{reference.namespace}/{reference.name}")
        if new is not None and new.spec.claimRef is None:
            self._wake_pending()

    def _wake_pending(self) -> None:
        for claim in self._claims.list():
            if plan.BIND_COMPLETED not in claim.metadata.annotations:
                self.claims.queue.add(shapes.key_of(claim))

    async def reconcile_claim(self, key: str) -> runtime.RequeueAfter | None:
        claim = self._claims.by_key(key)
        if claim is None or claim.metadata.deletionTimestamp is not None:
            return None
        if plan.BIND_COMPLETED in claim.metadata.annotations:
            await self._check_bound(claim)
            return None
        volume = self._volume_for(claim)
        if volume is None:
            await self._report(claim, "Pending", None)
            await self._ask_for_volume(claim)
            return None
        reserved = plan.reserve(volume, claim)
        if reserved is not None:
            volume = await self._context.update(reserved)
        bound = plan.bind(claim, volume)
        if bound is not None:
            claim = await self._context.update(bound)
        await self._report(claim, "Bound", volume)
        return None

    def _volume_for(self, claim: PersistentVolumeClaim) -> PersistentVolume | None:
        if claim.spec.volumeName:
            # Asked for by name: nothing else will do.
            volume = self._volumes.get("", claim.spec.volumeName)
            free = volume is not None and (volume.spec.claimRef is None or plan.is_for(volume, claim))
            return volume if free else None
        found = plan.find_volume(claim, self._volumes.list())
        if found is not None and plan.is_for(found, claim):
            return found
        return None if plan.waits_for_consumer(claim, self._class_of(claim)) else found

    def _class_of(self, claim: PersistentVolumeClaim) -> StorageClass | None:
        name = plan.class_of(claim)
        return self._classes.get("", name) if name else None

    async def _check_bound(self, claim: PersistentVolumeClaim) -> None:
        """A bound claim stays so; without its volume its data is lost."""
        volume = self._volumes.get("", claim.spec.volumeName or "")
        if volume is None or (volume.spec.claimRef is not None and not plan.is_for(volume, claim)):
            if claim.status.phase != "Lost":
                message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                self._recorder.event(claim, "Warning", "ClaimLost", message)
            await self._report(claim, "Lost", None)
            return
        reserved = plan.reserve(volume, claim)
        if reserved is not None:
            volume = await self._context.update(reserved)
        await self._report(claim, "Bound", volume)

    async def _report(self, claim: PersistentVolumeClaim, phase: str, volume: PersistentVolume | None) -> None:
        fresh = plan.claim_status(claim, phase, volume)
        if fresh is not None:
            await self._context.update_status(fresh)

    async def _ask_for_volume(self, claim: PersistentVolumeClaim) -> None:
        storage_class = self._class_of(claim)
        current = self._claims.by_key(shapes.key_of(claim)) or claim
        if storage_class is None:
            if not plan.class_of(claim):
                message = "no persistent volumes available for this claim and no storage class is set"
                self._recorder.event(claim, "Normal", "FailedBinding", message)
            return
        if plan.waits_for_consumer(claim, storage_class):
            message = "waiting for first consumer to be created before binding"
            self._recorder.event(claim, "Normal", "WaitForFirstConsumer", message)
            return
        if storage_class.provisioner == plan.NO_PROVISIONER:
            message = f'storageclass "{storage_class.metadata.name}" has no provisioner, and no volume suits this claim'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", message)
            return
        asked = plan.provision(current, storage_class)
        if asked is not None:
            await self._context.update(asked)
        message = (
            "Waiting for a volume to be created either by the external provisioner "
            f"'{storage_class.provisioner}' or manually by the system administrator. If volume creation is delayed, "
            "please verify that the provisioner is running and correctly registered."
        )
        self._recorder.event(claim, "Normal", "ExternalProvisioning", message)

    async def reconcile_volume(self, key: str) -> runtime.RequeueAfter | None:
        volume = self._volumes.by_key(key)
        if volume is None:
            return None
        reference = volume.spec.claimRef
        claim = self._claims.get(reference.namespace or "", reference.name or "") if reference is not None else None
        phase = plan.volume_phase(volume, claim)
        if phase != volume.status.phase:
            fresh = codec.clone(volume)
            fresh.status.phase = phase
            await self._context.update_status(fresh)
        return None


def build(context: runtime.Context) -> BinderController:
    return BinderController(context)
