"""Deployments on a fake API and kubelet: rollouts, scaling, pausing, history, deadlines."""

import pytest

from kybern.api.apps_v1 import (
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    RollingUpdateDeployment,
)
from kybern.api.core_v1 import Container, Pod, PodSpec, PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers.deployment import conditions, revision, rollout
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import UNREADY, Habits

NAMES = ["replicaset-controller", "deployment-controller"]


def deployment(replicas=3, image="a", strategy=None, **spec):
    return Deployment(
        metadata=ObjectMeta(name="web", namespace="default", annotations={"note": "x"}),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels={"app": "web"}),
            strategy=strategy
            or DeploymentStrategy(
                type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge="25%", maxUnavailable="25%")
            ),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"app": "web"}),
                spec=PodSpec(containers=[Container(name="c", image=image)]),
            ),
            **{"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600} | spec,
        ),
    )


def is_done(plane):
    found = plane.api.get(Deployment, "default", "web")
    return conditions.is_complete(found, found.status) and found.status.observedGeneration == found.metadata.generation


def sets(plane):
    return {rs.spec.template.spec.containers[0].image: rs for rs in plane.api.list(ReplicaSet)}


def set_image(plane, image):
    def change(found):
        found.spec.template.spec.containers[0].image = image
        found.metadata.generation += 1

    plane.api.edit(Deployment, "default", "web", change)


def test_a_new_deployment_makes_one_set_and_reports_itself_available():
    async def scenario(plane):
        await plane.client.create(deployment())
        await plane.until(lambda: is_done(plane))
        await plane.clock.sleep(5)
        return plane.api.get(Deployment, "default", "web"), plane.api.list(ReplicaSet), plane.api.list(Pod)

    found, replica_sets, pods = control_plane.run(NAMES, scenario)
    assert len(replica_sets) == 1 and len(pods) == 3
    rs = replica_sets[0]
    assert rs.metadata.annotations == {
        "note": "x", revision.REVISION: "1", revision.DESIRED: "3", revision.MAXIMUM: "4",
    }  # fmt: skip
    assert rs.metadata.labels[revision.HASH] == rs.spec.selector.matchLabels[revision.HASH]
    assert found.metadata.annotations[revision.REVISION] == "1"
    assert (found.status.replicas, found.status.availableReplicas, found.status.unavailableReplicas) == (3, 3, None)
    told = {c.type: (c.status, c.reason) for c in found.status.conditions}
    assert told == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }


def test_a_rolling_update_never_leaves_its_bounds():
    async def scenario(plane):
        await plane.client.create(deployment(replicas=8))
        await plane.until(lambda: is_done(plane))
        seen = []

        def look():
            pods = [p for p in plane.api.list(Pod) if p.metadata.deletionTimestamp is None]
            ready = [p for p in pods if any(c.type == "Ready" and c.status == "True" for c in p.status.conditions)]
            seen.append((len(pods), len(ready)))
            return is_done(plane)

        set_image(plane, "b")
        await plane.until(look)
        return seen, sets(plane)

    seen, found = control_plane.run(NAMES, scenario)
    assert max(total for total, _ in seen) <= 10
    assert min(ready for _, ready in seen) >= 6
    assert (found["a"].spec.replicas, found["b"].spec.replicas) == (0, 8)
    assert found["b"].metadata.annotations[revision.REVISION] == "2"


def test_a_rollback_gives_the_old_set_a_new_revision_and_remembers_the_old_one():
    async def scenario(plane):
        await plane.client.create(deployment())
        for image in ("a", "b", "a"):
            set_image(plane, image)
            await plane.clock.sleep(1)
            await plane.until(lambda: is_done(plane))
        return sets(plane), plane.api.get(Deployment, "default", "web")

    found, owner = control_plane.run(NAMES, scenario)
    assert len(found) == 2
    assert found["a"].metadata.annotations[revision.REVISION] == "3"
    assert found["a"].metadata.annotations[revision.HISTORY] == "1"
    assert owner.metadata.annotations[revision.REVISION] == "3"


def test_recreate_starts_no_new_pod_while_an_old_one_runs():
    async def scenario(plane):
        await plane.client.create(deployment(strategy=DeploymentStrategy(type="Recreate")))
        await plane.until(lambda: is_done(plane))
        mixed = []

        def look():
            images = {p.spec.containers[0].image for p in plane.api.list(Pod)}
            mixed.append(len(images) > 1)
            return is_done(plane)

        set_image(plane, "b")
        await plane.clock.sleep(0.5)
        await plane.until(look)
        return mixed, sets(plane)

    mixed, found = control_plane.run(NAMES, scenario, habits=Habits(stop_delay=5))
    assert not any(mixed)
    assert (found["a"].spec.replicas, found["b"].spec.replicas) == (0, 3)


def test_scaling_amid_a_stuck_rollout_is_shared_in_proportion():
    async def scenario(plane):
        strategy = DeploymentStrategy(
            type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge=3, maxUnavailable=2)
        )
        await plane.client.create(deployment(replicas=10, strategy=strategy))
        await plane.until(lambda: is_done(plane))

        def break_it(found):
            found.spec.template.spec.containers[0].image = "b"
            found.spec.template.metadata.annotations = {UNREADY: ""}
            found.metadata.generation += 1

        plane.api.edit(Deployment, "default", "web", break_it)
        await plane.clock.sleep(60)
        before = {image: rs.spec.replicas for image, rs in sets(plane).items()}

        def grow(found):
            found.spec.replicas = 30
            found.metadata.generation += 1

        plane.api.edit(Deployment, "default", "web", grow)
        await plane.clock.sleep(60)
        return before, {image: rs.spec.replicas for image, rs in sets(plane).items()}

    before, after = control_plane.run(NAMES, scenario)
    assert before == {"a": 8, "b": 5}
    assert after == {"a": 20, "b": 13}


