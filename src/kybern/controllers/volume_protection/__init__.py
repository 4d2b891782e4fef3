"""Volumes and claims in use are not deleted: the finalizers that admission gave them go when nobody uses them.

Two small controllers: claims are used by pods, volumes by claims.
"""

from __future__ import annotations

from typing import Any

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod
from kybern.client import shapes
from kybern.controllers import pods, runtime
from kybern.machinery.status import ApiError

NAME = "persistentvolume-protection-controller"
CLAIMS_NAME = "persistentvolumeclaim-protection-controller"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
INDEX = "claim"


def claims_of(pod: Pod) -> list[str]:
    """Keys of the claims a pod uses; those of ephemeral volumes are named after pod and volume."""
    names = []
    for volume in pod.spec.volumes:
        if volume.persistentVolumeClaim is not None:
            names.append(volume.persistentVolumeClaim.claimName)
        elif volume.ephemeral is not None:
            names.append(f"{pod.metadata.name}-{volume.name}")
    return [f"{pod.metadata.namespace}/{name}" for name in names]


def is_volume_in_use(volume: PersistentVolume) -> bool:
    return volume.status.phase == "Bound"


def _holds(pod: Pod) -> bool:
    """A pod that was not placed yet never will be, with a claim that goes: the two must not wait for each other."""
    return bool(pod.spec.nodeName) and not pods.is_finished(pod)


class ClaimProtection(runtime.Looped):
    """runtime.Controller of claims."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._pods = context.informers.of(Pod)
        self._pods.add_index(INDEX, claims_of)
        self.claims = runtime.Loop("pvc-protection", self.reconcile_claim, context.clock)
        super().__init__(CLAIMS_NAME, self.claims)
        runtime.enqueue_on_change(self.claims, self._claims)
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or pods.is_finished(new)):
            for key in claims_of(old):
                self.claims.queue.add(key)

    async def reconcile_claim(self, key: str) -> runtime.RequeueAfter | None:
        claim = self._claims.by_key(key)
        if claim is None or CLAIM_FINALIZER not in claim.metadata.finalizers:
            return None
        if claim.metadata.deletionTimestamp is None or await self._is_claim_in_use(key):
            return None
        await release(self._context, claim, CLAIM_FINALIZER)
        return None

    async def _is_claim_in_use(self, key: str) -> bool:
        if any(_holds(pod) for pod in self._pods.by_index(INDEX, key)):
            return True
        # The informer may be behind: ask once more before the point of no return.
        namespace, _ = shapes.split_key(key)
        live = await self._context.client.list(Pod, namespace)
        return any(key in claims_of(pod) and _holds(pod) for pod in live.items)


class VolumeProtection(runtime.Looped):
    """runtime.Controller of volumes."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._volumes = context.informers.of(PersistentVolume)
        self.volumes = runtime.Loop("pv-protection", self.reconcile_volume, context.clock)
        super().__init__(NAME, self.volumes)
        runtime.enqueue_on_change(self.volumes, self._volumes)

    async def reconcile_volume(self, key: str) -> runtime.RequeueAfter | None:
        volume = self._volumes.by_key(key)
        if volume is None or VOLUME_FINALIZER not in volume.metadata.finalizers:
            return None
        if volume.metadata.deletionTimestamp is None or is_volume_in_use(volume):
            return None
        await release(self._context, volume, VOLUME_FINALIZER)
        return None


async def release(context: runtime.Context, obj: Any, finalizer: str) -> None:
    """Take a finalizer off, if the object is still as it was seen."""
    meta = obj.metadata
    patch = {
        "metadata": {
            "resourceVersion": meta.resourceVersion,
            "finalizers": [f for f in meta.finalizers if f != finalizer],
        }
    }
    try:
        await context.client.patch(type(obj), meta.namespace, meta.name, patch)
    except ApiError as error:
        if not error.is_not_found:
            raise


def build(context: runtime.Context) -> VolumeProtection:
    return VolumeProtection(context)


def build_claims(context: runtime.Context) -> ClaimProtection:
    return ClaimProtection(context)
