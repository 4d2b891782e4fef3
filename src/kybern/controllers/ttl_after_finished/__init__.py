"""Finished jobs with ttlSecondsAfterFinished are deleted when that time is over."""

from __future__ import annotations

import datetime

from kybern.api import scalars
from kybern.api.batch_v1 import Job
from kybern.client import shapes
from kybern.controllers import runtime
from kybern.machinery.status import ApiError

NAME = "ttl-after-finished-controller"


def expires_in(job: Job, now: datetime.datetime) -> float | None:
    """Seconds until the job is to go (0: now); None if it is not finished, or stays."""
    if job.spec.ttlSecondsAfterFinished is None or job.metadata.deletionTimestamp is not None:
        return None
    for condition in job.status.conditions:
        if condition.type in ("Complete", "Failed") and condition.status == "True" and condition.lastTransitionTime:
            since = scalars.parse_time(condition.lastTransitionTime)
            return max(0.0, job.spec.ttlSecondsAfterFinished - (now - since).total_seconds())
    return None


class TtlController(runtime.Looped):
    """runtime.Controller; keys are those of jobs."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._jobs = context.informers.of(Job)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        self._jobs.on_change(self._changed)

    def _changed(self, old: Job | None, new: Job | None) -> None:
        if new is not None and expires_in(new, self._context.clock.now()) is not None:
            self.loop.queue.add(shapes.key_of(new))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        job = self._jobs.by_key(key)
        left = expires_in(job, self._context.clock.now()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return runtime.RequeueAfter(left)
        meta = job.metadata
        try:
            live = await self._context.client.get(Job, meta.namespace, meta.name)
            if live.metadata.uid != meta.uid or expires_in(live, self._context.clock.now()) != 0.0:
                return None  # its ttl was changed at the last moment
            await self._context.client.delete(
                Job,
                meta.namespace,
                meta.name,
                uid=meta.uid,
                resource_version=live.metadata.resourceVersion,
                propagation="Foreground",
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None


def build(context: runtime.Context) -> TtlController:
    return TtlController(context)
