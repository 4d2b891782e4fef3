"""Volumes go where their pods are, and never to two nodes that must not share them."""

import pytest

from kybern.api import core_v1
from kybern.api.core_v1 import Node, PersistentVolume, PersistentVolumeClaim, Pod, Taint
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.api.storage_v1 import CSIDriver, CSIDriverSpec, VolumeAttachment, VolumeError
from kybern.controllers.attach_detach import plan
from kybern.testing import control_plane

NAMES = ["persistentvolume-attach-detach-controller"]
DRIVER = "d.example.com"
UNIQUE = f"kubernetes.io/csi/{DRIVER}^h-a"
ON_N1 = "csi-b5e88526d41b6ba047a233dba9f579f74f562f0ed3b1f8fa7bc0e4cab0f034d5"  # as a v1.36 controller names it
ON_N2 = "csi-b256f66261f0f114429c797a4eb21e03ae07e014672a1aa45691198150c1e528"


def node(name="n1", *, managed=True, ready="True", in_use=(), attached=(), taints=()):
    return Node(
        metadata=ObjectMeta(name=name, annotations={plan.MANAGED: "true"} if managed else {}),
        spec=core_v1.NodeSpec(taints=list(taints)),
        status=core_v1.NodeStatus(
            conditions=[core_v1.NodeCondition(type="Ready", status=ready)],
            volumesInUse=list(in_use),
            volumesAttached=[core_v1.AttachedVolume(name=name) for name in attached],
        ),
    )


def pod(name="p", on="n1", *, phase="Running", claim="c-a"):
    source = core_v1.PersistentVolumeClaimVolumeSource(claimName=claim)
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PodSpec(nodeName=on, volumes=[core_v1.Volume(name="v", persistentVolumeClaim=source)]),
        status=core_v1.PodStatus(phase=phase),
    )


def volume(api, letter="a", modes=("ReadWriteOnce",), phase="Bound", driver=DRIVER, owner=None, name=""):
    """A claim and the volume that is bound to it."""
    claim = api.put(
        PersistentVolumeClaim(
            metadata=ObjectMeta(
                name=name or f"c-{letter}", namespace="default", ownerReferences=[owner] if owner else []
            ),
            spec=core_v1.PersistentVolumeClaimSpec(volumeName=f"pv-{letter}"),
            status=core_v1.PersistentVolumeClaimStatus(phase=phase),
        )
    )
    ref = core_v1.ObjectReference(namespace="default", name=claim.metadata.name, uid=claim.metadata.uid)
    csi = core_v1.CSIPersistentVolumeSource(driver=driver, volumeHandle=f"h-{letter}")
    spec = core_v1.PersistentVolumeSpec(accessModes=list(modes), claimRef=ref, csi=csi)
    api.put(PersistentVolume(metadata=ObjectMeta(name=f"pv-{letter}"), spec=spec))


def attached(api, name=ON_N1, on="n1", *, done=True):
    made = plan.new_attachment(plan.Volume("pv-a", DRIVER, "h-a", is_exclusive=True), on)
    made.metadata.name = name
    made.status.attached = done
    return api.put(made)


def settle(*objects, then=(), prepare=volume, seconds=2.0):
    """{node: [attachments]} and {node: volumesAttached} a while after the last of `then`."""

    async def scenario(plane):
        for obj in objects:
            plane.api.put(obj)
        await plane.clock.sleep(seconds)
        for step in then:
            step(plane.api)
            await plane.clock.sleep(seconds)
        where = {}
        for found in plane.api.list(VolumeAttachment):
            where.setdefault(found.spec.nodeName, []).append(found.metadata.name)
        told = {n.metadata.name: [v.name for v in n.status.volumesAttached] for n in plane.api.list(Node)}
        events = [(e.involvedObject.name, e.reason, e.message.strip()) for e in plane.api.list(core_v1.Event)]
        return where, told, events

    return control_plane.run(NAMES, scenario, node=False, prepare=prepare)


def report(name, **fields):
    def step(api):
        api.edit(VolumeAttachment, "", name, lambda a: [setattr(a.status, k, v) for k, v in fields.items()])

    return step


def free(api):
    api.edit(Node, "", "n1", lambda n: setattr(n.status, "volumesInUse", []))


def remove_pod(api):
    api.remove(Pod, "default", "p")


def test_a_volume_is_attached_to_the_node_of_its_pod():
    where, told, _ = settle(node(), pod())
    assert where == {"n1": [ON_N1]}
    assert told == {"n1": []}


def test_the_kubelet_is_told_once_the_driver_has_attached_it():
    _, told, events = settle(node(), pod(), then=[report(ON_N1, attached=True)])
    assert told == {"n1": [UNIQUE]}
    assert events == [("p", "SuccessfulAttachVolume", 'AttachVolume.Attach succeeded for volume "pv-a"')]


def test_pods_hear_of_a_driver_that_fails():
    _, told, events = settle(node(), pod(), then=[report(ON_N1, attachError=VolumeError(message="full"))])
    assert told == {"n1": []}
    assert events == [("p", "FailedAttachVolume", 'AttachVolume.Attach failed for volume "pv-a" : full')]


@pytest.mark.parametrize(
    "objects",
    [
        (node(managed=False), pod()),
        (pod(),),
        (node(), pod(phase="Succeeded")),
        (node(), pod(claim="other")),
        (node(), pod(), CSIDriver(metadata=ObjectMeta(name=DRIVER), spec=CSIDriverSpec(attachRequired=False))),
    ],
    ids=["not managed", "no node", "finished pod", "no claim", "driver without attaching"],
)
def test_nothing_is_attached_where_nothing_needs_it(objects):
    assert settle(*reversed(objects))[0] == {}


