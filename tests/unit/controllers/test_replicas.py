"""ReplicaSets and ReplicationControllers on a fake API and kubelet."""

import datetime

import pytest

from kybern.api import scalars
from kybern.api.apps_v1 import ReplicaSet, ReplicaSetSpec
from kybern.api.core_v1 import (
    Container,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
    ReplicationController,
    ReplicationControllerSpec,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers import pods
from kybern.controllers.replicas import plan
from kybern.machinery.status import ApiError
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import Habits

NAMES = ["replicaset-controller", "replicationcontroller-controller"]
NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def template(labels=None):
    return PodTemplateSpec(
        metadata=ObjectMeta(labels=labels or {"app": "x"}),
        spec=PodSpec(containers=[Container(name="c", image="i")]),
    )


def replica_set(replicas=3, name="rs", **spec):
    return ReplicaSet(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ReplicaSetSpec(
            replicas=replicas, selector=LabelSelector(matchLabels={"app": "x"}), template=template(), **spec
        ),
    )


def get(plane):
    return plane.api.get(ReplicaSet, "default", "rs")


def scale(plane, replicas):
    def change(obj):
        obj.spec.replicas = replicas
        obj.metadata.generation += 1

    plane.api.edit(ReplicaSet, "default", "rs", change)


def active(plane):
    return [p for p in plane.api.list(Pod) if pods.is_active(p)]


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, **options)


def test_pods_follow_the_number_up_and_down():
    async def scenario(plane):
        await plane.client.create(replica_set(5))
        await plane.until(lambda: get(plane).status.availableReplicas == 5)
        scale(plane, 2)
        await plane.until(lambda: len(plane.api.list(Pod)) == 2)
        await plane.clock.sleep(2)
        return get(plane).status

    status = run(scenario)
    assert (status.replicas, status.readyReplicas, status.availableReplicas, status.fullyLabeledReplicas) == (
        2,
        2,
        2,
        2,
    )
    assert (status.observedGeneration, status.terminatingReplicas) == (2, 0)


def test_a_stale_cache_never_makes_a_pod_twice():
    """Watches that are silent for long must not lead to creates beyond the number asked for."""

    async def scenario(plane):
        await plane.clock.sleep(1)
        plane.api.break_watches()
        plane.api.fail_next("watch pods", ApiError.unavailable("later"), times=6)
        plane.api.fail_next("watch replicasets", ApiError.unavailable("later"), times=2)
        await plane.client.create(replica_set(20))
        await plane.clock.sleep(200)
        return sum(call.what == "create pods" for call in plane.api.calls), len(active(plane))

    assert run(scenario) == (20, 20)


def test_matching_orphans_are_adopted_and_strangers_released():
    async def scenario(plane):
        orphan = Pod(metadata=ObjectMeta(name="orphan", namespace="default", labels={"app": "x"}), spec=template().spec)
        plane.api.put(orphan)
        await plane.client.create(replica_set(2))
        await plane.until(lambda: get(plane).status.availableReplicas == 2)
        total = len(plane.api.list(Pod))
        adopted = plane.api.get(Pod, "default", "orphan").metadata.ownerReferences[0]
        plane.api.edit(Pod, "default", "orphan", lambda pod: pod.metadata.labels.update(app="y"))
        await plane.until(lambda: len(plane.api.list(Pod)) == 3)
        return total, adopted.controller, plane.api.get(Pod, "default", "orphan").metadata.ownerReferences

    assert run(scenario) == (2, True, [])


def test_a_refused_create_is_told_as_a_condition_and_forgotten_when_it_works():
    async def scenario(plane):
        plane.api.fail_next("create pods", ApiError.forbidden("", "pods", "x", "exceeded quota"), times=4)
        await plane.client.create(replica_set(8))
        await plane.clock.sleep(0.02)
        first = [call.what for call in plane.api.calls].count("create pods")
        await plane.until(lambda: get(plane).status.conditions)
        condition = get(plane).status.conditions[0]
        await plane.until(lambda: get(plane).status.availableReplicas == 8)
        return first, (condition.type, condition.reason), get(plane).status.conditions

    first, condition, after = run(scenario)
    assert first <= 3, "a create that fails is not tried once a replica"
    assert condition == ("ReplicaFailure", "FailedCreate") and after == []


