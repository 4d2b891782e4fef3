"""Volumes and claims: binding, release, protection, ephemeral claims; and service ranges, which are held back alike."""

import pytest

from kybern.api.core_v1 import (
    EphemeralVolumeSource,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    Pod,
    PodSpec,
    PodStatus,
    Volume,
    VolumeResourceRequirements,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.networking_v1 import IPAddress, ServiceCIDR, ServiceCIDRSpec
from kybern.api.storage_v1 import StorageClass
from kybern.controllers import service_cidr, volume_protection
from kybern.testing import control_plane

BINDER = ["persistentvolume-binder-controller"]


def run(names, scenario):
    return control_plane.run(names, scenario, node=False)


def claim(name="c", size="1Gi", modes=("ReadWriteOnce",), **spec):
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PersistentVolumeClaimSpec(
            accessModes=list(modes), resources=VolumeResourceRequirements(requests={"storage": size}), **spec
        ),
    )


def volume(name, size="1Gi", modes=("ReadWriteOnce",), **spec):
    return PersistentVolume(
        metadata=ObjectMeta(name=name),
        spec=PersistentVolumeSpec(capacity={"storage": size}, accessModes=list(modes), **spec),
    )


def test_the_smallest_volume_that_suits_is_bound_on_both_sides():
    async def scenario(plane):
        for made in (
            volume("huge", "9Gi"),
            volume("fits", "2Gi"),
            volume("small", "512Mi"),
            volume("many", "1Gi", ("ReadOnlyMany",)),
        ):
            plane.api.put(made)
        await plane.client.create(claim())
        await plane.until(lambda: plane.api.get(PersistentVolumeClaim, "default", "c").status.phase == "Bound")
        await plane.clock.sleep(1)
        found = plane.api.get(PersistentVolumeClaim, "default", "c")
        phases = {v.metadata.name: v.status.phase for v in plane.api.list(PersistentVolume)}
        return found, plane.api.get(PersistentVolume, "", "fits"), phases

    found, bound, phases = run(BINDER, scenario)
    assert found.spec.volumeName == "fits" and found.status.capacity == {"storage": "2Gi"}
    assert found.metadata.annotations["pv.kubernetes.io/bind-completed"] == "yes"
    assert bound.spec.claimRef.uid == found.metadata.uid
    assert phases == {"huge": "Available", "fits": "Bound", "small": "Available", "many": "Available"}


def test_a_claim_waits_for_a_volume_and_takes_the_first_that_comes():
    async def scenario(plane):
        await plane.client.create(claim())
        await plane.clock.sleep(2)
        before = plane.api.get(PersistentVolumeClaim, "default", "c").status.phase
        plane.api.put(volume("late"))
        await plane.until(lambda: plane.api.get(PersistentVolumeClaim, "default", "c").status.phase == "Bound")
        return before

    assert run(BINDER, scenario) == "Pending"


def test_two_claims_never_share_a_volume():
    async def scenario(plane):
        plane.api.put(volume("only"))
        for name in ("a", "b"):
            await plane.client.create(claim(name))
        await plane.clock.sleep(5)
        return sorted(c.status.phase for c in plane.api.list(PersistentVolumeClaim))

    assert run(BINDER, scenario) == ["Bound", "Pending"]


def test_a_volume_whose_claim_is_gone_is_released_and_a_claim_without_its_volume_is_lost():
    async def scenario(plane):
        plane.api.put(volume("v1"))
        await plane.client.create(claim())
        await plane.until(lambda: plane.api.get(PersistentVolumeClaim, "default", "c").status.phase == "Bound")
        await plane.client.delete(PersistentVolumeClaim, "default", "c")
        await plane.clock.sleep(1)
        released = plane.api.get(PersistentVolume, "", "v1").status.phase
        plane.api.put(volume("v2"))
        await plane.client.create(claim("d"))
        await plane.until(lambda: plane.api.get(PersistentVolumeClaim, "default", "d").status.phase == "Bound")
        plane.api.remove(PersistentVolume, "", "v2")
        await plane.clock.sleep(1)
        return released, plane.api.get(PersistentVolumeClaim, "default", "d").status.phase

    assert run(BINDER, scenario) == ("Released", "Lost")


