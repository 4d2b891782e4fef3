"""Jobs on a fake API and kubelet: counting, indexes, failures, suspension, and pods that are left behind."""

import pytest

from kybern.api.batch_v1 import (
    Job,
    JobSpec,
    PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyRule,
    SuccessPolicy,
    SuccessPolicyRule,
)
from kybern.api.core_v1 import Container, Pod, PodSpec, PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers import pods
from kybern.controllers.job import indexes, tally
from kybern.machinery.status import ApiError
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import EXIT, Habits

NAMES = ["job-controller", "ttl-after-finished-controller"]


def job(exit_code: str | None = "0", **spec) -> Job:
    annotations = {} if exit_code is None else {EXIT: exit_code}
    return Job(
        metadata=ObjectMeta(name="work", namespace="default"),
        spec=JobSpec(
            selector=LabelSelector(matchLabels={"job": "work"}),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"job": "work"}, annotations=annotations),
                spec=PodSpec(containers=[Container(name="c", image="i")], restartPolicy="Never"),
            ),
            **{"parallelism": 1, "completions": 1, "backoffLimit": 6} | spec,
        ),
    )


def found(plane) -> Job:
    return plane.api.get(Job, "default", "work")


def is_true(plane, type_):
    return any(c.type == type_ and c.status == "True" for c in found(plane).status.conditions)


def reasons(plane):
    return {c.type: c.reason for c in found(plane).status.conditions if c.status == "True"}


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, **options)


def test_a_job_completes_counts_each_pod_once_and_lets_all_of_them_go():
    async def scenario(plane):
        await plane.client.create(job(completions=7, parallelism=3))
        await plane.until(lambda: is_true(plane, "Complete"))
        await plane.clock.sleep(5)
        return found(plane).status, plane.api.list(Pod), reasons(plane)

    status, left, why = run(scenario)
    assert (status.succeeded, status.failed, status.active, status.ready, status.terminating) == (7, None, None, 0, 0)
    assert why == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert len(left) == 7 and not any(tally.is_tracked(pod) for pod in left)
    assert status.startTime and status.completionTime
    assert status.uncountedTerminatedPods.succeeded == []


def test_never_more_pods_run_than_parallelism_allows():
    async def scenario(plane):
        seen = []
        plane.api.react("create pods", lambda call: seen.append(sum(pods.is_active(p) for p in plane.api.list(Pod))))
        await plane.client.create(job(completions=10, parallelism=4))
        await plane.until(lambda: is_true(plane, "Complete"))
        return seen

    seen = run(scenario)
    assert len(seen) == 10 and max(seen) == 3


def test_an_indexed_job_gives_every_index_one_success_a_host_name_and_an_environment():
    async def scenario(plane):
        await plane.client.create(job(completions=5, parallelism=2, completionMode="Indexed"))
        await plane.until(lambda: is_true(plane, "Complete"))
        return found(plane).status, plane.api.list(Pod)

    status, left = run(scenario)
    assert (status.completedIndexes, status.succeeded) == ("0-4", 5)
    assert sorted(indexes.index_of(pod) for pod in left) == [0, 1, 2, 3, 4]
    for pod in left:
        index = indexes.index_of(pod)
        assert pod.spec.hostname == f"work-{index}" and pod.metadata.labels[indexes.ANNOTATION] == str(index)
        (env,) = pod.spec.containers[0].env
        assert env.name == "JOB_COMPLETION_INDEX" and indexes.ANNOTATION in env.valueFrom.fieldRef.fieldPath


def test_failures_beyond_the_limit_fail_the_job_with_growing_pauses_between_pods():
    async def scenario(plane):
        created = []
        plane.api.react("create pods", lambda call: created.append(plane.clock.monotonic()))
        await plane.client.create(job("1", backoffLimit=2))
        await plane.until(lambda: is_true(plane, "Failed"))
        return found(plane).status, created, reasons(plane)

    status, created, why = run(scenario)
    assert (status.failed, status.succeeded) == (3, None)
    assert why == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    first, second = created[1] - created[0], created[2] - created[1]
    assert 10 <= first < 13 and 20 <= second < 23


