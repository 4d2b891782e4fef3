"""CronJobs: when, how many at once, how many are kept; over days of virtual time."""

import datetime

import pytest

from kybern.api.batch_v1 import CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec
from kybern.api.core_v1 import Container, PodSpec, PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers.cronjob import plan
from kybern.machinery import cron
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import EXIT, Habits

NAMES = ["cronjob-controller", "job-controller"]
MINUTE, HOUR, DAY = 60, 3600, 86400


def cronjob(schedule="*/5 * * * *", exit_code="0", **spec):
    annotations = {} if exit_code is None else {EXIT: exit_code}
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"job": "tick"}, annotations=annotations),
        spec=PodSpec(containers=[Container(name="c")], restartPolicy="Never"),
    )
    job = JobSpec(completions=1, parallelism=1, backoffLimit=0, template=template, manualSelector=True)
    job.selector = LabelSelector(matchLabels={"job": "tick"})
    limits = {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1, "concurrencyPolicy": "Allow"}
    return CronJob(
        metadata=ObjectMeta(name="tick", namespace="default"),
        spec=CronJobSpec(schedule=schedule, jobTemplate=JobTemplateSpec(spec=job), **limits | spec),
    )


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, habits=options.pop("habits", Habits(run_time=2)), **options)


def starts(plane):
    made = []
    plane.api.react("create jobs", lambda call: made.append(call.body["metadata"]["annotations"][plan.SCHEDULED_AT]))
    return made


def test_jobs_start_on_time_and_only_the_latest_are_kept():
    async def scenario(plane):
        made = starts(plane)
        await plane.client.create(cronjob())
        await plane.clock.sleep(HOUR + 1 * MINUTE)
        found = plane.api.get(CronJob, "default", "tick")
        return made, sorted(j.metadata.name for j in plane.api.list(Job)), found.status

    made, kept, status = run(scenario)
    assert made == [f"2026-01-01T00:{minute:02}:00Z" for minute in range(5, 60, 5)] + ["2026-01-01T01:00:00Z"]
    last = int(datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC).timestamp()) // 60
    assert kept == [f"tick-{last - 10}", f"tick-{last - 5}", f"tick-{last}"]
    assert status.active == [] and status.lastScheduleTime == "2026-01-01T01:00:00Z" and status.lastSuccessfulTime


def test_failed_jobs_have_a_limit_of_their_own():
    async def scenario(plane):
        await plane.client.create(cronjob(exit_code="1"))
        await plane.clock.sleep(HOUR)
        return len(plane.api.list(Job)), plane.api.get(CronJob, "default", "tick").status.lastSuccessfulTime

    assert run(scenario) == (1, None)


def test_a_zone_moves_the_schedule_and_summer_time_is_kept():
    async def scenario(plane):
        made = starts(plane)
        await plane.client.create(cronjob("30 9 * * *", timeZone="Europe/Berlin"))
        await plane.clock.sleep(3 * DAY)
        return made

    made = run(scenario, habits=Habits(run_time=2, heartbeat=600))
    assert made == [f"2026-01-0{day}T09:30:00+01:00" for day in (1, 2, 3)]


@pytest.mark.parametrize(("policy", "running", "started"), [("Allow", 6, 6), ("Forbid", 1, 1), ("Replace", 1, 6)])
def test_what_happens_to_a_job_that_still_runs(policy, running, started):
    async def scenario(plane):
        made = starts(plane)
        await plane.client.create(cronjob(exit_code=None, concurrencyPolicy=policy))
        await plane.clock.sleep(31 * MINUTE)
        alive = [j for j in plane.api.list(Job) if j.metadata.deletionTimestamp is None]
        return len(alive), len(made), len(plane.api.get(CronJob, "default", "tick").status.active)

    assert run(scenario) == (running, started, running)


def test_a_suspended_cronjob_starts_nothing_and_makes_up_for_the_last_time_only():
    async def scenario(plane):
        made = starts(plane)
        await plane.client.create(cronjob(suspend=True))
        await plane.clock.sleep(HOUR + 2 * MINUTE)
        before = list(made)
        plane.api.edit(CronJob, "default", "tick", lambda found: setattr(found.spec, "suspend", False))
        await plane.clock.sleep(MINUTE)
        return before, made

    assert run(scenario) == ([], ["2026-01-01T01:00:00Z"])


def test_a_time_past_its_starting_deadline_is_let_go():
    async def scenario(plane):
        made = starts(plane)
        await plane.client.create(cronjob("0 * * * *", suspend=True, startingDeadlineSeconds=60))
        await plane.clock.sleep(HOUR + 5 * MINUTE)
        plane.api.edit(CronJob, "default", "tick", lambda found: setattr(found.spec, "suspend", False))
        await plane.clock.sleep(5 * MINUTE)
        return made

    assert run(scenario) == []


def test_a_job_is_not_made_twice_even_if_the_status_could_not_be_written():
    async def scenario(plane):
        from kybern.machinery.status import ApiError

        plane.api.fail_next("update cronjobs/status", ApiError.unavailable("busy"), times=5)
        await plane.client.create(cronjob("0 * * * *", exit_code=None))
        await plane.clock.sleep(HOUR + 10 * MINUTE)
        return len(plane.api.list(Job)), len(plane.api.get(CronJob, "default", "tick").status.active)

    assert run(scenario) == (1, 1)


@pytest.mark.parametrize("schedule", ["* * * * *", "*/7 3 * * *", "@hourly", "0 0 29 2 *", "@every 90s"])
@pytest.mark.parametrize("days", [0.01, 1, 400, 4000])
def test_the_latest_due_time_is_found_however_long_nobody_looked(schedule, days):
    now = datetime.datetime(2026, 5, 5, 12, 0, 30, tzinfo=datetime.UTC)
    since = now - datetime.timedelta(days=days)
    parsed = cron.parse(schedule)
    due = plan.find_due(parsed, since, now)
    if due.latest is not None:
        assert since < due.latest <= now
        assert due.next is None or due.next > now
    else:
        assert due.missed == 0


def test_a_schedule_nobody_understands_does_no_harm():
    async def scenario(plane):
        plane.api.put(cronjob("this is not a schedule"))
        plane.api.put(
            CronJob(
                metadata=ObjectMeta(name="lost", namespace="default"),
                spec=CronJobSpec(schedule="* * * * *", timeZone="Nowhere/None"),
            )
        )
        await plane.clock.sleep(10 * MINUTE)
        return plane.api.list(Job)

    assert run(scenario) == []
