"""Generic ephemeral volumes: a claim of its own for each, owned by the pod."""

from __future__ import annotations

from collections.abc import Iterator

from kybern.api import codec
from kybern.api.core_v1 import PersistentVolumeClaim, Pod, Volume
from kybern.api.meta_v1 import ObjectMeta
from kybern.client import shapes
from kybern.controllers import ownership, pods, runtime
from kybern.machinery.status import ApiError

NAME = "ephemeral-volume-controller"


def ephemeral_volumes(pod: Pod) -> Iterator[Volume]:
    return (v for v in pod.spec.volumes if v.ephemeral is not None and v.ephemeral.volumeClaimTemplate is not None)


def make_claim(pod: Pod, volume: Volume) -> PersistentVolumeClaim:
    """The claim of one volume; its name is fixed, so that a foreign one in its place is found out."""
    assert volume.ephemeral is not None and volume.ephemeral.volumeClaimTemplate is not None
    template = codec.clone(volume.ephemeral.volumeClaimTemplate)
    given = template.metadata or ObjectMeta()
    meta = ObjectMeta(
        name=f"{pod.metadata.name}-{volume.name}",
        namespace=pod.metadata.namespace,
        labels=given.labels,
        annotations=given.annotations,
        ownerReferences=[ownership.reference_to(pod)],
    )
    return PersistentVolumeClaim(metadata=meta, spec=template.spec)


class EphemeralVolumeController(runtime.Looped):
    """runtime.Controller; keys are those of pods."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder("ephemeral_volume")
        self._pods = context.informers.of(Pod)
        self._claims = context.informers.of(PersistentVolumeClaim)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        self._pods.on_change(self._pod_changed)
        self._claims.on_change(self._claim_changed)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is None and new is not None and pods.is_active(new) and any(ephemeral_volumes(new)):
            self.loop.queue.add(shapes.key_of(new))

    def _claim_changed(self, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None) -> None:
        if new is None and old is not None:
            reference = ownership.controller_of(old)
            if reference is not None and reference.kind == "Pod":
                self.loop.queue.add(f"{old.metadata.namespace}/{reference.name}")

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        pod = self._pods.by_key(key)
        if pod is None or not pods.is_active(pod):
            return None
        for volume in ephemeral_volumes(pod):
            claim = make_claim(pod, volume)
            found = self._claims.get(claim.metadata.namespace, claim.metadata.name)
            if found is None:
                await self._create(pod, claim)
            elif not ownership.is_controlled_by(found, pod):
                message = f"PVC {shapes.key_of(found)} was not created for pod {key} (pod is not owner)"
                self._recorder.event(pod, "Warning", "FailedBinding", message)
        return None

    async def _create(self, pod: Pod, claim: PersistentVolumeClaim) -> None:
        try:
            await self._context.create(claim)
        except ApiError as error:
            if error.is_already_exists or runtime.is_namespace_ending(error):
                return
            self._recorder.event(pod, "Warning", "FailedBinding", f"ephemeral volume: create PVC: {error}")
            raise


def build(context: runtime.Context) -> EphemeralVolumeController:
    return EphemeralVolumeController(context)
