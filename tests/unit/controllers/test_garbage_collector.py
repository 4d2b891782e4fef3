"""Garbage collection on a fake API: background, foreground, orphans, circles, custom resources."""

from kybern.api.apps_v1 import ReplicaSet, ReplicaSetSpec
from kybern.api.core_v1 import ConfigMap, Container, Node, Pod, PodSpec, PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from kybern.api.resource import Resource
from kybern.machinery.status import ApiError
from kybern.testing import control_plane

NAMES = ["garbage-collector-controller"]
WIDGETS = Resource(
    group="example.com", version="v1", plural="widgets", singular="widget", kind="Widget", namespaced=True,
    verbs=("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
)  # fmt: skip


def reference(owner, block=None, controller=None):
    return OwnerReference(
        apiVersion=owner.apiVersion,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        blockOwnerDeletion=block,
        controller=controller,
    )


def config(name, *owners, finalizers=()):
    return ConfigMap(
        metadata=ObjectMeta(name=name, namespace="default", ownerReferences=list(owners), finalizers=list(finalizers))
    )


def names(plane):
    return sorted(c.metadata.name for c in plane.api.list(ConfigMap))


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, node=False, **options)


def test_dependents_go_after_their_owner_in_the_background():
    async def scenario(plane):
        owner = plane.api.put(config("owner"))
        child = plane.api.put(config("child", reference(owner)))
        plane.api.put(config("grandchild", reference(child)))
        plane.api.put(config("other"))
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "owner", propagation="Background")
        await plane.clock.sleep(10)
        return names(plane)

    assert run(scenario) == ["other"]


def test_an_owner_deleted_in_the_foreground_goes_after_those_that_block_it():
    async def scenario(plane):
        owner = plane.api.put(config("owner"))
        plane.api.put(config("blocking", reference(owner, block=True), finalizers=["example.com/hold"]))
        plane.api.put(config("loose", reference(owner, block=False), finalizers=["example.com/hold"]))
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "owner", propagation="Foreground")
        await plane.clock.sleep(10)
        amid = names(plane)

        def let_go(obj):
            obj.metadata.finalizers.clear()

        plane.api.edit(ConfigMap, "default", "blocking", let_go)
        plane.api.remove(ConfigMap, "default", "blocking")
        await plane.clock.sleep(10)
        return amid, names(plane)

    amid, after = run(scenario)
    assert amid == ["blocking", "loose", "owner"]
    assert after == ["loose"], "a dependent that does not block is not waited for"


def test_orphans_stay_and_lose_their_reference():
    async def scenario(plane):
        owner = plane.api.put(config("owner"))
        plane.api.put(config("child", reference(owner, controller=True)))
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "owner", propagation="Orphan")
        await plane.clock.sleep(10)
        return names(plane), plane.api.get(ConfigMap, "default", "child").metadata.ownerReferences

    assert run(scenario) == (["child"], [])


def test_an_object_with_another_owner_left_only_loses_the_dead_one():
    async def scenario(plane):
        first, second = plane.api.put(config("first")), plane.api.put(config("second"))
        plane.api.put(config("shared", reference(first), reference(second)))
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "first", propagation="Background")
        await plane.clock.sleep(10)
        shared = plane.api.get(ConfigMap, "default", "shared")
        return names(plane), [r.name for r in shared.metadata.ownerReferences]

    assert run(scenario) == (["second", "shared"], ["second"])


def test_a_valid_owner_saves_a_dependent_from_a_foreground_deletion():
    async def scenario(plane):
        going, staying = plane.api.put(config("going")), plane.api.put(config("staying"))
        plane.api.put(config("shared", reference(going, block=True), reference(staying)))
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "going", propagation="Foreground")
        await plane.clock.sleep(10)
        return names(plane)

    assert run(scenario) == ["shared", "staying"]


def test_a_circle_of_owners_does_not_block_its_own_deletion():
    async def scenario(plane):
        for name in ("a", "b", "c"):
            plane.api.put(config(name))
        owners = {"a": "c", "b": "a", "c": "b"}
        for name, owner in owners.items():
            found = plane.api.get(ConfigMap, "default", owner)

            def own(obj, found=found):
                obj.metadata.ownerReferences = [reference(found, block=True)]

            plane.api.edit(ConfigMap, "default", name, own)
        await plane.clock.sleep(5)
        await plane.client.delete(ConfigMap, "default", "a", propagation="Foreground")
        await plane.clock.sleep(30)
        return names(plane)

    assert run(scenario) == []


