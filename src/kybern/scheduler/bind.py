"""Carry out what was decided: bind pods, tell them why not, evict victims, bind volumes. The scheduler's only writes.

Called by run; every write has a bound on how many run at once. Failures come back as ApiError for run to judge.
"""

from __future__ import annotations

import asyncio

import structlog

from kybern.api import scalars
from kybern.api.core_v1 import Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.recorder import EventRecorder
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.plugins import volume_binding
from kybern.scheduler.plugins.volume_binding import BindVolume, ProvisionVolume, VolumeStep
from kybern.scheduler.pod_info import PodInfo

AT_ONCE = 64  # requests under way
VOLUME_TIMEOUT = 600.0  # seconds until volumes must be bound (kube-scheduler: bindTimeoutSeconds)
VOLUME_POLL = 1.0
STRATEGIC = "application/strategic-merge-patch+json"

log = structlog.get_logger(__name__)


class VolumesNotBound(Exception):
    """The volumes of a pod were not bound in time, or no longer can be."""


class Binder:
    """The scheduler's hand."""

    def __init__(self, client: RestClient, recorder: EventRecorder, clock: Clock) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def bind(self, pod: PodInfo, node: str) -> None:
        """Put a pod on a node. Raises ApiError."""
        binding = Binding(
            metadata=ObjectMeta(name=pod.name, namespace=pod.namespace, uid=pod.uid),
            target=ObjectReference(kind="Node", name=node),
        )
        async with self._slots:
            await self._client.create(binding, subresource="binding", name=pod.name, namespace=pod.namespace)
        message = f"Successfully assigned {pod.key} to {node}"
        self._recorder.event(pod.reference(), "Normal", "Scheduled", message)

    async def explain(self, pod: PodInfo, reason: str, message: str, nominated: str | None) -> None:
        """Write the condition PodScheduled=False, and the node that is kept (None: as it is; "": none)."""
        conditions = {c.type: c for c in pod.pod.status.conditions}
        old = conditions.get("PodScheduled")
        status: dict[str, object] = {}
        if old is None or (old.status, old.reason, old.message) != ("False", reason, message):
            condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
            if old is None or old.status != "False":
                condition["lastTransitionTime"] = scalars.render_time(self._clock.now())
            status["conditions"] = [condition]
        if nominated is not None and nominated != pod.nominated:
            status["nominatedNodeName"] = nominated or None
        if status:
            await self._patch_status(pod, status)

    async def evict(self, victim: PodInfo, by: PodInfo, node: str, scheduler: str) -> None:
        """Delete a pod to make room, having noted why in its conditions. Raises ApiError, but not if it is gone."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": scalars.render_time(self._clock.now()),
        }
        try:
            if not victim.is_terminating:
                await self._patch_status(victim, {"conditions": [condition]})
                async with self._slots:
                    await self._client.delete(Pod, victim.namespace, victim.name, uid=victim.uid)
        except ApiError as error:
            if not error.is_not_found and error.code != 409:
                raise
            return
        message = f"Preempted by pod {by.uid} on node {node}"
        self._recorder.event(victim.reference(), "Normal", "Preempted", message)

    async def _patch_status(self, pod: PodInfo, status: dict[str, object]) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        async with self._slots:
            await self._client.patch(Pod, pod.namespace, pod.name, patch, patch_type=STRATEGIC, subresource="status")

    async def bind_volumes(self, pod: PodInfo, steps: tuple[VolumeStep, ...], cluster: Cluster) -> None:
        """Bind or have made what the pod's claims lack, and wait until they are bound. Raises VolumesNotBound."""
        for step in steps:
            await self._start(step)
        deadline = self._clock.monotonic() + VOLUME_TIMEOUT
        while not all(self._is_done(step, cluster) for step in steps):
            if self._clock.monotonic() >= deadline:
                raise VolumesNotBound(f"binding volumes: timed out waiting for the volumes of {pod.key}")
            if pod.uid in cluster.snapshot.pods and cluster.snapshot.pods[pod.uid].is_terminating:
                raise VolumesNotBound(f"binding volumes: pod {pod.key} is going away")
            await self._clock.sleep(VOLUME_POLL)

    async def _start(self, step: VolumeStep) -> None:
        async with self._slots:
            if isinstance(step, BindVolume):
                ref = {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": step.namespace,
                    "name": step.claim,
                    "uid": step.claim_uid,
                }
                await self._client.patch(PersistentVolume, "", step.volume, {"spec": {"claimRef": ref}})
            else:
                patch = {"metadata": {"annotations": {volume_binding.SELECTED_NODE: step.node}}}
                await self._client.patch(PersistentVolumeClaim, step.namespace, step.claim, patch)

    @staticmethod
    def _is_done(step: VolumeStep, cluster: Cluster) -> bool:
        claim = cluster.claims.get(f"{step.namespace}/{step.claim}")
        if claim is None:
            raise VolumesNotBound(f'binding volumes: persistentvolumeclaim "{step.claim}" not found')
        if volume_binding.is_bound(claim):
            return True
        if isinstance(step, ProvisionVolume) and (
            claim.metadata.annotations.get(volume_binding.SELECTED_NODE, step.node) != step.node
        ):
            raise VolumesNotBound(f'binding volumes: provisioning failed for PVC "{step.claim}"')
        return False
