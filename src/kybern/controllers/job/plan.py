"""One step of a job: what to write into its status, which pods to make, to stop and to let go. Pure.

Fed by reconcile. The order of carrying it out matters: delete, status, finalizers, create.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from kybern.api import codec, scalars
from kybern.api.batch_v1 import Job, JobCondition, JobStatus, UncountedTerminatedPods
from kybern.api.core_v1 import EnvVar, EnvVarSource, ObjectFieldSelector, Pod
from kybern.controllers import pods
from kybern.controllers.job import failure_policy, indexes, verdict
from kybern.controllers.job.tally import FINALIZER, Tally, has_failed, replaces_failed_only, take
from kybern.controllers.job.verdict import Verdict

FIRST_BACKOFF = 10.0  # seconds after a failure until a new pod, doubled with each more, up to ...
LONGEST_BACKOFF = 600.0
BURST = 500
MANAGER = "kubernetes.io/job-controller"
INDEX_ENV = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures of a job since its last success."""

    failures: int = 0
    last: datetime.datetime | None = None

    def left(self, now: datetime.datetime) -> float:
        if self.failures == 0 or self.last is None:
            return 0.0
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self.failures - 1, 30))
        return max(0.0, pause - (now - self.last).total_seconds())


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod to make: of an index, after so many failures (ignored failures) of it."""

    index: int | None = None
    failures: int | None = None
    ignored: int = 0


@dataclass(slots=True)
class Plan:
    status: JobStatus
    delete: list[Pod] = field(default_factory=list)
    finish: list[Pod] = field(default_factory=list)
    create: list[NewPod] = field(default_factory=list)
    again_in: float | None = None
    backoff: Backoff = Backoff()
    events: list[tuple[str, str, str]] = field(default_factory=list)  # type, reason, message

    def again(self, seconds: float | None) -> None:
        if seconds is not None and seconds > 0:
            self.again_in = seconds if self.again_in is None else min(self.again_in, seconds)


def is_managed_here(job: Job) -> bool:
    return job.spec.managedBy in (None, "", MANAGER)


def plan(job: Job, own: Sequence[Pod], backoff: Backoff, now: datetime.datetime) -> Plan:
    """The next step of a job that is not finished. `own` are all pods it controls."""
    ending = verdict.pronounced(job)
    tally = take(job, own, finishing=ending is not None, now=now)
    backoff = _next_backoff(backoff, tally)
    step = Plan(codec.clone(job.status), finish=tally.finish, backoff=backoff)
    stamp = scalars.render_time(now)
    if step.status.startTime is None and not job.spec.suspend:
        step.status.startTime = stamp
    if ending is None:
        ending = verdict.judge(job, tally, now)
        if ending is not None:
            tally = take(job, own, finishing=True, now=now)
            step.finish = tally.finish
            _set(step.status, ending.interim, "True", ending.reason, ending.message, now)
    if ending is not None:
        step.delete = list(tally.active)
    elif job.metadata.deletionTimestamp is None:
        _resume_or_suspend(job, step, now)
        _scale(job, own, tally, step, now)
        step.again(verdict.deadline_in(job, now))
        if step.status.startTime == stamp and job.spec.activeDeadlineSeconds is not None and not job.spec.suspend:
            step.again(float(job.spec.activeDeadlineSeconds))
    _count(job, tally, step)
    if ending is not None and _has_settled(tally, step):
        _end(job, step, ending, now)
    return step


def _next_backoff(backoff: Backoff, tally: Tally) -> Backoff:
    if tally.new_success and not tally.new_failures:
        return Backoff()
    if not tally.new_failures:
        return backoff
    before = 0 if tally.new_success else backoff.failures
    return Backoff(before + len(tally.new_failures), max(tally.new_failures))


def _resume_or_suspend(job: Job, step: Plan, now: datetime.datetime) -> None:
    suspended = verdict.find(job, verdict.SUSPENDED) is not None
    if job.spec.suspend and not suspended:
        _set(step.status, verdict.SUSPENDED, "True", "JobSuspended", "Job suspended", now)
        step.events.append(("Normal", "Suspended", "Job suspended"))
    elif not job.spec.suspend and suspended:
        _set(step.status, verdict.SUSPENDED, "False", "JobResumed", "Job resumed", now)
        step.status.startTime = scalars.render_time(now)
        step.events.append(("Normal", "Resumed", "Job resumed"))


def _scale(job: Job, own: Sequence[Pod], tally: Tally, step: Plan, now: datetime.datetime) -> None:
    """Which pods to stop or make, so that as many run as should."""
    if job.spec.suspend:
        step.delete = list(tally.active)
        return
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    active = list(tally.active)
    if indexes.is_indexed(job):
        surplus = _surplus_of_indexes(job, active, tally)
        step.delete += surplus
        active = [pod for pod in active if pod not in surplus]
    if job.spec.completions is None:
        wanted = len(active) if tally.total_succeeded > 0 else parallelism
    else:
        missing = job.spec.completions - tally.total_succeeded - len(tally.failed_indexes)
        wanted = max(0, min(parallelism, missing))
    if len(active) > wanted:
        active.sort(key=lambda pod: (pods.is_ready(pod), pod.status.phase == "Running", bool(pod.spec.nodeName)))
        step.delete += active[: len(active) - wanted]
        return
    room = wanted - len(active)
    if replaces_failed_only(job):
        room -= tally.terminating
    if room <= 0:
        return
    left = step.backoff.left(now)
    if left > 0:
        step.again(left)
        return
    count = min(room, BURST)
    step.create = _new_indexes(job, own, active, tally, count) if indexes.is_indexed(job) else [NewPod()] * count


def _surplus_of_indexes(job: Job, active: Sequence[Pod], tally: Tally) -> list[Pod]:
    """Active pods whose index is out of range, done, given up, or taken by another."""
    surplus, seen = [], set()
    for pod in active:
        index = indexes.valid_index(pod, job)
        if index is None or index in seen or index in tally.completed or index in tally.failed_indexes:
            surplus.append(pod)
        else:
            seen.add(index)
    return surplus


def _new_indexes(job: Job, own: Sequence[Pod], active: Sequence[Pod], tally: Tally, count: int) -> list[NewPod]:
    """The lowest indexes that need a pod."""
    taken = {indexes.index_of(pod) for pod in active} | tally.completed | tally.failed_indexes
    if replaces_failed_only(job):
        taken |= {indexes.index_of(pod) for pod in own if pods.is_terminating(pod)}
    made: list[NewPod] = []
    for index in range(job.spec.completions or 0):
        if len(made) == count:
            break
        if index not in taken:
            made.append(_new_index(job, index, tally))
    return made


def _new_index(job: Job, index: int, tally: Tally) -> NewPod:
    if job.spec.backoffLimitPerIndex is None:
        return NewPod(index)
    last = tally.last_failed.get(index)
    if last is None or not has_failed(last, job):
        return NewPod(index, 0)
    failures, ignored = indexes.failures_of(last)
    if failure_policy.judge(job, last).action == failure_policy.IGNORE:
        return NewPod(index, failures, ignored + 1)
    return NewPod(index, failures + 1, ignored)


def _count(job: Job, tally: Tally, step: Plan) -> None:
    """The numbers of the status, as they will be once pods are deleted and made."""
    status = step.status
    leaving = {pod.metadata.uid for pod in step.delete}
    staying = [pod for pod in tally.active if pod.metadata.uid not in leaving]
    status.active = len(staying) + len(step.create) or None
    status.ready = sum(pods.is_ready(pod) for pod in staying)
    status.terminating = tally.terminating + len(leaving)
    status.succeeded = tally.succeeded or None
    status.failed = tally.failed or None
    uncounted = UncountedTerminatedPods(succeeded=tally.uncounted_succeeded, failed=tally.uncounted_failed)
    status.uncountedTerminatedPods = uncounted
    if indexes.is_indexed(job):
        status.completedIndexes = indexes.render(tally.completed) or None
        if job.spec.backoffLimitPerIndex is not None:
            status.failedIndexes = indexes.render(tally.failed_indexes)


def _has_settled(tally: Tally, step: Plan) -> bool:
    """No pod runs, and every one is counted for good."""
    quiet = not tally.active and tally.terminating == 0 and not step.delete
    return quiet and not tally.uncounted_succeeded and not tally.uncounted_failed and tally.pending_finalizers == 0


def _end(job: Job, step: Plan, ending: Verdict, now: datetime.datetime) -> None:
    status = step.status
    _set(status, ending.final, "True", ending.reason, ending.message, now)
    status.active, status.ready, status.terminating = None, 0, 0
    if ending.success:
        status.completionTime = scalars.render_time(now)
        step.events.append(("Normal", "Completed", "Job completed"))
    else:
        step.events.append(("Warning", ending.reason, ending.message))
    step.again_in = None


def _set(status: JobStatus, type_: str, value: str, reason: str, message: str, now: datetime.datetime) -> None:
    stamp = scalars.render_time(now)
    status.conditions = [c for c in status.conditions if c.type != type_]
    status.conditions.append(
        JobCondition(
            type=type_, status=value, reason=reason, message=message, lastProbeTime=stamp, lastTransitionTime=stamp
        )
    )


def make_pod(job: Job, new: NewPod) -> Pod:
    """The pod itself: tracked by a finalizer, and told its index."""
    pod = pods.from_template(job.spec.template, job)
    if FINALIZER not in pod.metadata.finalizers:
        pod.metadata.finalizers.append(FINALIZER)
    if new.index is None:
        return pod
    number = str(new.index)
    pod.metadata.generateName = f"{job.metadata.name}-{number}-"
    pod.metadata.annotations[indexes.ANNOTATION] = number
    pod.metadata.labels[indexes.ANNOTATION] = number
    if new.failures is not None:
        pod.metadata.annotations[indexes.FAILURES] = str(new.failures)
        if new.ignored:
            pod.metadata.annotations[indexes.IGNORED_FAILURES] = str(new.ignored)
    if not pod.spec.hostname:
        pod.spec.hostname = f"{job.metadata.name}-{number}"
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        if any(env.name == INDEX_ENV for env in container.env):
            continue
        source = EnvVarSource(fieldRef=ObjectFieldSelector(fieldPath=f"metadata.annotations['{indexes.ANNOTATION}']"))
        container.env.append(EnvVar(name=INDEX_ENV, valueFrom=source))
    return pod
