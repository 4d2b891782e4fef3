"""What a CronJob has to do now: start a job, replace or wait for running ones, forget old ones. Pure.

Fed by reconcile. Of the times missed only the latest is made up for, and only within startingDeadlineSeconds.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, field

from kybern.api import codec, scalars
from kybern.api.batch_v1 import CronJob, CronJobStatus, Job
from kybern.api.core_v1 import ObjectReference
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import ownership
from kybern.machinery import cron

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY = 100  # missed times that are worth a warning


@dataclass(frozen=True, slots=True)
class Due:
    """The latest time at or before now (None: none since the last one), how many there were, and the next."""

    latest: datetime.datetime | None
    missed: int
    next: datetime.datetime | None


@dataclass(slots=True)
class Plan:
    status: CronJobStatus
    start: datetime.datetime | None = None  # make the job of this time
    delete: list[Job] = field(default_factory=list)  # history, or what is replaced
    again_in: float | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)


def is_finished(job: Job) -> bool:
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


def has_succeeded(job: Job) -> bool:
    return any(c.type == "Complete" and c.status == "True" for c in job.status.conditions)


def zone_of(cronjob: CronJob) -> datetime.tzinfo:
    """Raises ValueError for a zone nobody knows."""
    if not cronjob.spec.timeZone:
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(cronjob.spec.timeZone)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"unknown time zone {cronjob.spec.timeZone}: {error}") from None


def find_due(schedule: cron.Schedule, since: datetime.datetime, now: datetime.datetime) -> Due:
    """Times in (since, now]."""
    first = schedule.next_after(since)
    if first is None or first > now:
        return Due(None, 0, first)
    latest, missed = first, 1
    while missed <= MANY:
        following = schedule.next_after(latest)
        if following is None or following > now:
            return Due(latest, missed, following)
        latest, missed = following, missed + 1
    # Too many to walk: look back from now, ever further, until there is one.
    reach = datetime.timedelta(minutes=2)
    while True:
        start = max(since, now - reach)
        found = schedule.next_after(start)
        if found is not None and found <= now:
            break
        reach *= 2
    latest = found
    while (following := schedule.next_after(latest)) is not None and following <= now:
        latest = following
    return Due(latest, missed, following)


def plan(cronjob: CronJob, own: Sequence[Job], now: datetime.datetime) -> Plan:
    """The next step. Raises ValueError if the schedule or its zone cannot be understood."""
    step = Plan(codec.clone(cronjob.status))
    running = sorted((job for job in own if not is_finished(job)), key=lambda j: j.metadata.creationTimestamp or "")
    _note_finished(cronjob, own, step)
    step.delete += _surplus(own, cronjob)
    step.status.active = [_reference(job) for job in running]
    if cronjob.spec.suspend or cronjob.metadata.deletionTimestamp is not None:
        return step
    zone = zone_of(cronjob)
    schedule = cron.parse(cronjob.spec.schedule)
    due = find_due(schedule, _since(cronjob, now).astimezone(zone), now.astimezone(zone))
    if due.next is not None:
        step.again_in = max(0.0, (due.next - now).total_seconds()) + 0.1
    if due.latest is None:
        return step
    if due.missed > MANY:
        message = f"too many missed start times: more than {MANY}; set or decrease startingDeadlineSeconds"
        step.events.append(("Warning", "TooManyMissedTimes", message))
    if running and cronjob.spec.concurrencyPolicy == "Forbid":
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        step.events.append(("Normal", "JobAlreadyActive", message))
        return step
    if running and cronjob.spec.concurrencyPolicy == "Replace":
        step.delete += running
        step.status.active = []
    step.start = due.latest
    return step


def _since(cronjob: CronJob, now: datetime.datetime) -> datetime.datetime:
    """After which moment a time is still to be looked for."""
    stamp = cronjob.status.lastScheduleTime or cronjob.metadata.creationTimestamp
    since = scalars.parse_time(stamp) if stamp else now
    if cronjob.spec.startingDeadlineSeconds is not None:
        since = max(since, now - datetime.timedelta(seconds=cronjob.spec.startingDeadlineSeconds))
    return since


def _note_finished(cronjob: CronJob, own: Sequence[Job], step: Plan) -> None:
    by_uid = {job.metadata.uid: job for job in own}
    for reference in cronjob.status.active:
        job = by_uid.get(reference.uid or "")
        if job is None:
            message = f"Active job went missing: {reference.name}"
            step.events.append(("Normal", "MissingJob", message))
        elif is_finished(job):
            condition = "Complete" if has_succeeded(job) else "Failed"
            message = f"Saw completed job: {job.metadata.name}, condition: {condition}"
            step.events.append(("Normal", "SawCompletedJob", message))
    for job in own:
        ended = job.status.completionTime
        if has_succeeded(job) and ended and ended > (step.status.lastSuccessfulTime or ""):
            step.status.lastSuccessfulTime = ended


def _surplus(own: Sequence[Job], cronjob: CronJob) -> list[Job]:
    """Finished jobs beyond the limits of history, oldest first."""
    surplus: list[Job] = []
    limits = ((True, cronjob.spec.successfulJobsHistoryLimit), (False, cronjob.spec.failedJobsHistoryLimit))
    for success, limit in limits:
        if limit is None:
            continue
        ended = [
            job
            for job in own
            if is_finished(job) and has_succeeded(job) == success and job.metadata.deletionTimestamp is None
        ]
        ended.sort(key=lambda job: (job.status.startTime or job.metadata.creationTimestamp or "", job.metadata.name))
        surplus += ended[: max(0, len(ended) - limit)]
    return surplus


def _reference(job: Job) -> ObjectReference:
    return ObjectReference(
        apiVersion="batch/v1",
        kind="Job",
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        resourceVersion=job.metadata.resourceVersion,
    )


def add_active(status: CronJobStatus, job: Job, scheduled: datetime.datetime) -> None:
    """Report a job that was just made."""
    status.active.append(_reference(job))
    status.lastScheduleTime = scalars.render_time(scheduled)


def make_job(cronjob: CronJob, scheduled: datetime.datetime) -> Job:
    """The job of one time: its name is that of the minute, so that it cannot be made twice."""
    template = codec.clone(cronjob.spec.jobTemplate)
    local = scheduled.astimezone(zone_of(cronjob))
    return Job(
        metadata=ObjectMeta(
            name=f"{cronjob.metadata.name}-{int(scheduled.timestamp()) // 60}",
            namespace=cronjob.metadata.namespace,
            labels=template.metadata.labels,
            annotations=template.metadata.annotations | {SCHEDULED_AT: _rfc3339(local)},
            ownerReferences=[ownership.reference_to(cronjob)],
        ),
        spec=template.spec,
    )


def _rfc3339(moment: datetime.datetime) -> str:
    text = moment.isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")
