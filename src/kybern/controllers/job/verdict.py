"""Whether a job is over, and how. Pure. Read by plan.

A job ends in two steps: first an interim condition (FailureTarget, SuccessCriteriaMet) that stops its pods, then,
when the last of them has ended, Failed or Complete with the same reason.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from kybern.api import scalars
from kybern.api.batch_v1 import Job, JobCondition
from kybern.controllers.job import indexes
from kybern.controllers.job.tally import Tally

FAILURE_TARGET, SUCCESS_MET, FAILED, COMPLETE, SUSPENDED = (
    "FailureTarget",
    "SuccessCriteriaMet",
    "Failed",
    "Complete",
    "Suspended",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ends."""

    success: bool
    reason: str
    message: str

    @property
    def interim(self) -> str:
        return SUCCESS_MET if self.success else FAILURE_TARGET

    @property
    def final(self) -> str:
        return COMPLETE if self.success else FAILED


def find(job: Job, type_: str) -> JobCondition | None:
    """The condition, if it is true."""
    for condition in job.status.conditions:
        if condition.type == type_ and condition.status == "True":
            return condition
    return None


def is_finished(job: Job) -> bool:
    return find(job, COMPLETE) is not None or find(job, FAILED) is not None


def pronounced(job: Job) -> Verdict | None:
    """The verdict that the status holds already."""
    for type_, success in ((FAILURE_TARGET, False), (SUCCESS_MET, True)):
        condition = find(job, type_)
        if condition is not None:
            return Verdict(success, condition.reason or "", condition.message or "")
    return None


def deadline_in(job: Job, now: datetime.datetime) -> float | None:
    """Seconds until activeDeadlineSeconds is over (0: it is); None without one, or while suspended."""
    if job.spec.activeDeadlineSeconds is None or job.status.startTime is None or job.spec.suspend:
        return None
    passed = (now - scalars.parse_time(job.status.startTime)).total_seconds()
    return max(0.0, job.spec.activeDeadlineSeconds - passed)


def judge(job: Job, tally: Tally, now: datetime.datetime) -> Verdict | None:
    """The verdict to be pronounced now, if any."""
    if tally.fail_message:
        return Verdict(False, "PodFailurePolicy", tally.fail_message)
    if _exceeds_backoff(job, tally):
        return Verdict(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if deadline_in(job, now) == 0.0:
        return Verdict(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    if indexes.is_indexed(job):
        met = _success_policy(job, tally)
        if met is not None:
            return met
        ended = _indexes_failed(job, tally)
        if ended is not None:
            return ended
    if _is_complete(job, tally):
        return Verdict(True, "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _exceeds_backoff(job: Job, tally: Tally) -> bool:
    limit = 6 if job.spec.backoffLimit is None else job.spec.backoffLimit
    if job.spec.backoffLimitPerIndex is not None and job.spec.backoffLimit is None:
        return False
    if tally.total_failed > limit:
        return True
    if job.spec.template.spec.restartPolicy != "OnFailure":
        return False
    restarts = 0
    for pod in tally.active:
        if pod.status.phase in ("Pending", "Running"):
            restarts += sum(s.restartCount for s in (*pod.status.containerStatuses, *pod.status.initContainerStatuses))
    return restarts > 0 if limit == 0 else restarts >= limit


def _is_complete(job: Job, tally: Tally) -> bool:
    if job.spec.completions is None:
        # A work queue: once one pod says it is empty, the others end by themselves.
        return tally.total_succeeded > 0 and not tally.active and tally.terminating == 0
    return tally.total_succeeded >= job.spec.completions and not tally.active


def _indexes_failed(job: Job, tally: Tally) -> Verdict | None:
    if not tally.failed_indexes:
        return None
    limit = job.spec.maxFailedIndexes
    if limit is not None and len(tally.failed_indexes) > limit:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return Verdict(False, "MaxFailedIndexesExceeded", message)
    if len(tally.failed_indexes | tally.completed) >= (job.spec.completions or 0):
        return Verdict(False, "FailedIndexes", "Job has failed indexes")
    return None


def _success_policy(job: Job, tally: Tally) -> Verdict | None:
    if job.spec.successPolicy is None:
        return None
    for number, rule in enumerate(job.spec.successPolicy.rules):
        done = tally.completed
        wanted = None
        if rule.succeededIndexes is not None:
            wanted = indexes.parse(rule.succeededIndexes, job.spec.completions or 0)
            done = done & wanted
        needed = rule.succeededCount if rule.succeededCount is not None else len(wanted or ())
        if needed and len(done) >= needed:
            return Verdict(True, "SuccessPolicy", f"Matched rules at index {number}")
    return None
