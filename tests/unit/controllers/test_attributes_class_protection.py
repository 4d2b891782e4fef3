"""VolumeAttributesClasses in use outlive their deletion, and no longer."""

import pytest

from kybern.api.core_v1 import (
    ModifyVolumeStatus,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    PersistentVolumeSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.storage_v1 import VolumeAttributesClass
from kybern.controllers.attributes_class_protection import FINALIZER
from kybern.testing import control_plane

NAMES = ["volumeattributesclass-protection-controller"]


def claim(spec=None, status=None):
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name="c", namespace="default"),
        spec=PersistentVolumeClaimSpec(volumeAttributesClassName=spec),
        status=status or PersistentVolumeClaimStatus(),
    )


def volume(name):
    return PersistentVolume(metadata=ObjectMeta(name="v"), spec=PersistentVolumeSpec(volumeAttributesClassName=name))


def delete_class(*objects, then=None):
    """Whether the class is gone a while after it was deleted (and after `then`)."""

    async def scenario(plane):
        plane.api.put(VolumeAttributesClass(metadata=ObjectMeta(name="gold", finalizers=[FINALIZER]), driverName="d"))
        for obj in objects:
            plane.api.put(obj)
        await plane.client.delete(VolumeAttributesClass, "", "gold")
        await plane.clock.sleep(5)
        if then is not None:
            assert plane.api.list(VolumeAttributesClass)
            then(plane.api)
            await plane.clock.sleep(5)
        return not plane.api.list(VolumeAttributesClass)

    return control_plane.run(NAMES, scenario, node=False)


def test_an_unused_class_goes_at_once():
    assert delete_class()
    assert delete_class(claim("silver"), volume("silver"))


@pytest.mark.parametrize(
    "user",
    [
        claim("gold"),
        claim("silver", PersistentVolumeClaimStatus(currentVolumeAttributesClassName="gold")),
        claim(
            "silver",
            PersistentVolumeClaimStatus(
                modifyVolumeStatus=ModifyVolumeStatus(status="Pending", targetVolumeAttributesClassName="gold")
            ),
        ),
        volume("gold"),
    ],
)
def test_a_class_stays_while_a_claim_or_a_volume_names_it(user):
    assert not delete_class(user)


def test_a_class_goes_with_its_last_user():
    assert delete_class(claim("gold"), then=lambda api: api.put(claim("silver")))
    assert delete_class(volume("gold"), then=lambda api: api.put(volume("silver")))


def test_older_classes_are_protected_too():
    async def scenario(plane):
        plane.api.put(VolumeAttributesClass(metadata=ObjectMeta(name="gold"), driverName="d"))
        await plane.clock.sleep(5)
        (found,) = plane.api.list(VolumeAttributesClass)
        return found.metadata.finalizers

    assert control_plane.run(NAMES, scenario, node=False) == [FINALIZER]