def test_an_object_whose_owner_never_was_goes_but_not_before_the_server_was_asked():
    async def scenario(plane):
        await plane.clock.sleep(5)
        ghost = ConfigMap(metadata=ObjectMeta(name="ghost", namespace="default", uid="no-such-uid"))
        plane.api.fail_next("get configmaps", ApiError.unavailable("busy"), times=2)
        plane.api.put(config("child", reference(ghost)))
        await plane.clock.sleep(0.3)
        early = names(plane)
        await plane.clock.sleep(20)
        return early, names(plane)

    assert run(scenario) == (["child"], [])


def test_a_namesake_of_the_owner_does_not_count():
    async def scenario(plane):
        owner = plane.api.put(config("owner"))
        plane.api.put(config("child", reference(owner)))
        await plane.clock.sleep(5)
        plane.api.remove(ConfigMap, "default", "owner")
        plane.api.put(config("owner"))
        await plane.clock.sleep(10)
        return names(plane)

    assert run(scenario) == ["owner"]


def test_an_owner_of_an_unknown_kind_is_waited_for():
    async def scenario(plane):
        await plane.clock.sleep(5)
        strange = OwnerReference(apiVersion="nobody.example/v1", kind="Thing", name="x", uid="u")
        plane.api.put(config("child", strange))
        await plane.clock.sleep(120)
        return names(plane)

    assert run(scenario) == ["child"]


def test_a_cluster_wide_object_is_not_collected_for_a_namespaced_owner():
    async def scenario(plane):
        await plane.clock.sleep(5)
        owner = OwnerReference(apiVersion="v1", kind="ConfigMap", name="x", uid="u")
        plane.api.put(Node(metadata=ObjectMeta(name="node", ownerReferences=[owner])))
        await plane.clock.sleep(60)
        return [n.metadata.name for n in plane.api.list(Node)]

    assert run(scenario) == ["node"]


def test_an_owner_in_another_namespace_does_not_count():
    async def scenario(plane):
        there = config("owner")
        there.metadata.namespace = "kube-system"
        owner = plane.api.put(there)
        plane.api.put(config("child", reference(owner)))
        await plane.clock.sleep(20)
        return names(plane)

    assert run(scenario) == ["owner"]


def test_custom_resources_are_collected_too():
    async def scenario(plane):
        owner = plane.api.put(
            {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}}
        )
        meta = owner["metadata"]
        plane.api.put(
            config("child", OwnerReference(apiVersion="example.com/v1", kind="Widget", name="w", uid=meta["uid"]))
        )
        await plane.clock.sleep(5)
        before = names(plane)
        await plane.client.delete(WIDGETS, "default", "w")
        await plane.clock.sleep(10)
        return before, names(plane)

    assert run(scenario, resources=[WIDGETS]) == (["child"], [])


def test_pods_of_a_deleted_replica_set_go():
    async def scenario(plane):
        template = PodTemplateSpec(
            metadata=ObjectMeta(labels={"a": "b"}), spec=PodSpec(containers=[Container(name="c")])
        )
        spec = ReplicaSetSpec(replicas=3, selector=LabelSelector(matchLabels={"a": "b"}), template=template)
        await plane.client.create(ReplicaSet(metadata=ObjectMeta(name="rs", namespace="default"), spec=spec))
        await plane.until(lambda: len(plane.api.list(Pod)) == 3)
        await plane.clock.sleep(2)
        await plane.client.delete(ReplicaSet, "default", "rs", propagation="Background")
        await plane.until(lambda: not plane.api.list(Pod))
        await plane.clock.sleep(30)
        return len(plane.api.list(Pod))

    assert control_plane.run(["replicaset-controller", *NAMES], scenario) == 0


def test_conflicts_only_delay():
    async def scenario(plane):
        owner = plane.api.put(config("owner"))
        plane.api.put(config("child", reference(owner)))
        await plane.clock.sleep(5)
        plane.api.fail_next("delete configmaps", ApiError.stale("", "configmaps", "child"))
        plane.api.remove(ConfigMap, "default", "owner")
        await plane.clock.sleep(10)
        return names(plane)

    assert run(scenario) == []