def test_only_bound_claims_count():
    assert settle(node(), pod(), prepare=lambda api: volume(api, phase="Pending"))[0] == {}

    def bind(api):
        api.edit(PersistentVolumeClaim, "default", "c-a", lambda c: setattr(c.status, "phase", "Bound"))

    assert settle(node(), pod(), prepare=lambda api: volume(api, phase="Pending"), then=[bind])[0] == {"n1": [ON_N1]}


def test_an_ephemeral_volume_must_have_been_made_for_its_pod():
    scratch = pod()
    scratch.metadata.uid = "u"
    scratch.spec.volumes = [core_v1.Volume(name="v", ephemeral=core_v1.EphemeralVolumeSource())]
    for uid, expected in (("u", {"n1": [ON_N1]}), ("other", {})):
        owner = OwnerReference(apiVersion="v1", kind="Pod", name="p", uid=uid, controller=True)
        where, _, _ = settle(node(), scratch, prepare=lambda api, o=owner: volume(api, owner=o, name="p-v"))
        assert where == expected


def test_a_volume_nobody_uses_is_detached_at_once():
    where, told, _ = settle(node(), pod(), then=[report(ON_N1, attached=True), remove_pod])
    assert (where, told) == ({}, {"n1": []})


def test_the_kubelet_is_told_before_a_volume_goes():
    calls = []

    async def scenario(plane):
        plane.api.put(node(attached=[UNIQUE]))
        attached(plane.api)
        await plane.clock.sleep(2)
        calls.extend(call.what for call in plane.api.calls if call.verb in ("patch", "delete"))

    control_plane.run(NAMES, scenario, node=False, prepare=volume)
    assert calls == ["patch nodes/status", "delete volumeattachments"]


def test_a_volume_in_use_stays_until_the_kubelet_lets_go():
    objects = (node(in_use=[UNIQUE]), pod())
    begin = [report(ON_N1, attached=True), remove_pod]
    where, told, _ = settle(*objects, then=begin, seconds=1000.0)
    assert (where, told) == ({"n1": [ON_N1]}, {"n1": [UNIQUE]})
    where, told, _ = settle(*objects, then=[*begin, free])
    assert (where, told) == ({}, {"n1": []})


def test_a_sick_node_loses_it_after_six_minutes():
    objects = (node(in_use=[UNIQUE], ready="Unknown"), pod())
    begin = [report(ON_N1, attached=True), remove_pod]
    assert settle(*objects, then=begin, seconds=350.0)[0] == {"n1": [ON_N1]}
    assert settle(*objects, then=begin, seconds=370.0)[0] == {}


def test_a_node_that_is_gone_loses_it_after_six_minutes():
    begin = [report(ON_N1, attached=True), remove_pod, lambda api: api.remove(Node, "", "n1")]
    assert settle(node(in_use=[UNIQUE]), pod(), then=begin, seconds=170.0)[0] == {"n1": [ON_N1]}
    assert settle(node(in_use=[UNIQUE]), pod(), then=begin, seconds=370.0)[0] == {}


def test_a_node_that_is_off_for_certain_loses_it_at_once():
    off = Taint(key="node.kubernetes.io/out-of-service", value="nodeshutdown", effect="NoExecute")
    objects = (node(in_use=[UNIQUE], ready="Unknown", taints=[off]), pod())
    assert settle(*objects, then=[report(ON_N1, attached=True), remove_pod])[0] == {}


def test_an_exclusive_volume_waits_for_the_other_node_to_give_it_up():
    objects = (node(in_use=[UNIQUE]), node("n2"), pod())
    begin = [report(ON_N1, attached=True), lambda api: api.put(pod("q", "n2"))]
    where, _, events = settle(*objects, then=begin)
    assert where == {"n1": [ON_N1]}
    why = 'Multi-Attach error for volume "pv-a" Volume is already used by pod(s) p'
    assert ("q", "FailedAttachVolume", why) in events
    where, told, _ = settle(*objects, then=[*begin, remove_pod, free])
    assert (where, told) == ({"n2": [ON_N2]}, {"n1": [], "n2": []})


@pytest.mark.parametrize("mode", ["ReadOnlyMany", "ReadWriteMany"])
def test_a_volume_for_many_nodes_is_attached_to_each(mode):
    where, _, _ = settle(node(), node("n2"), pod(), pod("q", "n2"), prepare=lambda api: volume(api, modes=(mode,)))
    assert where == {"n1": [ON_N1], "n2": [ON_N2]}


def test_attachments_of_others_are_left_alone():
    assert settle(node(), then=[lambda api: attached(api, "mine")])[0] == {"n1": ["mine"]}


def test_a_restarted_controller_detaches_what_is_left_over():
    where, told, _ = settle(node(attached=[UNIQUE]), then=[attached])
    assert (where, told) == ({}, {"n1": []})


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([], "Volume is already exclusively attached to one node and can't be attached to another"),
        ([("ns", "b"), ("ns", "a")], "Volume is already used by pod(s) a, b"),
        ([("else", "x")], "Volume is already used by 1 pod(s) in different namespaces"),
        ([("ns", "a"), ("else", "x")], "Volume is already used by pod(s) a and 1 pod(s) in different namespaces"),
    ],
)
def test_blame_names_pods_of_the_same_namespace_only(others, why):
    blocked = plan.Volume("pv", "d", "h", is_exclusive=True)
    assert plan.plan_blame(blocked, "ns", others) == f'Multi-Attach error for volume "pv" {why}'