def test_a_pod_failure_policy_can_fail_the_job_at_once():
    rule = PodFailurePolicyRule(
        action="FailJob", onExitCodes=PodFailurePolicyOnExitCodesRequirement(operator="In", values=[42])
    )

    async def scenario(plane):
        await plane.client.create(
            job("42", podFailurePolicy=PodFailurePolicy(rules=[rule]), podReplacementPolicy="Failed")
        )
        await plane.until(lambda: is_true(plane, "Failed"))
        condition = next(c for c in found(plane).status.conditions if c.type == "Failed")
        return condition.reason, condition.message, found(plane).status.failed

    reason, message, failed = run(scenario)
    assert (reason, failed) == ("PodFailurePolicy", 1)
    assert message.startswith("Container c for pod default/work-")
    assert message.endswith("failed with exit code 42 matching FailJob rule at index 0")


def test_ignored_failures_are_not_counted():
    rule = PodFailurePolicyRule(
        action="Ignore", onExitCodes=PodFailurePolicyOnExitCodesRequirement(operator="In", values=[7])
    )

    async def scenario(plane):
        ends = iter([7, 7, 7, 0])
        codes = {}

        def code(pod):
            return (
                codes.setdefault(pod.metadata.uid, None)
                if pod.metadata.uid in codes
                else codes.setdefault(pod.metadata.uid, next(ends))
            )

        plane.kubelet.habits = Habits(exit_code=code)
        policy = PodFailurePolicy(rules=[rule])
        await plane.client.create(job(backoffLimit=0, podFailurePolicy=policy, podReplacementPolicy="Failed"))
        await plane.until(lambda: is_true(plane, "Complete"))
        return found(plane).status

    status = run(scenario)
    assert (status.succeeded, status.failed) == (1, None)


def test_with_a_limit_per_index_every_index_gets_its_chances_and_bad_ones_are_told():
    async def scenario(plane):
        plane.kubelet.habits = Habits(exit_code=lambda pod: indexes.index_of(pod) % 2)
        spec = {"completions": 4, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
        await plane.client.create(job(backoffLimit=None, **spec))
        await plane.until(lambda: is_true(plane, "Failed"))
        counts = sorted((indexes.index_of(p), indexes.failures_of(p)[0]) for p in plane.api.list(Pod))
        return found(plane).status, counts, reasons(plane)["Failed"]

    status, counts, why = run(scenario)
    assert (status.completedIndexes, status.failedIndexes, status.failed, status.succeeded) == ("0,2", "1,3", 4, 2)
    assert counts == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    assert why == "FailedIndexes"


def test_a_success_policy_ends_the_job_and_stops_what_still_runs():
    async def scenario(plane):
        plane.kubelet.habits = Habits(exit_code=lambda pod: 0 if indexes.index_of(pod) == 0 else None)
        policy = SuccessPolicy(rules=[SuccessPolicyRule(succeededIndexes="0")])
        await plane.client.create(job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy))
        await plane.until(lambda: is_true(plane, "Complete"))
        return found(plane).status, [p for p in plane.api.list(Pod) if pods.is_active(p)], reasons(plane)

    status, running, why = run(scenario)
    assert (status.completedIndexes, running) == ("0", [])
    assert why == {"SuccessCriteriaMet": "SuccessPolicy", "Complete": "SuccessPolicy"}


def test_a_suspended_job_has_no_pods_and_starts_anew_when_resumed():
    async def scenario(plane):
        await plane.client.create(job(None, parallelism=2, completions=2, suspend=True))
        await plane.clock.sleep(5)
        suspended = (found(plane).status.startTime, len(plane.api.list(Pod)), is_true(plane, "Suspended"))

        def resume(obj):
            obj.spec.suspend = False

        plane.api.edit(Job, "default", "work", resume)
        await plane.until(lambda: found(plane).status.ready == 2)

        def suspend(obj):
            obj.spec.suspend = True

        plane.api.edit(Job, "default", "work", suspend)
        await plane.until(lambda: not plane.api.list(Pod))
        return suspended, is_true(plane, "Suspended"), found(plane).status.active

    assert run(scenario) == ((None, 0, True), True, None)


def test_a_job_past_its_deadline_is_stopped():
    async def scenario(plane):
        await plane.client.create(job(None, activeDeadlineSeconds=30))
        await plane.until(lambda: is_true(plane, "Failed"))
        return plane.clock.monotonic(), reasons(plane)["Failed"], plane.api.list(Pod)

    when, why, left = run(scenario)
    assert 30 <= when < 35 and why == "DeadlineExceeded" and left == []


