"""Carry out what plan says of claims and volumes.

Woken by claims, volumes and storage classes; pending claims are looked at again from time to time. Every half of a
binding is a write with a precondition, so two claims can never both get a volume: the second one looks for another.
"""

from __future__ import annotations

import asyncio
from typing import assert_never

from kybern.api import codec, scalars
from kybern.api.core_v1 import ObjectReference, PersistentVolume, PersistentVolumeClaim
from kybern.api.storage_v1 import StorageClass
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.controllers.persistentvolume_binder import match, plan
from kybern.machinery.status import ApiError

NAME = "persistentvolume-binder-controller"
INDEX = "promised"


class Binder:
    """runtime.Controller of claims and volumes."""

    def __init__(self, context: runtime.Context) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder("persistentvolume-controller")
        self._claims = context.informers.of(PersistentVolumeClaim)
        self._volumes = context.informers.of(PersistentVolume)
        self._classes = context.informers.of(StorageClass)
        self._volumes.add_index(INDEX, _promised_to)
        # One worker for claims: two at once would often reach for the same volume.
        self.claims = runtime.Loop(f"{NAME}-claims", self.reconcile_claim, context.clock, workers=1)
        self.volumes = runtime.Loop(f"{NAME}-volumes", self.reconcile_volume, context.clock)
        self.loops = (self.claims, self.volumes)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)
        self._classes.on_change(lambda old, new: self._wake_pending() if new is not None else None)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for loop in self.loops:
                tasks.create_task(loop.run(), name=loop.name)
            tasks.create_task(self._resync(), name=f"{NAME}:resync")

    async def _resync(self) -> None:
        while True:
            await self._context.clock.sleep(self._context.settings.pv_claim_binder_sync_period)
            self._wake_pending()

    def _wake_pending(self) -> None:
        for claim in self._claims.list():
            if plan.BIND_COMPLETED not in claim.metadata.annotations:
                self.claims.queue.add(shapes.key_of(claim))

    def _claim_changed(self, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None) -> None:
        for claim in (old, new):
            if claim is None:
                continue
            key = shapes.key_of(claim)
            if claim is new:
                self.claims.queue.add(key)
            if claim.spec.volumeName:
                self.volumes.queue.add(claim.spec.volumeName)
            for volume in self._volumes.by_index(INDEX, key):
                self.volumes.queue.add(volume.metadata.name)

    def _volume_changed(self, old: PersistentVolume | None, new: PersistentVolume | None) -> None:
        for volume in (old, new):
            for key in _promised_to(volume) if volume is not None else ():
                self.claims.queue.add(key)
        if new is None:
            return
        self.volumes.queue.add(new.metadata.name)
        is_news = old is None or old.status.phase != new.status.phase or old.spec != new.spec
        if is_news and (new.spec.claimRef is None or old is None):
            self._wake_pending()

    async def reconcile_claim(self, key: str) -> runtime.RequeueAfter | None:
        claim = self._claims.by_key(key)
        if claim is None:
            return None
        step = plan.plan_claim(claim, plan.World(self._volumes.list(), self._classes.list()))
        match step:
            case plan.Bind(volume):
                await self._bind(claim, volume)
            case plan.Wait():
                await self._wait(claim, step)
            case plan.Lose(event):
                if claim.status.phase != "Lost":
                    self._tell(claim, event)
                    await self._set_claim_phase(claim, "Lost")
            case plan.TakeClass(name):
                fresh = codec.clone(claim)
                fresh.spec.storageClassName = name
                await self._context.update(fresh)
            case _:
                assert_never(step)
        return None

    async def _wait(self, claim: PersistentVolumeClaim, step: plan.Wait) -> None:
        if step.event is not None:
            self._tell(claim, step.event)
        wanted = {plan.PROVISIONER: step.provisioner, plan.PROVISIONER_BETA: step.provisioner}
        if step.provisioner and not wanted.items() <= claim.metadata.annotations.items():
            fresh = codec.clone(claim)
            fresh.metadata.annotations |= wanted
            claim = await self._context.update(fresh)
        await self._set_claim_phase(claim, "Pending")

    def _tell(self, obj: PersistentVolume | PersistentVolumeClaim, event: plan.Event) -> None:
        self._recorder.event(obj, event.type, event.reason, event.message)

    async def _set_claim_phase(self, claim: PersistentVolumeClaim, phase: str) -> None:
        if claim.status.phase == phase:
            return
        fresh = codec.clone(claim)
        fresh.status.phase = phase
        if phase == "Lost":
            fresh.status.capacity, fresh.status.accessModes = {}, []
        await self._context.update_status(fresh)

    async def _bind(self, claim: PersistentVolumeClaim, volume: PersistentVolume) -> None:
        """Volume first: once it names the claim, no other claim can have it."""
        volume = await self._promise(volume, claim)
        await self._set_volume_phase(volume, "Bound")
        fresh = codec.clone(claim)
        if fresh.spec.volumeName != volume.metadata.name:
            fresh.spec.volumeName = volume.metadata.name
            fresh.metadata.annotations[plan.BOUND_BY_CONTROLLER] = "yes"
        fresh.metadata.annotations[plan.BIND_COMPLETED] = "yes"
        if fresh != claim:
            fresh = codec.clone(await self._context.update(fresh))
        status = fresh.status
        was_bound = status.phase == "Bound"
        before = codec.clone(status)
        status.phase = "Bound"
        status.accessModes = list(volume.spec.accessModes)
        if not was_bound:  # later on it is resizing that says how large it is
            status.capacity = dict(volume.spec.capacity)
            status.currentVolumeAttributesClassName = volume.spec.volumeAttributesClassName or None
        if status != before:
            await self._context.update_status(fresh)

    async def _promise(self, volume: PersistentVolume, claim: PersistentVolumeClaim) -> PersistentVolume:
        if match.is_bound_to(volume, claim):
            return volume
        fresh = codec.clone(volume)
        if fresh.spec.claimRef is None:
            fresh.metadata.annotations[plan.BOUND_BY_CONTROLLER] = "yes"
        fresh.spec.claimRef = ObjectReference(
            kind="PersistentVolumeClaim",
            apiVersion="v1",
            namespace=claim.metadata.namespace,
            name=claim.metadata.name,
            uid=claim.metadata.uid,
            resourceVersion=claim.metadata.resourceVersion,
        )
        return await self._context.update(fresh)

    async def reconcile_volume(self, key: str) -> runtime.RequeueAfter | None:
        volume = self._volumes.by_key(key)
        if volume is None:
            return None
        claim = await self._claim_of(volume)
        step = plan.plan_volume(volume, claim)
        match step:
            case None:
                if claim is not None and not claim.spec.volumeName:
                    self.claims.queue.add(shapes.key_of(claim))
            case plan.SetPhase(phase, event):
                if event is not None:
                    self._tell(volume, event)
                await self._set_volume_phase(volume, phase, event.message if event is not None else "")
            case plan.Unbind():
                await self._unbind(volume)
            case _:
                assert_never(step)
        return None

    async def _claim_of(self, volume: PersistentVolume) -> PersistentVolumeClaim | None:
        """The claim a volume names, if it lives. Nothing is released on the word of an informer alone."""
        ref = volume.spec.claimRef
        if ref is None or not ref.uid:
            return None
        claim = self._claims.get(ref.namespace or "", ref.name or "")
        if claim is not None and claim.metadata.uid == ref.uid:
            return claim
        if volume.status.phase in ("Released", "Failed"):
            return None
        try:
            live = await self._context.client.get(PersistentVolumeClaim, ref.namespace or "", ref.name or "")
        except ApiError as error:
            if not error.is_not_found:
                raise
            return None
        return live if live.metadata.uid == ref.uid else None

    async def _set_volume_phase(self, volume: PersistentVolume, phase: str, message: str = "") -> None:
        if volume.status.phase == phase:
            return
        fresh = codec.clone(volume)
        fresh.status.phase = phase
        fresh.status.message = message or None
        fresh.status.reason = None
        fresh.status.lastPhaseTransitionTime = scalars.render_time(self._context.clock.now())
        await self._context.update_status(fresh)

    async def _unbind(self, volume: PersistentVolume) -> None:
        fresh = codec.clone(volume)
        if fresh.metadata.annotations.pop(plan.BOUND_BY_CONTROLLER, None) is not None:
            fresh.spec.claimRef = None
        elif fresh.spec.claimRef is not None:  # a person promised it: that stays
            fresh.spec.claimRef.uid = None
        fresh = await self._context.update(fresh)
        await self._set_volume_phase(fresh, "Available")


def _promised_to(volume: PersistentVolume) -> tuple[str, ...]:
    ref = volume.spec.claimRef
    return (f"{ref.namespace}/{ref.name}",) if ref is not None else ()


def build(context: runtime.Context) -> Binder:
    return Binder(context)
