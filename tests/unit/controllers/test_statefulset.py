"""StatefulSets on a fake API and kubelet: order, names, claims, partitions, revisions."""

import pytest

from kybern.api.apps_v1 import (
    ControllerRevision,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetOrdinals,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from kybern.api.core_v1 import Container, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers import history, pods
from kybern.controllers.statefulset import identity
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import UNREADY, Habits

NAMES = ["statefulset-controller"]


def stateful(replicas=3, partition=None, strategy="RollingUpdate", **spec):
    rolling = RollingUpdateStatefulSetStrategy(partition=partition) if strategy == "RollingUpdate" else None
    return StatefulSet(
        metadata=ObjectMeta(name="db", namespace="default"),
        spec=StatefulSetSpec(
            replicas=replicas,
            serviceName="db",
            selector=LabelSelector(matchLabels={"app": "db"}),
            updateStrategy=StatefulSetUpdateStrategy(type=strategy, rollingUpdate=rolling),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"app": "db"}), spec=PodSpec(containers=[Container(name="c", image="a")])
            ),
            **{"podManagementPolicy": "OrderedReady"} | spec,
        ),
    )


def get(plane):
    return plane.api.get(StatefulSet, "default", "db")


def edit(plane, change):
    def bump(obj):
        change(obj)
        obj.metadata.generation += 1

    plane.api.edit(StatefulSet, "default", "db", bump)


def set_image(plane, image):
    edit(plane, lambda obj: setattr(obj.spec.template.spec.containers[0], "image", image))


def images(plane):
    return {p.metadata.name: p.spec.containers[0].image for p in plane.api.list(Pod)}


def is_done(plane, replicas=3):
    found = get(plane)
    ready = (found.status.readyReplicas or 0, found.status.replicas, found.status.observedGeneration)
    return ready == (replicas, replicas, found.metadata.generation)


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, **options)


def test_pods_come_one_after_the_other_and_go_the_other_way():
    async def scenario(plane):
        log = []

        def note(call):
            name = call.body["metadata"]["name"] if call.verb == "create" else call.name
            if call.verb == "create" or (call.body or {}).get("gracePeriodSeconds") != 0:
                ready = sorted(p.metadata.name for p in plane.api.list(Pod) if pods.is_ready(p))
                log.append((call.verb, name, ready))

        plane.api.react("create pods", note)
        plane.api.react("delete pods", note)
        await plane.client.create(stateful())
        await plane.until(lambda: is_done(plane))
        edit(plane, lambda obj: setattr(obj.spec, "replicas", 1))
        await plane.until(lambda: is_done(plane, 1))
        return log

    assert run(scenario) == [
        ("create", "db-0", []),
        ("create", "db-1", ["db-0"]),
        ("create", "db-2", ["db-0", "db-1"]),
        ("delete", "db-2", ["db-0", "db-1", "db-2"]),
        ("delete", "db-1", ["db-0", "db-1"]),
    ]


def test_pods_know_who_they_are():
    async def scenario(plane):
        await plane.client.create(stateful(1, ordinals=StatefulSetOrdinals(start=5)))
        await plane.until(lambda: is_done(plane, 1))
        return plane.api.list(Pod)[0], get(plane).status.updateRevision

    pod, revision = run(scenario)
    assert (pod.metadata.name, pod.spec.hostname, pod.spec.subdomain) == ("db-5", "db-5", "db")
    assert pod.metadata.labels == {
        "app": "db", identity.POD_NAME: "db-5", identity.POD_INDEX: "5", history.HASH: revision,
    }  # fmt: skip


def test_an_unready_pod_holds_up_the_next_one():
    async def scenario(plane):
        made = stateful()
        made.spec.template.metadata.annotations = {UNREADY: ""}
        await plane.client.create(made)
        await plane.clock.sleep(60)
        return sorted(images(plane))

    assert run(scenario) == ["db-0"]


@pytest.mark.parametrize(
    ("ready", "left"),
    [
        # As kube-controller-manager v1.36 leaves them.
        ((True, True, True), ""),
        ((True, True, False), ""),
        ((True, False, True), ""),
        ((True, False, False), "012"),
        ((False, True, True), ""),
        ((False, True, False), "012"),
        ((False, False, True), "01"),
        ((False, False, False), "012"),
    ],
)
def test_of_pods_that_do_not_work_only_the_lowest_may_go(ready, left):
    def be(is_ready):
        def change(pod):
            next(c for c in pod.status.conditions if c.type == "Ready").status = "True" if is_ready else "False"

        return change

    async def scenario(plane):
        await plane.client.create(stateful())
        await plane.until(lambda: is_done(plane))
        for ordinal, is_ready in enumerate(ready):
            plane.api.edit(Pod, "default", f"db-{ordinal}", be(is_ready))
        await plane.clock.sleep(1)
        edit(plane, lambda obj: setattr(obj.spec, "replicas", 0))
        await plane.clock.sleep(60)
        return "".join(name[-1] for name in sorted(images(plane)))

    assert run(scenario) == left


def test_parallel_makes_all_at_once():
    async def scenario(plane):
        made = stateful(podManagementPolicy="Parallel")
        made.spec.template.metadata.annotations = {UNREADY: ""}
        await plane.client.create(made)
        await plane.clock.sleep(5)
        first = sorted(images(plane))
        edit(plane, lambda obj: setattr(obj.spec, "replicas", 1))
        await plane.clock.sleep(10)
        return first, sorted(images(plane))

    assert run(scenario) == (["db-0", "db-1", "db-2"], ["db-0"])