def test_a_terminating_pod_is_replaced_only_after_its_end_if_so_asked():
    async def scenario(plane):
        await plane.client.create(job(None, podReplacementPolicy="Failed"))
        await plane.until(lambda: found(plane) and found(plane).status.ready == 1)
        name = plane.api.list(Pod)[0].metadata.name
        await plane.client.delete(Pod, "default", name)
        await plane.clock.sleep(3)
        amid = (found(plane).status.active, found(plane).status.failed, found(plane).status.terminating)
        await plane.until(lambda: found(plane).status.active == 1 and found(plane).status.failed == 1)
        return amid

    assert run(scenario, habits=Habits(stop_delay=10)) == (None, None, 1)


def test_pods_of_a_deleted_job_are_let_go():
    async def scenario(plane):
        await plane.client.create(job(None, parallelism=2, completions=2))
        await plane.until(lambda: found(plane).status.ready == 2)
        plane.api.remove(Job, "default", "work")
        await plane.until(lambda: not any(tally.is_tracked(p) for p in plane.api.list(Pod)))
        return len(plane.api.list(Pod))

    assert run(scenario) == 2


def test_a_released_pod_loses_owner_and_finalizer_and_is_replaced():
    async def scenario(plane):
        await plane.client.create(job(None))
        await plane.until(lambda: found(plane).status.ready == 1)
        name = plane.api.list(Pod)[0].metadata.name
        plane.api.edit(Pod, "default", name, lambda pod: pod.metadata.labels.clear())
        await plane.until(lambda: len(plane.api.list(Pod)) == 2)
        released = plane.api.get(Pod, "default", name)
        return released.metadata.ownerReferences, released.metadata.finalizers

    assert run(scenario) == ([], [])


def test_an_orphaned_pod_is_adopted_with_its_finalizer():
    async def scenario(plane):
        await plane.client.create(job(None))
        await plane.until(lambda: found(plane).status.ready == 1)
        name = plane.api.list(Pod)[0].metadata.name
        plane.api.edit(Pod, "default", name, lambda pod: pod.metadata.ownerReferences.clear())
        await plane.until(lambda: plane.api.get(Pod, "default", name).metadata.ownerReferences)
        await plane.clock.sleep(5)
        pod = plane.api.get(Pod, "default", name)
        return (
            pod.metadata.ownerReferences[0].uid == found(plane).metadata.uid,
            pod.metadata.finalizers,
            len(plane.api.list(Pod)),
        )

    assert run(scenario) == (True, [tally.FINALIZER], 1)


def test_a_job_of_another_manager_is_left_alone():
    async def scenario(plane):
        await plane.client.create(job(managedBy="example.com/other"))
        await plane.clock.sleep(30)
        return plane.api.list(Pod), found(plane).status.conditions

    assert run(scenario) == ([], [])


def test_a_finished_job_is_deleted_after_its_time_to_live():
    async def scenario(plane):
        await plane.client.create(job(ttlSecondsAfterFinished=60))
        await plane.until(lambda: is_true(plane, "Complete"))
        finished = plane.clock.monotonic()
        await plane.until(lambda: found(plane) is None or found(plane).metadata.deletionTimestamp)
        return plane.clock.monotonic() - finished

    assert 59 <= run(scenario) < 63


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_exact_whatever_requests_fail(seed):
    """Conflicts, refusals and lost answers at random must neither lose a success nor count one twice."""
    import random

    async def scenario(plane):
        dice = random.Random(seed)

        def trouble(call):
            if dice.random() < 0.25:
                return dice.choice([ApiError.stale("", call.resource.plural, call.name), ApiError.unavailable("busy")])
            return None

        for what in ("create pods", "patch pods", "update jobs/status"):
            plane.api.react(what, trouble)
        await plane.client.create(job(completions=12, parallelism=4))
        await plane.until(lambda: is_true(plane, "Complete"))
        await plane.clock.sleep(60)
        succeeded = [p for p in plane.api.list(Pod) if p.status.phase == "Succeeded"]
        return found(plane).status.succeeded, len(succeeded), [p for p in plane.api.list(Pod) if tally.is_tracked(p)]

    counted, real, held = run(scenario)
    assert (counted, real, held) == (12, 12, []), f"seed {seed}"


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("0", [0]), ("0,1", [0, 1]), ("0-2", [0, 1, 2]), ("1,3-5,7,8", [1, 3, 4, 5, 7, 8])]
)
def test_indexes_are_read_and_written_alike(text, numbers):
    assert indexes.parse(text, 100) == set(numbers)
    assert indexes.render(numbers) == text


@pytest.mark.parametrize("text", ["x", "1-", "-", "3-1", "1,,2", "9" * 50, "5-" + "9" * 12, "\u0663"])
def test_broken_index_texts_do_no_harm(text):
    assert indexes.parse(text, 4) <= {0, 1, 2, 3}
