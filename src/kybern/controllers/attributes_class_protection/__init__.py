"""VolumeAttributesClasses in use are not deleted: their finalizer goes when no claim and no volume names them.

Admission gives the finalizer to new classes, this controller to older ones. Source: "Volume Attributes Classes" in the
Kubernetes documentation.
"""

from __future__ import annotations

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from kybern.api.storage_v1 import VolumeAttributesClass
from kybern.controllers import runtime
from kybern.controllers.volume_protection import release
from kybern.machinery.status import ApiError

NAME = "volumeattributesclass-protection-controller"
FINALIZER = "kubernetes.io/vac-protection"
INDEX = "attributes class"


def classes_of_claim(claim: PersistentVolumeClaim) -> list[str]:
    """The classes a claim wants, has, and is on its way to."""
    modifying = claim.status.modifyVolumeStatus
    target = modifying.targetVolumeAttributesClassName if modifying is not None else None
    named = (claim.spec.volumeAttributesClassName, claim.status.currentVolumeAttributesClassName, target)
    return sorted({name for name in named if name})


def classes_of_volume(volume: PersistentVolume) -> list[str]:
    name = volume.spec.volumeAttributesClassName
    return [name] if name else []


class AttributesClassProtection(runtime.Looped):
    """runtime.Controller."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._classes = context.informers.of(VolumeAttributesClass)
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._volumes = context.informers.of(PersistentVolume)
        self._claims.add_index(INDEX, classes_of_claim)
        self._volumes.add_index(INDEX, classes_of_volume)
        self.classes = runtime.Loop("vac-protection", self.reconcile, context.clock)
        super().__init__(NAME, self.classes)
        runtime.enqueue_on_change(self.classes, self._classes)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)

    def _claim_changed(self, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None) -> None:
        self._left(classes_of_claim(old) if old else [], classes_of_claim(new) if new else [])

    def _volume_changed(self, old: PersistentVolume | None, new: PersistentVolume | None) -> None:
        self._left(classes_of_volume(old) if old else [], classes_of_volume(new) if new else [])

    def _left(self, before: list[str], after: list[str]) -> None:
        """Classes that somebody uses no more may go now."""
        for name in before:
            if name not in after:
                self.classes.queue.add(name)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        found = self._classes.by_key(key)
        if found is None:
            return None
        has = FINALIZER in found.metadata.finalizers
        if found.metadata.deletionTimestamp is None:
            if not has:
                await self._protect(found)
        elif has and not await self._is_in_use(key):
            await release(self._context, found, FINALIZER)
        return None

    async def _protect(self, found: VolumeAttributesClass) -> None:
        meta = found.metadata
        finalizers = [*meta.finalizers, FINALIZER]
        patch = {"metadata": {"resourceVersion": meta.resourceVersion, "finalizers": finalizers}}
        try:
            await self._context.client.patch(VolumeAttributesClass, "", meta.name, patch)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _is_in_use(self, name: str) -> bool:
        if self._claims.by_index(INDEX, name) or self._volumes.by_index(INDEX, name):
            return True
        # The informers may be behind: ask once more before the point of no return.
        client = self._context.client
        if any(name in classes_of_volume(volume) for volume in (await client.list(PersistentVolume)).items):
            return True
        return any(name in classes_of_claim(claim) for claim in (await client.list(PersistentVolumeClaim)).items)


def build(context: runtime.Context) -> AttributesClassProtection:
    return AttributesClassProtection(context)
