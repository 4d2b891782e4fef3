"""What becomes of a StatefulSet's claims: the retention policy, kept also when it changes or a write fails."""

from kybern.api.apps_v1 import (
    StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from kybern.api.core_v1 import (
    Container,
    PersistentVolumeClaim,
    Pod,
    PodSpec,
    PodTemplateSpec,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from kybern.machinery.status import ApiError
from kybern.testing import control_plane

NAMES = ["statefulset-controller", "garbage-collector-controller"]
Policy = StatefulSetPersistentVolumeClaimRetentionPolicy


def stateful_set(replicas=2, deleted="Retain", scaled="Retain"):
    return StatefulSet(
        metadata=ObjectMeta(name="db", namespace="default"),
        spec=StatefulSetSpec(
            replicas=replicas,
            serviceName="db",
            selector=LabelSelector(matchLabels={"app": "db"}),
            updateStrategy=StatefulSetUpdateStrategy(type="RollingUpdate"),
            persistentVolumeClaimRetentionPolicy=Policy(whenDeleted=deleted, whenScaled=scaled),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"app": "db"}), spec=PodSpec(containers=[Container(name="c", image="i")])
            ),
            volumeClaimTemplates=[PersistentVolumeClaim(metadata=ObjectMeta(name="data"))],
        ),
    )


def owners(plane):
    claims = plane.api.list(PersistentVolumeClaim)
    return {c.metadata.name: [f"{r.kind}/{r.name}" for r in c.metadata.ownerReferences] for c in claims}


def has_pods(plane, count):
    return (
        len(plane.api.list(Pod)) == count and plane.api.get(StatefulSet, "default", "db").status.readyReplicas == count
    )


def resize(plane, replicas):
    def change(found):
        found.spec.replicas = replicas
        found.metadata.generation += 1

    plane.api.edit(StatefulSet, "default", "db", change)


def test_a_claim_whose_first_write_failed_is_owned_all_the_same():
    async def scenario(plane):
        plane.api.fail_next("patch persistentvolumeclaims", ApiError.stale("", "persistentvolumeclaims", "x"), times=3)
        await plane.client.create(stateful_set(deleted="Delete"))
        await plane.until(lambda: has_pods(plane, 2))
        await plane.clock.sleep(5)
        return owners(plane)

    assert control_plane.run(NAMES, scenario) == {"data-db-0": ["StatefulSet/db"], "data-db-1": ["StatefulSet/db"]}


def test_a_changed_policy_reaches_claims_that_are_there():
    async def scenario(plane):
        await plane.client.create(stateful_set())
        await plane.until(lambda: has_pods(plane, 2))
        before = owners(plane)

        def change(found):
            found.spec.persistentVolumeClaimRetentionPolicy = Policy(whenDeleted="Delete", whenScaled="Retain")

        plane.api.edit(StatefulSet, "default", "db", change)
        await plane.clock.sleep(2)
        return before, owners(plane)

    before, after = control_plane.run(NAMES, scenario)
    assert before == {"data-db-0": [], "data-db-1": []}
    assert after == {"data-db-0": ["StatefulSet/db"], "data-db-1": ["StatefulSet/db"]}


def test_a_claim_of_another_controller_is_left_alone():
    other = OwnerReference(apiVersion="apps/v1", kind="StatefulSet", name="other", uid="7", controller=True)

    async def scenario(plane):
        claim = PersistentVolumeClaim(
            metadata=ObjectMeta(name="data-db-0", namespace="default", ownerReferences=[other])
        )
        plane.api.put(claim)
        await plane.client.create(stateful_set(replicas=1, deleted="Delete"))
        await plane.until(lambda: has_pods(plane, 1))
        await plane.clock.sleep(2)
        return owners(plane)

    assert control_plane.run(NAMES[:1], scenario) == {"data-db-0": ["StatefulSet/other"]}


def test_claims_of_pods_scaled_away_go_and_a_pod_that_comes_back_gets_a_new_one():
    async def scenario(plane):
        await plane.client.create(stateful_set(replicas=2, scaled="Delete"))
        await plane.until(lambda: has_pods(plane, 2))
        first = plane.api.get(PersistentVolumeClaim, "default", "data-db-1").metadata.uid
        resize(plane, 1)
        await plane.until(lambda: len(plane.api.list(Pod)) == 1)
        resize(plane, 2)  # while the claim is still on its way out
        await plane.until(lambda: has_pods(plane, 2))
        await plane.clock.sleep(60)
        second = plane.api.get(PersistentVolumeClaim, "default", "data-db-1").metadata.uid
        return first != second, owners(plane)

    renewed, left = control_plane.run(NAMES, scenario)
    assert renewed
    assert left == {"data-db-0": [], "data-db-1": []}


def test_the_claim_a_pending_pod_waits_for_is_made_again():
    async def scenario(plane):
        await plane.client.create(stateful_set(replicas=1))
        await plane.until(lambda: plane.api.list(Pod))
        await plane.client.delete(PersistentVolumeClaim, "default", "data-db-0")

        def touch(found):
            found.metadata.annotations["x"] = "y"

        plane.api.edit(Pod, "default", "db-0", touch)
        await plane.clock.sleep(2)
        return owners(plane)

    assert control_plane.run(NAMES, scenario, node=False) == {"data-db-0": []}