def test_a_paused_deployment_scales_but_does_not_roll():
    async def scenario(plane):
        await plane.client.create(deployment())
        await plane.until(lambda: is_done(plane))

        def pause(found):
            found.spec.paused = True
            found.spec.replicas = 5
            found.spec.template.spec.containers[0].image = "b"
            found.metadata.generation += 1

        plane.api.edit(Deployment, "default", "web", pause)
        await plane.clock.sleep(30)
        paused = {image: rs.spec.replicas for image, rs in sets(plane).items()}
        reason = conditions.find(plane.api.get(Deployment, "default", "web").status, "Progressing").reason

        def resume(found):
            found.spec.paused = None
            found.metadata.generation += 1

        plane.api.edit(Deployment, "default", "web", resume)
        await plane.clock.sleep(1)
        await plane.until(lambda: is_done(plane))
        return paused, reason, {image: rs.spec.replicas for image, rs in sets(plane).items()}

    paused, reason, resumed = control_plane.run(NAMES, scenario)
    assert (paused, reason, resumed) == ({"a": 5}, "DeploymentPaused", {"a": 0, "b": 5})


def test_history_beyond_the_limit_is_forgotten_oldest_first():
    async def scenario(plane):
        await plane.client.create(deployment(revisionHistoryLimit=2))
        for image in "abcde":
            set_image(plane, image)
            await plane.clock.sleep(1)
            await plane.until(lambda: is_done(plane))
        await plane.clock.sleep(10)
        return set(sets(plane))

    assert control_plane.run(NAMES, scenario) == {"c", "d", "e"}


def test_a_rollout_that_does_not_move_exceeds_its_deadline():
    async def scenario(plane):
        stuck = deployment(progressDeadlineSeconds=30)
        stuck.spec.template.metadata.annotations = {UNREADY: ""}
        await plane.client.create(stuck)
        reasons = []
        for _ in range(8):
            await plane.clock.sleep(5)
            found = plane.api.get(Deployment, "default", "web")
            reasons.append(conditions.find(found.status, "Progressing").reason)
        return reasons

    reasons = control_plane.run(NAMES, scenario)
    assert reasons[0] == "ReplicaSetUpdated" and reasons[-1] == "ProgressDeadlineExceeded"
    assert reasons.index("ProgressDeadlineExceeded") >= 5


def test_a_taken_name_raises_the_collision_count_and_another_hash_is_used():
    async def scenario(plane):
        made = revision.make(deployment(), [])
        foreign = ReplicaSet(metadata=ObjectMeta(name=made.metadata.name, namespace="default"))
        foreign.spec.selector = LabelSelector(matchLabels={"other": "x"})
        foreign.spec.template = PodTemplateSpec(metadata=ObjectMeta(labels={"other": "x"}))
        foreign.spec.replicas = 0
        plane.api.put(foreign)
        await plane.client.create(deployment())
        await plane.until(lambda: is_done(plane))
        return plane.api.get(Deployment, "default", "web").status.collisionCount, len(plane.api.list(ReplicaSet))

    assert control_plane.run(NAMES, scenario) == (1, 2)


def test_orphaned_sets_are_adopted_and_their_pods_kept():
    async def scenario(plane):
        await plane.client.create(deployment())
        await plane.until(lambda: is_done(plane))
        plane.api.remove(Deployment, "default", "web")
        for rs in plane.api.list(ReplicaSet):
            plane.api.edit(
                ReplicaSet, "default", rs.metadata.name, lambda found: found.metadata.ownerReferences.clear()
            )
        await plane.clock.sleep(5)
        before = {p.metadata.uid for p in plane.api.list(Pod)}
        await plane.client.create(deployment())
        await plane.clock.sleep(1)
        await plane.until(lambda: is_done(plane))
        return before, {p.metadata.uid for p in plane.api.list(Pod)}, len(plane.api.list(ReplicaSet))

    before, after, count = control_plane.run(NAMES, scenario)
    assert before == after and count == 1


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 10, (3, 2)),
        (0, 0, 10, (0, 1)),
        ("0%", "10%", 5, (0, 1)),
        (5, "200%", 2, (5, 2)),
        ("100%", 0, 1, (1, 0)),
    ],
)
def test_limits_are_rounded_so_that_a_rollout_can_move(surge, unavailable, replicas, expected):
    strategy = DeploymentStrategy(rollingUpdate=RollingUpdateDeployment(maxSurge=surge, maxUnavailable=unavailable))
    found = deployment(replicas=replicas, strategy=strategy)
    assert (rollout.max_surge(found), rollout.max_unavailable(found)) == expected


def test_shares_sum_up_and_never_move_backwards():
    assert rollout.shares([(8, 13), (5, 13)], 33) == [20, 13]
    assert rollout.shares([(20, 33), (13, 33)], 13) == [8, 5]
    assert rollout.shares([(1, 1)], 0) == [0]
    assert rollout.shares([], 5) == []
