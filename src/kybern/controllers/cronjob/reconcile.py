"""Start the jobs of CronJobs, and keep their history short.

Woken by CronJobs, by their jobs and by time; decides in plan.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.batch_v1 import CronJob, Job
from kybern.client import shapes
from kybern.controllers import ownership, runtime
from kybern.controllers.cronjob import plan
from kybern.machinery.status import ApiError

NAME = "cronjob-controller"


class CronJobController(runtime.Looped):
    """runtime.Controller; keys are those of CronJobs."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder(NAME)
        self._cronjobs = context.informers.of(CronJob)
        self._jobs = context.informers.of(Job)
        ownership.add_index(self._jobs)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._cronjobs)
        self._jobs.on_change(self._job_changed)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        for job in (old, new):
            reference = ownership.controller_of(job) if job is not None else None
            if job is not None and reference is not None and reference.kind == "CronJob":
                self.loop.queue.add(f"{job.metadata.namespace}/{reference.name}")

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        cronjob = self._cronjobs.by_key(key)
        if cronjob is None:
            return None
        own = ownership.owned(self._jobs, cronjob.metadata.uid)
        try:
            step = plan.plan(cronjob, own, self._context.clock.now())
        except ValueError as error:
            self._recorder.event(cronjob, "Warning", "UnParseableCronJobSchedule", f"unparseable schedule: {error}")
            return None
        for type_, reason, message in step.events:
            self._recorder.event(cronjob, type_, reason, message)
        for job in step.delete:
            if await self._context.delete(job, propagation="Background"):
                self._recorder.event(cronjob, "Normal", "SuccessfulDelete", f"Deleted job {job.metadata.name}")
        if step.start is not None:
            made = await self._start(cronjob, step)
            if made is not None:
                plan.add_active(step.status, made, step.start)
        if step.status != cronjob.status:
            fresh = codec.clone(cronjob)
            fresh.status = step.status
            await self._context.update_status(fresh)
        return runtime.RequeueAfter(step.again_in) if step.again_in is not None else None

    async def _start(self, cronjob: CronJob, step: plan.Plan) -> Job | None:
        """The job of this time; one that is there already counts if it is ours."""
        assert step.start is not None
        job = plan.make_job(cronjob, step.start)
        try:
            made = await self._context.create(job)
        except ApiError as error:
            if runtime.is_namespace_ending(error):
                return None
            if not error.is_already_exists:
                self._recorder.event(cronjob, "Warning", "FailedCreate", f"Error creating job: {error}")
                raise
            there = await self._context.client.get(Job, job.metadata.namespace, job.metadata.name)
            if ownership.is_controlled_by(there, cronjob):
                return there
            message = f"Found job of the same name with another owner: {shapes.key_of(there)}"
            self._recorder.event(cronjob, "Warning", "FailedCreate", message)
            return None
        self._recorder.event(cronjob, "Normal", "SuccessfulCreate", f"Created job {made.metadata.name}")
        return made


def build(context: runtime.Context) -> CronJobController:
    return CronJobController(context)