def test_pods_count_as_available_only_after_min_ready_seconds():
    async def scenario(plane):
        await plane.client.create(replica_set(2, minReadySeconds=30))
        await plane.until(lambda: get(plane).status.readyReplicas == 2)
        ready = plane.clock.monotonic()
        before = get(plane).status.availableReplicas
        await plane.until(lambda: get(plane).status.availableReplicas == 2)
        return before, plane.clock.monotonic() - ready

    before, waited = run(scenario)
    assert before is None and 28 <= waited <= 33


def test_ended_pods_are_replaced_and_not_counted():
    async def scenario(plane):
        await plane.client.create(replica_set(2))
        await plane.until(lambda: get(plane).status.availableReplicas == 2)
        name = active(plane)[0].metadata.name
        plane.api.edit(Pod, "default", name, lambda pod: setattr(pod.status, "phase", "Failed"))
        await plane.clock.sleep(5)
        return len(plane.api.list(Pod)), len(active(plane)), get(plane).status.replicas

    assert run(scenario) == (3, 2, 2)


def test_a_replication_controller_does_the_same_by_a_plain_map():
    async def scenario(plane):
        spec = ReplicationControllerSpec(replicas=3, selector={"app": "x"}, template=template())
        await plane.client.create(ReplicationController(metadata=ObjectMeta(name="rc", namespace="default"), spec=spec))
        await plane.until(lambda: plane.api.get(ReplicationController, "default", "rc").status.availableReplicas == 3)
        return len(active(plane))

    assert run(scenario) == 3


def test_a_set_being_deleted_makes_no_pods():
    async def scenario(plane):
        made = replica_set(3)
        made.metadata.finalizers = ["example.com/hold"]
        await plane.client.create(made)
        await plane.until(lambda: get(plane).status.availableReplicas == 3)
        await plane.client.delete(ReplicaSet, "default", "rs")
        for pod in plane.api.list(Pod):
            await plane.client.delete(Pod, "default", pod.metadata.name)
        await plane.clock.sleep(30)
        return len(plane.api.list(Pod)), get(plane).status.replicas

    assert run(scenario) == (0, 0)


def test_slow_nodes_do_not_make_it_overshoot():
    async def scenario(plane):
        peak = []
        plane.api.react("create pods", lambda call: peak.append(len(active(plane))))
        await plane.client.create(replica_set(4))
        for replicas in (9, 3, 7, 1, 6):
            await plane.clock.sleep(1.5)
            scale(plane, replicas)
        await plane.until(lambda: get(plane).status.availableReplicas == 6)
        return max(peak), len(active(plane))

    most, left = run(scenario, habits=Habits(start_delay=4, stop_delay=9))
    assert most <= 8 and left == 6


def pod(name, node="n1", phase="Running", ready_for=None, cost=None, restarts=0, age=3600.0):
    def stamp(seconds):
        return scalars.render_time(NOW - datetime.timedelta(seconds=seconds))

    made = Pod(metadata=ObjectMeta(name=name, uid=name, creationTimestamp=stamp(age)))
    made.spec.nodeName = node
    made.status = PodStatus(phase=phase, containerStatuses=[ContainerStatus(name="c", restartCount=restarts)])
    if ready_for is not None:
        made.status.conditions = [PodCondition(type="Ready", status="True", lastTransitionTime=stamp(ready_for))]
    if cost is not None:
        made.metadata.annotations = {pods.DELETION_COST: str(cost)}
    return made


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        (pod("unscheduled", node=None, phase="Pending"), pod("pending", phase="Pending")),
        (pod("pending", phase="Pending"), pod("running")),
        (pod("unready"), pod("ready", ready_for=100)),
        (pod("cheap", ready_for=100, cost=-5), pod("dear", ready_for=100, cost=5)),
        (pod("ready-late", ready_for=10), pod("ready-early", ready_for=3000)),
        (pod("restarted", ready_for=100, restarts=3), pod("steady", ready_for=100)),
        (pod("young", age=10), pod("old", age=100000)),
        (pod("odd-cost", ready_for=10, cost="nonsense"), pod("dear", ready_for=100, cost=1)),
    ],
)
def test_the_pod_that_is_missed_least_goes_first(goes, stays):
    for order in ([goes, stays], [stays, goes]):
        assert [p.metadata.name for p in plan.plan_scale(order, 1, order, NOW).delete] == [goes.metadata.name]


def test_among_equals_the_pod_on_the_crowded_node_goes():
    lonely, crowded = pod("lonely", node="n1", ready_for=100), pod("crowded", node="n2", ready_for=100)
    sibling = pod("sibling", node="n2", ready_for=100)
    related = [lonely, crowded, sibling]
    assert plan.plan_scale([lonely, crowded], 1, related, NOW).delete == (crowded,)