@pytest.mark.parametrize(("mode", "asked"), [("Immediate", True), ("WaitForFirstConsumer", False)])
def test_an_external_provisioner_is_asked_when_it_is_its_turn(mode, asked):
    async def scenario(plane):
        plane.api.put(
            StorageClass(metadata=ObjectMeta(name="fast"), provisioner="example.com/p", volumeBindingMode=mode)
        )
        await plane.client.create(claim(storageClassName="fast"))
        await plane.clock.sleep(1)
        return plane.api.get(PersistentVolumeClaim, "default", "c").metadata.annotations

    annotations = run(BINDER, scenario)
    assert (annotations.get("volume.kubernetes.io/storage-provisioner") == "example.com/p") is asked


def user(name, claim_name, phase="Running"):
    source = PersistentVolumeClaimVolumeSource(claimName=claim_name)
    spec = PodSpec(volumes=[Volume(name="v", persistentVolumeClaim=source)], nodeName="n")
    return Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec, status=PodStatus(phase=phase))


def test_a_claim_in_use_outlives_its_deletion_until_the_pod_has_ended():
    async def scenario(plane):
        held = claim()
        held.metadata.finalizers = [volume_protection.CLAIM_FINALIZER]
        plane.api.put(held)
        plane.api.put(user("p", "c"))
        await plane.clock.sleep(1)
        await plane.client.delete(PersistentVolumeClaim, "default", "c")
        await plane.clock.sleep(5)
        amid = plane.api.get(PersistentVolumeClaim, "default", "c") is not None
        plane.api.edit(Pod, "default", "p", lambda pod: setattr(pod.status, "phase", "Succeeded"))
        await plane.clock.sleep(5)
        return amid, plane.api.get(PersistentVolumeClaim, "default", "c")

    assert run(["persistentvolumeclaim-protection-controller"], scenario) == (True, None)


def test_a_bound_volume_outlives_its_deletion():
    async def scenario(plane):
        held = volume("v")
        held.metadata.finalizers = [volume_protection.VOLUME_FINALIZER]
        held.status.phase = "Bound"
        plane.api.put(held)
        await plane.client.delete(PersistentVolume, "", "v")
        await plane.clock.sleep(5)
        amid = plane.api.get(PersistentVolume, "", "v") is not None
        plane.api.edit(PersistentVolume, "", "v", lambda found: setattr(found.status, "phase", "Released"))
        await plane.clock.sleep(5)
        return amid, plane.api.get(PersistentVolume, "", "v")

    assert run(["persistentvolume-protection-controller"], scenario) == (True, None)


def test_an_ephemeral_volume_gets_a_claim_of_its_pod():
    async def scenario(plane):
        template = PersistentVolumeClaimTemplate(spec=claim().spec)
        spec = PodSpec(volumes=[Volume(name="scratch", ephemeral=EphemeralVolumeSource(volumeClaimTemplate=template))])
        pod = plane.api.put(Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=spec))
        await plane.clock.sleep(1)
        made = plane.api.get(PersistentVolumeClaim, "default", "p-scratch")
        return made.metadata.ownerReferences[0].uid == pod.metadata.uid, made.spec.resources.requests

    assert run(["ephemeral-volume-controller"], scenario) == (True, {"storage": "1Gi"})


def test_a_service_range_is_ready_and_stays_while_addresses_of_it_are_used():
    def address(ip):
        return IPAddress(metadata=ObjectMeta(name=ip))

    async def scenario(plane):
        plane.api.put(ServiceCIDR(metadata=ObjectMeta(name="extra"), spec=ServiceCIDRSpec(cidrs=["10.9.0.0/24"])))
        plane.api.put(address("10.9.0.7"))
        plane.api.put(address("10.8.0.7"))
        await plane.clock.sleep(1)
        ready = plane.api.get(ServiceCIDR, "", "extra")
        await plane.client.delete(ServiceCIDR, "", "extra")
        await plane.clock.sleep(5)
        amid = plane.api.get(ServiceCIDR, "", "extra")
        plane.api.remove(IPAddress, "", "10.9.0.7")
        await plane.clock.sleep(15)
        return ready, amid, plane.api.get(ServiceCIDR, "", "extra")

    ready, amid, after = run(["service-cidr-controller"], scenario)
    assert ready.metadata.finalizers == [service_cidr.FINALIZER]
    assert [(c.type, c.status) for c in ready.status.conditions] == [("Ready", "True")]
    assert [(c.status, c.reason) for c in amid.status.conditions] == [("False", "Terminating")]
    assert after is None
