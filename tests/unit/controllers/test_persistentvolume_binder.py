"""Claims and volumes on a fake API: who gets which volume, half-done bindings, and what is left of released volumes."""

import pytest

from kybern.api import codec
from kybern.api.core_v1 import (
    Event,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    VolumeResourceRequirements,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.scalars import Quantity
from kybern.api.storage_v1 import StorageClass
from kybern.controllers.persistentvolume_binder import match, plan
from kybern.testing import control_plane

NAMES = ["persistentvolume-binder-controller"]


def volume(name, size="1Gi", modes=("ReadWriteOnce",), labels=None, claim=None, annotations=None, **spec):
    if claim is not None:
        namespace, _, rest = claim.partition("/")
        ref, _, uid = rest.partition("@")
        spec["claimRef"] = ObjectReference(kind="PersistentVolumeClaim", namespace=namespace, name=ref, uid=uid or None)
    return PersistentVolume(
        metadata=ObjectMeta(name=name, labels=labels or {}, annotations=annotations or {}),
        spec=PersistentVolumeSpec(
            capacity={"storage": Quantity(size)},
            accessModes=list(modes),
            **{"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"} | spec,
        ),
    )


def claim(name="c", size="1Gi", modes=("ReadWriteOnce",), annotations=None, uid="", **spec):
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default", annotations=annotations or {}, uid=uid),
        spec=PersistentVolumeClaimSpec(
            accessModes=list(modes),
            resources=VolumeResourceRequirements(requests={"storage": Quantity(size)}),
            **{"storageClassName": ""} | spec,
        ),
    )


def run(objects, then=None, wait=3.0):
    """(claims, volumes by name, events as (reason, object)) after a while."""

    async def scenario(plane):
        for obj in objects:
            plane.api.put(codec.clone(obj))
        await plane.clock.sleep(wait)
        if then is not None:
            await then(plane)
            await plane.clock.sleep(wait)
        claims = {c.metadata.name: c for c in plane.api.list(PersistentVolumeClaim)}
        volumes = {v.metadata.name: v for v in plane.api.list(PersistentVolume)}
        events = {(e.reason, e.involvedObject.name) for e in plane.api.list(Event)}
        return claims, volumes, events

    return control_plane.run(NAMES, scenario, node=False)


def test_a_claim_gets_the_smallest_volume_that_fits_and_both_say_so():
    claims, volumes, _ = run([volume("big", "9Gi"), volume("fit", "2Gi"), volume("small", "1Mi"), claim()])
    bound = claims["c"]
    assert (bound.spec.volumeName, bound.status.phase) == ("fit", "Bound")
    assert bound.status.capacity == {"storage": "2Gi"} and bound.status.accessModes == ["ReadWriteOnce"]
    assert bound.metadata.annotations == {plan.BIND_COMPLETED: "yes", plan.BOUND_BY_CONTROLLER: "yes"}
    fit = volumes["fit"]
    assert fit.spec.claimRef.uid == bound.metadata.uid and fit.status.phase == "Bound"
    assert fit.status.lastPhaseTransitionTime
    assert {volumes["big"].status.phase, volumes["small"].status.phase} == {"Available"}


def test_two_claims_never_share_a_volume_and_a_third_waits():
    claims, _, events = run([volume("a"), volume("b"), *(claim(f"c{n}") for n in range(3))])
    assert {c.spec.volumeName for c in claims.values()} == {"a", "b", None}
    waiting = next(c for c in claims.values() if c.spec.volumeName is None)
    assert waiting.status.phase == "Pending" and ("FailedBinding", waiting.metadata.name) in events


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        (volume("v", "1Mi"), claim()),
        (volume("v", modes=["ReadOnlyMany"]), claim()),
        (volume("v", storageClassName="x"), claim()),
        (volume("v", volumeMode="Block"), claim()),
        (volume("v", volumeAttributesClassName="gold"), claim()),
        (volume("v", labels={"a": "b"}), claim(selector=LabelSelector(matchLabels={"a": "c"}))),
        (volume("v", claim="default/other"), claim()),
        (volume("v", claim="default/c@another-life"), claim()),
        (volume("v", "1Mi"), claim(volumeName="v")),
    ],
)
def test_a_volume_that_does_not_fit_is_not_taken(offered, asked):
    claims, _, _ = run([offered, asked])
    assert claims["c"].status.phase == "Pending"


def test_a_volume_promised_to_a_claim_by_name_is_its_own_even_if_a_smaller_one_is_free():
    claims, volumes, _ = run([volume("small"), volume("mine", "5Gi", claim="default/c"), claim()])
    assert claims["c"].spec.volumeName == "mine"
    assert plan.BOUND_BY_CONTROLLER not in volumes["mine"].metadata.annotations


def test_a_volume_that_comes_later_is_found():
    async def then(plane):
        await plane.client.create(volume("late"))

    claims, _, _ = run([claim()], then)
    assert claims["c"].status.phase == "Bound"


