"""Carry a job's steps out, and free pods whose job is gone.

Woken by jobs and pods; decides in plan. A second loop takes the tracking finalizer off pods that no job will count.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.batch_v1 import Job
from kybern.api.core_v1 import Pod
from kybern.api.meta_v1 import OwnerReference
from kybern.client import shapes
from kybern.client.workqueue import RateLimit
from kybern.controllers import ownership, pods, runtime
from kybern.controllers.job import plan, tally, verdict
from kybern.machinery import labels
from kybern.machinery.status import ApiError

NAME = "job-controller"


class JobController:
    """runtime.Controller of jobs, and of pods that jobs left behind."""

    def __init__(self, context: runtime.Context, *, workers: int = 5) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder(NAME)
        self._jobs = context.informers.of(Job)
        self._pods = context.informers.of(Pod)
        ownership.add_index(self._pods)
        self._backoffs: dict[str, plan.Backoff] = {}  # by uid of the job
        limit = RateLimit(first=0.05, longest=600.0)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=workers, limit=limit)
        self.left_behind = runtime.Loop(f"{NAME}-orphans", self.free_pod, context.clock, workers=2)
        self.loops = (self.loop, self.left_behind)
        self._jobs.on_change(self._job_changed)
        self._pods.on_change(self._pod_changed)
        self._looped = runtime.Looped(NAME, *self.loops)

    async def run(self) -> None:
        await self._looped.run()

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        if new is not None:
            self.loop.queue.add(shapes.key_of(new))
        elif old is not None:
            self._backoffs.pop(old.metadata.uid, None)
            for pod in ownership.owned(self._pods, old.metadata.uid):
                self.left_behind.queue.add(shapes.key_of(pod))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            reference = ownership.controller_of(pod) if pod is not None else None
            if pod is not None and reference is not None and reference.kind == "Job":
                self.loop.queue.add(f"{pod.metadata.namespace}/{reference.name}")
        if new is None or not (tally.is_tracked(new) or ownership.controller_of(new) is None):
            return
        reference = ownership.controller_of(new)
        if reference is None:
            for job in self._jobs.list(new.metadata.namespace):
                if labels.from_label_selector(job.spec.selector).matches(new.metadata.labels):
                    self.loop.queue.add(shapes.key_of(job))
        if tally.is_tracked(new) and self._owner(new, reference) is None:
            self.left_behind.queue.add(shapes.key_of(new))

    def _owner(self, pod: Pod, reference: OwnerReference | None) -> Job | None:
        if reference is None or reference.kind != "Job":
            return None
        job = self._jobs.get(pod.metadata.namespace, reference.name)
        return job if job is not None and job.metadata.uid == reference.uid else None

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        job = self._jobs.by_key(key)
        if job is None or not plan.is_managed_here(job):
            return None
        if verdict.is_finished(job):
            await self._free_pods_of(job)
            return None
        own = await self._claim(job)
        backoff = self._backoffs.get(job.metadata.uid, plan.Backoff())
        step = plan.plan(job, own, backoff, self._context.clock.now())
        again = await self._apply(job, step)
        return runtime.RequeueAfter(again) if again is not None else None

    async def _claim(self, job: Job) -> list[Pod]:
        claim = ownership.plan_claim(
            job,
            labels.from_label_selector(job.spec.selector),
            ownership.owned(self._pods, job.metadata.uid),
            [pod for pod in ownership.orphans(self._pods, job.metadata.namespace) if pods.is_active(pod)],
        )
        return await ownership.apply_claim(self._context, job, claim, finalizer=tally.FINALIZER)

    async def _apply(self, job: Job, step: plan.Plan) -> float | None:
        errors = await runtime.fan_out(step.delete, lambda pod: self._delete(job, pod))
        failure = errors[0] if errors else None
        if step.create and failure is None:
            failure = await runtime.slow_start(step.create, lambda new: self._create(job, new))
            if failure is not None:
                # Tell what is, not what was meant; the rest is counted when it is seen.
                active = [p for p in ownership.owned(self._pods, job.metadata.uid) if pods.is_active(p)]
                step.status.active = len(active) or None
                step.status.ready = sum(pods.is_ready(p) for p in active)
        if step.status != job.status:
            fresh = codec.clone(job)
            fresh.status = step.status
            await self._context.update_status(fresh)
        self._backoffs[job.metadata.uid] = step.backoff
        for type_, reason, message in step.events:
            self._recorder.event(job, type_, reason, message)
        errors = await runtime.fan_out(step.finish, self._free)
        if failure is None and errors:
            failure = errors[0]
        if failure is not None and not runtime.is_namespace_ending(failure):
            raise failure
        return step.again_in

    async def _create(self, job: Job, new: plan.NewPod) -> None:
        try:
            pod = await self._context.create(plan.make_pod(job, new))
        except ApiError as error:
            if not runtime.is_namespace_ending(error):
                self._recorder.event(job, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(job, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, job: Job, pod: Pod) -> None:
        try:
            if await self._context.delete(pod):
                self._recorder.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
        except ApiError as error:
            self._recorder.event(job, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise

    async def _free_pods_of(self, job: Job) -> None:
        """A finished job holds no pods back: those that turned up late are not counted."""
        held = [pod for pod in ownership.owned(self._pods, job.metadata.uid) if tally.is_tracked(pod)]
        running = [pod for pod in held if pods.is_active(pod)]
        errors = await runtime.fan_out(running, lambda pod: self._delete(job, pod))
        errors += await runtime.fan_out(held, self._free)
        if errors:
            raise errors[0]

    async def free_pod(self, key: str) -> runtime.RequeueAfter | None:
        """Let a tracked pod go that no job will count."""
        pod = self._pods.by_key(key)
        if pod is None or not tally.is_tracked(pod):
            return None
        reference = ownership.controller_of(pod)
        if self._owner(pod, reference) is not None:
            return None
        if reference is None and pods.is_active(pod) and self._has_taker(pod):
            return None  # about to be adopted
        if reference is not None and reference.kind == "Job" and await self._still_exists(pod, reference):
            return runtime.RequeueAfter(1.0)  # the informer is behind
        await self._free(pod)
        return None

    def _has_taker(self, pod: Pod) -> bool:
        return any(
            labels.from_label_selector(job.spec.selector).matches(pod.metadata.labels)
            for job in self._jobs.list(pod.metadata.namespace)
            if job.metadata.deletionTimestamp is None and not verdict.is_finished(job)
        )

    async def _still_exists(self, pod: Pod, reference: OwnerReference) -> bool:
        try:
            job = await self._context.client.get(Job, pod.metadata.namespace, reference.name)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return False
        return job.metadata.uid == reference.uid

    async def _free(self, pod: Pod) -> None:
        meta = pod.metadata
        current = self._pods.get(meta.namespace, meta.name)
        if current is None or current.metadata.uid != meta.uid or not tally.is_tracked(current):
            return
        patch = {
            "metadata": {
                "uid": meta.uid,
                "resourceVersion": current.metadata.resourceVersion,
                "finalizers": [f for f in current.metadata.finalizers if f != tally.FINALIZER],
            }
        }
        try:
            left = await self._context.client.patch(Pod, meta.namespace, meta.name, patch)
        except ApiError as error:
            if error.is_not_found:
                return
            raise
        if left.metadata.deletionTimestamp is not None and not left.metadata.finalizers:
            return  # this was all that held it: the answer may be its last state
        self._pods.observe(left)


def build(context: runtime.Context) -> JobController:
    return JobController(context)
