"""Claims and volumes in use outlive their deletion, and no longer."""

import pytest

from kybern.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeStatus,
    Pod,
    PodSpec,
    PodStatus,
    Volume,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers.volume_protection import CLAIM_FINALIZER, VOLUME_FINALIZER
from kybern.testing import control_plane

NAMES = ["persistentvolume-protection-controller", "persistentvolumeclaim-protection-controller"]


def pod(phase="Running", node="n"):
    source = PersistentVolumeClaimVolumeSource(claimName="c")
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default"),
        spec=PodSpec(nodeName=node or None, volumes=[Volume(name="v", persistentVolumeClaim=source)]),
        status=PodStatus(phase=phase),
    )


def delete_claim(*objects, then=None):
    """Whether the claim is gone a while after it was deleted (and after `then`)."""

    async def scenario(plane):
        plane.api.put(
            PersistentVolumeClaim(metadata=ObjectMeta(name="c", namespace="default", finalizers=[CLAIM_FINALIZER]))
        )
        for obj in objects:
            plane.api.put(obj)
        await plane.client.delete(PersistentVolumeClaim, "default", "c")
        await plane.clock.sleep(5)
        if then is not None:
            assert plane.api.list(PersistentVolumeClaim)
            then(plane.api)
            await plane.clock.sleep(5)
        return not plane.api.list(PersistentVolumeClaim)

    return control_plane.run(NAMES, scenario, node=False)


def test_an_unused_claim_goes_at_once():
    assert delete_claim()


@pytest.mark.parametrize(
    ("user", "gone"),
    [(pod(), False), (pod("Pending"), False), (pod("Succeeded"), True), (pod("Pending", node=""), True)],
)
def test_a_claim_stays_while_a_placed_pod_uses_it(user, gone):
    assert delete_claim(user) == gone


def test_a_claim_goes_when_its_last_pod_has_ended():
    def end(api):
        api.edit(Pod, "default", "p", lambda found: setattr(found.status, "phase", "Failed"))

    assert delete_claim(pod(), then=end)


def test_a_claim_goes_when_its_last_pod_is_gone():
    assert delete_claim(pod(), then=lambda api: api.remove(Pod, "default", "p"))


@pytest.mark.parametrize(("phase", "gone"), [("Bound", False), ("Available", True), ("Released", True)])
def test_a_volume_stays_while_it_is_bound(phase, gone):
    async def scenario(plane):
        meta = ObjectMeta(name="v", finalizers=[VOLUME_FINALIZER])
        plane.api.put(PersistentVolume(metadata=meta, status=PersistentVolumeStatus(phase=phase)))
        await plane.client.delete(PersistentVolume, "", "v")
        await plane.clock.sleep(5)
        return not plane.api.list(PersistentVolume)

    assert control_plane.run(NAMES, scenario, node=False) == gone