def test_a_rolling_update_goes_from_the_top_and_one_pod_at_a_time():
    async def scenario(plane):
        await plane.client.create(stateful())
        await plane.until(lambda: is_done(plane))
        before = get(plane).status
        order, unready = [], []

        def look():
            now = images(plane)
            unready.append(
                3 - sum(pods.is_ready(p) and p.metadata.deletionTimestamp is None for p in plane.api.list(Pod))
            )
            order.extend(name for name, image in sorted(now.items()) if image == "b" and name not in order)
            status = get(plane).status
            return status.currentRevision == status.updateRevision != before.currentRevision

        set_image(plane, "b")
        await plane.until(look)
        return order, max(unready), get(plane).status, len(plane.api.list(ControllerRevision))

    order, unready, status, revisions = run(scenario)
    assert order == ["db-2", "db-1", "db-0"] and unready == 1 and revisions == 2
    assert (status.currentReplicas, status.updatedReplicas, status.readyReplicas) == (3, 3, 3)


def test_a_partition_keeps_lower_ordinals_as_they_were_even_when_they_are_made_anew():
    async def scenario(plane):
        await plane.client.create(stateful(partition=2))
        await plane.until(lambda: is_done(plane))
        set_image(plane, "b")
        await plane.until(lambda: get(plane).status.updatedReplicas == 1 and is_done(plane))
        first = images(plane)
        await plane.client.delete(Pod, "default", "db-0")
        await plane.clock.sleep(1)
        await plane.until(lambda: is_done(plane))
        return first, images(plane)

    first, after = run(scenario)
    assert first == after == {"db-0": "a", "db-1": "a", "db-2": "b"}


def test_on_delete_updates_only_what_somebody_deletes():
    async def scenario(plane):
        await plane.client.create(stateful(strategy="OnDelete"))
        await plane.until(lambda: is_done(plane))
        set_image(plane, "b")
        await plane.clock.sleep(30)
        before = set(images(plane).values())
        await plane.client.delete(Pod, "default", "db-1")
        await plane.clock.sleep(1)
        await plane.until(lambda: is_done(plane))
        return before, images(plane)

    assert run(scenario) == ({"a"}, {"db-0": "a", "db-1": "b", "db-2": "a"})


def test_a_rollback_finds_its_revision_again():
    async def scenario(plane):
        await plane.client.create(stateful())
        await plane.until(lambda: is_done(plane))
        first = get(plane).status.updateRevision
        for image in ("b", "a"):
            set_image(plane, image)
            await plane.clock.sleep(1)
            await plane.until(
                lambda: get(plane).status.currentRevision == get(plane).status.updateRevision and is_done(plane)
            )
        revisions = {r.metadata.name: r.revision for r in plane.api.list(ControllerRevision)}
        return first == get(plane).status.updateRevision, sorted(revisions.values())

    assert run(scenario) == (True, [2, 3])


def test_an_ended_pod_is_made_again():
    async def scenario(plane):
        await plane.client.create(stateful())
        await plane.until(lambda: is_done(plane))
        old = plane.api.get(Pod, "default", "db-1").metadata.uid
        plane.api.edit(Pod, "default", "db-1", lambda pod: setattr(pod.status, "phase", "Failed"))
        await plane.clock.sleep(1)
        await plane.until(lambda: is_done(plane))
        return old != plane.api.get(Pod, "default", "db-1").metadata.uid

    assert run(scenario)


def claims(plane):
    return {
        c.metadata.name: [r.kind for r in c.metadata.ownerReferences] for c in plane.api.list(PersistentVolumeClaim)
    }


@pytest.mark.parametrize(
    ("policy", "steady", "scaled"),
    [
        (None, [], []),
        (("Delete", "Retain"), ["StatefulSet"], ["StatefulSet"]),
        (("Retain", "Delete"), [], ["Pod"]),
        (("Delete", "Delete"), ["StatefulSet"], ["Pod"]),
    ],
)
def test_claims_are_made_once_and_go_with_what_the_policy_says(policy, steady, scaled):
    async def scenario(plane):
        retention = None
        if policy is not None:
            retention = StatefulSetPersistentVolumeClaimRetentionPolicy(whenDeleted=policy[0], whenScaled=policy[1])
        template = PersistentVolumeClaim(metadata=ObjectMeta(name="data"))
        made = stateful(2, volumeClaimTemplates=[template], persistentVolumeClaimRetentionPolicy=retention)
        await plane.client.create(made)
        await plane.until(lambda: is_done(plane, 2))
        first = claims(plane)
        volume = plane.api.get(Pod, "default", "db-1").spec.volumes[0]
        edit(plane, lambda obj: setattr(obj.spec, "replicas", 1))
        await plane.until(lambda: is_done(plane, 1))
        return first, claims(plane)["data-db-1"], volume.persistentVolumeClaim.claimName

    first, after, claim = run(scenario)
    assert first == {"data-db-0": steady, "data-db-1": steady}
    assert after == scaled and claim == "data-db-1"


def test_min_ready_seconds_holds_up_the_next_pod():
    async def scenario(plane):
        made = []
        plane.api.react("create pods", lambda call: made.append(plane.clock.monotonic()))
        await plane.client.create(stateful(2, minReadySeconds=20))
        await plane.until(lambda: get(plane).status.availableReplicas == 2)
        return made[1] - made[0]

    assert 20 <= run(scenario, habits=Habits(start_delay=1)) <= 24


def test_two_sets_with_one_beginning_of_their_names_do_not_mix_up():
    owner = stateful()
    for name, expected in (
        ("db-0", 0),
        ("db-12", 12),
        ("db-x-0", None),
        ("db", None),
        ("xdb-1", None),
        ("db--1", None),
    ):
        assert identity.ordinal_of(owner, Pod(metadata=ObjectMeta(name=name))) == expected
