"""What a job's pods count for, exactly once each, even if the controller dies at any moment. Pure.

A finished pod first has its uid written into status.uncountedTerminatedPods (for an Indexed job a success is written
into completedIndexes instead), then loses its finalizer, and only when that is seen is it moved into the counters.
Read by plan.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from kybern.api import scalars
from kybern.api.batch_v1 import Job
from kybern.api.core_v1 import Pod
from kybern.controllers import pods
from kybern.controllers.job import failure_policy, indexes

FINALIZER = "batch.kubernetes.io/job-tracking"
UNCOUNTED_LIMIT = 500  # uids in a status at once, as upstream
REPLACE_FAILED_ONLY = "Failed"


@dataclass(slots=True)
class Tally:
    """Counts after this step, and what is left to do for them."""

    succeeded: int  # in the counter of the status
    failed: int
    uncounted_succeeded: list[str]
    uncounted_failed: list[str]
    completed: set[int] = field(default_factory=set)  # indexes
    failed_indexes: set[int] = field(default_factory=set)
    finish: list[Pod] = field(default_factory=list)  # lose their finalizer once the status is written
    active: list[Pod] = field(default_factory=list)
    terminating: int = 0
    ready: int = 0
    unrecorded_failed: int = 0  # failed pods that must wait to be recorded
    fail_message: str = ""  # a FailJob rule matched
    new_failures: list[datetime.datetime] = field(default_factory=list)  # when, of those first seen now
    new_success: bool = False
    last_failed: dict[int, Pod] = field(default_factory=dict)  # index -> its latest failed pod
    pending_finalizers: int = 0

    @property
    def total_succeeded(self) -> int:
        return self.succeeded + len(self.uncounted_succeeded)

    @property
    def total_failed(self) -> int:
        return self.failed + len(self.uncounted_failed) + self.unrecorded_failed


def replaces_failed_only(job: Job) -> bool:
    """A terminating pod is replaced, and counted, when it has ended and not before."""
    return job.spec.podReplacementPolicy == REPLACE_FAILED_ONLY


def has_failed(pod: Pod, job: Job) -> bool:
    if pod.status.phase == "Failed":
        return True
    if replaces_failed_only(job):
        return False
    return pod.metadata.deletionTimestamp is not None and pod.status.phase != "Succeeded"


def is_tracked(pod: Pod) -> bool:
    return FINALIZER in pod.metadata.finalizers


def take(job: Job, own: Sequence[Pod], *, finishing: bool, now: datetime.datetime) -> Tally:
    """Count a job's pods. `finishing`: no pod will be replaced any more."""
    tally = _start(job, own)
    by_index = job.spec.backoffLimitPerIndex is not None and indexes.is_indexed(job)
    recorded = set(tally.uncounted_succeeded) | set(tally.uncounted_failed)
    ordered = sorted(own, key=lambda pod: (pod.metadata.creationTimestamp or "", pod.metadata.name))
    if by_index:
        _find_last_failures(job, ordered, tally)
    for pod in ordered:
        tally.pending_finalizers += is_tracked(pod)
        if pods.is_active(pod):
            tally.active.append(pod)
            tally.ready += pods.is_ready(pod)
        elif pods.is_terminating(pod):
            tally.terminating += 1
        if not is_tracked(pod):
            continue
        if pod.metadata.uid in recorded:
            tally.finish.append(pod)
        elif len(tally.uncounted_succeeded) + len(tally.uncounted_failed) >= UNCOUNTED_LIMIT:
            continue
        elif pod.status.phase == "Succeeded":
            _record_success(job, pod, tally)
        elif has_failed(pod, job):
            _record_failure(job, pod, tally, by_index=by_index, finishing=finishing, now=now)
    if indexes.is_indexed(job):
        tally.succeeded = len(tally.completed)
    return tally


def _start(job: Job, own: Sequence[Pod]) -> Tally:
    """The counters of the status, with those recorded pods moved in that have lost their finalizer."""
    status = job.status
    waiting = {pod.metadata.uid for pod in own if is_tracked(pod)}
    uncounted = status.uncountedTerminatedPods
    succeeded = uncounted.succeeded if uncounted is not None else []
    failed = uncounted.failed if uncounted is not None else []
    still_succeeded = [uid for uid in succeeded if uid in waiting]
    still_failed = [uid for uid in failed if uid in waiting]
    limit = job.spec.completions or 0
    return Tally(
        succeeded=(status.succeeded or 0) + len(succeeded) - len(still_succeeded),
        failed=(status.failed or 0) + len(failed) - len(still_failed),
        uncounted_succeeded=still_succeeded,
        uncounted_failed=still_failed,
        completed=indexes.parse(status.completedIndexes or "", limit) if indexes.is_indexed(job) else set(),
        failed_indexes=indexes.parse(status.failedIndexes or "", limit) if indexes.is_indexed(job) else set(),
    )


def _record_success(job: Job, pod: Pod, tally: Tally) -> None:
    tally.new_success = True
    tally.finish.append(pod)
    if not indexes.is_indexed(job):
        tally.uncounted_succeeded.append(pod.metadata.uid)
        return
    index = indexes.valid_index(pod, job)
    if index is not None and index not in tally.failed_indexes:
        tally.completed.add(index)


def _record_failure(
    job: Job, pod: Pod, tally: Tally, *, by_index: bool, finishing: bool, now: datetime.datetime
) -> None:
    match = failure_policy.judge(job, pod) if pod.status.phase == "Failed" else failure_policy.Match()
    index = indexes.valid_index(pod, job)
    if match.action == failure_policy.FAIL_JOB and not tally.fail_message:
        tally.fail_message = match.message
    if by_index and index is not None and index not in tally.completed:
        failures, _ = indexes.failures_of(pod)
        over = match.action != failure_policy.IGNORE and failures >= (job.spec.backoffLimitPerIndex or 0)
        if over or match.action == failure_policy.FAIL_INDEX:
            tally.failed_indexes.add(index)
        elif tally.last_failed.get(index) is pod and not finishing and not _has_successor(pod, tally):
            # Its replacement takes the count of failures from it: it stays until then.
            tally.unrecorded_failed += match.action != failure_policy.IGNORE
            return
    tally.finish.append(pod)
    if match.action == failure_policy.IGNORE:
        return
    tally.uncounted_failed.append(pod.metadata.uid)
    tally.new_failures.append(finished_at(pod) or now)


def _find_last_failures(job: Job, ordered: Sequence[Pod], tally: Tally) -> None:
    latest: dict[int, Pod] = {}
    for pod in ordered:
        index = indexes.valid_index(pod, job)
        if index is None:
            continue
        current = latest.get(index)
        if current is None or sum(indexes.failures_of(pod)) >= sum(indexes.failures_of(current)):
            latest[index] = pod
    tally.last_failed = {index: pod for index, pod in latest.items() if has_failed(pod, job)}


def _has_successor(pod: Pod, tally: Tally) -> bool:
    index = indexes.index_of(pod)
    return any(indexes.index_of(other) == index for other in tally.active)


def finished_at(pod: Pod) -> datetime.datetime | None:
    """When its last container ended; when it was told to stop, if none says."""
    ends = [s.state.terminated.finishedAt for s in pod.status.containerStatuses if s.state.terminated is not None]
    known = [scalars.parse_time(end) for end in ends if end]
    if known:
        return max(known)
    stamp = pod.metadata.deletionTimestamp
    return scalars.parse_time(stamp) if stamp else None
