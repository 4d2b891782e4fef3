"""Namespaces on their way out: everything goes, pods first, and what is in the way is told."""

from kybern.api.core_v1 import ConfigMap, Namespace, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.resource import Resource
from kybern.machinery.status import ApiError
from kybern.testing import control_plane

NAMES = ["namespace-controller"]
WIDGETS = Resource(
    group="example.com", version="v1", plural="widgets", singular="widget", kind="Widget", namespaced=True,
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)  # fmt: skip


def fill(plane, finalizers=()):
    for name in ("one", "two"):
        meta = ObjectMeta(name=name, namespace="doomed", finalizers=list(finalizers))
        plane.api.put(ConfigMap(metadata=meta))


async def doomed(plane):
    await plane.client.create(Namespace(metadata=ObjectMeta(name="doomed")))


def get(plane):
    return plane.api.get(Namespace, "", "doomed")


def conditions(plane):
    return {c.type: (c.status, c.reason, c.message) for c in get(plane).status.conditions}


def run(scenario, **options):
    return control_plane.run(NAMES, scenario, node=False, **options)


def test_a_namespace_goes_with_all_it_holds_custom_resources_too():
    async def scenario(plane):
        await doomed(plane)
        fill(plane)
        plane.api.put(
            {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "doomed"}}
        )
        plane.api.put(ConfigMap(metadata=ObjectMeta(name="safe", namespace="default")))
        await plane.client.delete(Namespace, "", "doomed")
        await plane.until(lambda: get(plane) is None)
        widgets = (await plane.client.list(WIDGETS)).items
        return [c.metadata.name for c in plane.api.list(ConfigMap)], widgets, plane.clock.monotonic()

    left, widgets, when = run(scenario, resources=[WIDGETS])
    assert left == ["safe"] and widgets == [] and when < 5


def test_an_active_namespace_is_left_alone():
    async def scenario(plane):
        await doomed(plane)
        fill(plane)
        await plane.clock.sleep(30)
        return len(plane.api.list(ConfigMap))

    assert run(scenario) == 2


def test_what_finalizers_hold_is_told_and_waited_for():
    async def scenario(plane):
        await doomed(plane)
        fill(plane, ["example.com/hold"])
        await plane.client.delete(Namespace, "", "doomed")
        await plane.until(lambda: conditions(plane))
        told = conditions(plane)
        for name in ("one", "two"):
            plane.api.remove(ConfigMap, "doomed", name)
        await plane.until(lambda: get(plane) is None)
        return told

    told = run(scenario)
    assert told["NamespaceContentRemaining"] == (
        "True", "SomeResourcesRemain", "Some resources are remaining: configmaps. has 2 resource instances",
    )  # fmt: skip
    assert told["NamespaceFinalizersRemaining"] == (
        "True",
        "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: example.com/hold in 2 resource instances",
    )
    assert told["NamespaceDeletionContentFailure"][0] == "False" and len(told) == 5


def test_pods_go_before_anything_else():
    async def scenario(plane):
        await doomed(plane)
        fill(plane)
        plane.api.put(
            Pod(metadata=ObjectMeta(name="p", namespace="doomed", finalizers=["example.com/hold"]), spec=PodSpec())
        )
        await plane.client.delete(Namespace, "", "doomed")
        await plane.clock.sleep(20)
        amid = len(plane.api.list(ConfigMap)), conditions(plane)["NamespaceContentRemaining"][2]
        plane.api.remove(Pod, "doomed", "p")
        await plane.until(lambda: get(plane) is None)
        return amid

    assert run(scenario) == (2, "Some resources are remaining: pods. has 1 resource instances")


def test_a_failure_to_delete_is_told_and_tried_again():
    async def scenario(plane):
        await doomed(plane)
        fill(plane)
        plane.api.fail_next("deletecollection configmaps", ApiError.internal("webhook said no"), times=4)
        await plane.client.delete(Namespace, "", "doomed")
        await plane.until(lambda: conditions(plane))
        told = conditions(plane)["NamespaceDeletionContentFailure"]
        await plane.until(lambda: get(plane) is None)
        return told

    status, reason, message = run(scenario)
    assert (status, reason) == ("True", "ContentDeletionFailed") and "webhook said no" in message


def test_another_finalizer_of_the_namespace_is_respected():
    async def scenario(plane):
        await doomed(plane)
        plane.api.edit(Namespace, "", "doomed", lambda found: found.spec.finalizers.append("example.com/mine"))
        fill(plane)
        await plane.client.delete(Namespace, "", "doomed")
        await plane.clock.sleep(30)
        return len(plane.api.list(ConfigMap)), get(plane).spec.finalizers

    assert run(scenario) == (0, ["example.com/mine"])