def test_a_binding_found_half_done_is_finished():
    half = claim(uid="u1")
    claims, volumes, _ = run([volume("other"), volume("v", claim="default/c@u1"), half])
    assert (claims["c"].spec.volumeName, volumes["other"].status.phase) == ("v", "Available")


def test_a_released_volume_keeps_the_name_of_its_claim_and_is_given_to_nobody():
    async def then(plane):
        await plane.client.delete(PersistentVolumeClaim, "default", "c")
        await plane.clock.sleep(2)
        await plane.client.create(claim())

    claims, volumes, _ = run([volume("v"), claim()], then)
    assert volumes["v"].status.phase == "Released"
    assert volumes["v"].spec.claimRef.uid != claims["c"].metadata.uid
    assert claims["c"].status.phase == "Pending"


def test_a_volume_freed_by_hand_is_available_again():
    async def then(plane):
        await plane.client.delete(PersistentVolumeClaim, "default", "c")
        await plane.clock.sleep(2)
        await plane.client.patch(PersistentVolume, "", "v", {"spec": {"claimRef": None}})

    _, volumes, _ = run([volume("v"), claim()], then)
    assert volumes["v"].status.phase == "Available"


@pytest.mark.parametrize(
    ("policy", "annotations", "phase"),
    [
        ("Delete", {}, "Failed"),
        ("Delete", {plan.PROVISIONED_BY: "csi.example.com"}, "Released"),
        ("Recycle", {}, "Failed"),
    ],
)
def test_what_nobody_can_reclaim_is_marked_as_failed(policy, annotations, phase):
    async def then(plane):
        await plane.client.delete(PersistentVolumeClaim, "default", "c")

    _, volumes, _ = run([volume("v", persistentVolumeReclaimPolicy=policy, annotations=annotations), claim()], then)
    assert volumes["v"].status.phase == phase


def test_a_claim_whose_volume_is_gone_is_lost():
    async def then(plane):
        await plane.client.delete(PersistentVolume, "", "v")

    claims, _, events = run([volume("v"), claim()], then)
    assert claims["c"].status.phase == "Lost" and ("ClaimLost", "c") in events


def storage_class(name, provisioner="csi.example.com", default=False, mode="Immediate"):
    annotations = {plan.DEFAULT_CLASS: "true"} if default else {}
    return StorageClass(
        metadata=ObjectMeta(name=name, annotations=annotations), provisioner=provisioner, volumeBindingMode=mode
    )


def test_a_provisioner_is_told_that_it_is_its_turn():
    claims, _, events = run([storage_class("fast"), claim(storageClassName="fast")])
    assert claims["c"].metadata.annotations[plan.PROVISIONER] == "csi.example.com"
    assert ("ExternalProvisioning", "c") in events


def test_a_class_that_waits_for_a_consumer_takes_no_volume_before_the_scheduler_has_chosen():
    lazy = storage_class("lazy", mode="WaitForFirstConsumer")
    asked = claim(storageClassName="lazy")
    claims, _, events = run([lazy, volume("v", storageClassName="lazy"), asked])
    assert claims["c"].status.phase == "Pending" and ("WaitForFirstConsumer", "c") in events
    assert plan.PROVISIONER not in claims["c"].metadata.annotations
    chosen = claim(storageClassName="lazy", annotations={plan.SELECTED_NODE: "n"})
    claims, _, _ = run([lazy, chosen])
    assert claims["c"].metadata.annotations[plan.PROVISIONER] == "csi.example.com"
    claims, _, _ = run([lazy, volume("v", storageClassName="lazy", claim="default/c"), asked])
    assert claims["c"].status.phase == "Bound"


def test_a_claim_without_class_takes_the_default_once_there_is_one():
    async def then(plane):
        await plane.client.create(storage_class("std", default=True))

    claims, _, _ = run([claim(storageClassName=None)], then)
    assert claims["c"].spec.storageClassName == "std"


@pytest.mark.parametrize(("name", "reason"), [("absent", "ProvisioningFailed"), ("local", "ProvisioningFailed")])
def test_a_class_that_makes_no_volumes_is_told_of(name, reason):
    local = storage_class("local", "kubernetes.io/no-provisioner")
    _, _, events = run([local, claim(storageClassName=name)])
    assert (reason, "c") in events


def test_a_volume_made_for_a_claim_that_took_another_is_free_again():
    taken = claim(uid="u1", volumeName="other")
    stray = volume("v", claim="default/c@u1", annotations={plan.BOUND_BY_CONTROLLER: "yes"})
    _, volumes, _ = run([volume("other"), stray, taken])
    assert volumes["v"].spec.claimRef is None and volumes["v"].status.phase == "Available"


def test_mismatches_are_named():
    assert match.mismatch(volume("v", "1Mi"), claim()) == "requested PV is too small"
    assert match.mismatch(volume("v"), claim()) == ""
