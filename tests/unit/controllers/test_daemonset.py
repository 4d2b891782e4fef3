"""DaemonSets on a fake API: placement by labels and taints, updates with and without surge."""

import asyncio
import itertools

import pytest

from kybern.api.apps_v1 import (
    ControllerRevision,
    DaemonSet,
    DaemonSetSpec,
    DaemonSetUpdateStrategy,
    RollingUpdateDaemonSet,
)
from kybern.api.core_v1 import Container, Node, NodeSpec, Pod, PodSpec, PodTemplateSpec, Taint, Toleration
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.controllers import pods
from kybern.controllers.daemonset import placement
from kybern.testing import control_plane
from kybern.testing.fake_kubelet import FakeKubelet, Habits

NAMES = ["daemonset-controller"]


def node(name, taints=(), unschedulable=None, **labels):
    return Node(
        metadata=ObjectMeta(name=name, labels=labels), spec=NodeSpec(taints=list(taints), unschedulable=unschedulable)
    )


def daemon(surge=None, unavailable=1, strategy="RollingUpdate", **spec):
    rolling = (
        RollingUpdateDaemonSet(maxSurge=surge, maxUnavailable=unavailable) if strategy == "RollingUpdate" else None
    )
    return DaemonSet(
        metadata=ObjectMeta(name="ds", namespace="default"),
        spec=DaemonSetSpec(
            selector=LabelSelector(matchLabels={"app": "ds"}),
            updateStrategy=DaemonSetUpdateStrategy(type=strategy, rollingUpdate=rolling),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"app": "ds"}),
                spec=PodSpec(containers=[Container(name="c", image="a")], **spec),
            ),
        ),
    )


def get(plane):
    return plane.api.get(DaemonSet, "default", "ds")


def where(plane):
    return sorted(placement.node_of(p) for p in plane.api.list(Pod) if pods.is_active(p))


async def schedule(plane):
    """Bind pods to the node their affinity names, for as long as the test runs."""
    while True:
        for pod in plane.api.list(Pod):
            if not pod.spec.nodeName and pod.metadata.deletionTimestamp is None:
                plane.api.edit(
                    Pod, "default", pod.metadata.name, lambda p: setattr(p.spec, "nodeName", placement.node_of(p))
                )
        await plane.clock.sleep(0.2)


def run(scenario, nodes=("n1", "n2", "n3"), habits=None):
    async def with_nodes(plane):
        for name in nodes:
            if isinstance(name, str):
                plane.api.put(node(name))
            else:
                plane.api.put(name)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(schedule(plane))]
            behaviour = habits or Habits(binds=False)
            for name in nodes:
                shown = name if isinstance(name, str) else name.metadata.name
                running.append(tasks.create_task(FakeKubelet(plane.client, plane.clock, shown, behaviour).run()))
            result = await scenario(plane)
            for task in running:
                task.cancel()
        return result

    return control_plane.run(NAMES, with_nodes, node=False)


def is_done(plane, count=3):
    status = get(plane).status
    return (status.numberAvailable, status.updatedNumberScheduled, status.observedGeneration) == (
        count,
        count,
        get(plane).metadata.generation,
    )


def set_image(plane, image):
    def change(obj):
        obj.spec.template.spec.containers[0].image = image
        obj.metadata.generation += 1

    plane.api.edit(DaemonSet, "default", "ds", change)


def test_every_node_gets_one_pod_and_new_nodes_too():
    async def scenario(plane):
        await plane.client.create(daemon())
        await plane.until(lambda: is_done(plane))
        first = where(plane)
        plane.api.put(node("n4"))
        await plane.clock.sleep(5)
        return first, where(plane), get(plane).status

    first, after, status = run(scenario)
    assert first == ["n1", "n2", "n3"] and after == ["n1", "n2", "n3", "n4"]
    assert (status.desiredNumberScheduled, status.currentNumberScheduled, status.numberMisscheduled) == (4, 4, 0)


def test_labels_and_taints_decide_where():
    taint = Taint(key="special", effect="NoSchedule", value="x")
    nodes = (
        node("plain", disk="ssd"),
        node("tainted", [taint], disk="ssd"),
        node("cordoned", [Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")], True, disk="ssd"),
        node("unready", [Taint(key="node.kubernetes.io/not-ready", effect="NoExecute")], disk="ssd"),
        node("other", disk="hdd"),
    )

    async def scenario(plane):
        await plane.client.create(daemon(nodeSelector={"disk": "ssd"}))
        await plane.clock.sleep(5)
        first = where(plane)
        plane.api.edit(Node, "", "plain", lambda found: found.metadata.labels.update(disk="hdd"))
        plane.api.edit(Node, "", "other", lambda found: found.metadata.labels.update(disk="ssd"))
        await plane.clock.sleep(10)
        return first, where(plane)

    assert run(scenario, nodes) == (["cordoned", "plain", "unready"], ["cordoned", "other", "unready"])


def test_a_no_schedule_taint_lets_pods_stay_and_a_no_execute_taint_does_not():
    def taint(effect):
        return lambda found: found.spec.taints.append(Taint(key="x", effect=effect))

    async def scenario(plane):
        await plane.client.create(daemon())
        await plane.until(lambda: is_done(plane))
        plane.api.edit(Node, "", "n1", taint("NoSchedule"))
        plane.api.edit(Node, "", "n2", taint("NoExecute"))
        await plane.clock.sleep(10)
        return where(plane), get(plane).status.numberMisscheduled

    assert run(scenario) == (["n1", "n3"], 1)


def test_a_toleration_of_everything_goes_everywhere():
    found = daemon(tolerations=[Toleration(operator="Exists")])
    hostile = node("n", [Taint(key="x", effect="NoExecute"), Taint(key="y", effect="NoSchedule")])
    assert placement.judge(found, hostile).run


def test_an_update_replaces_pods_within_max_unavailable():
    async def scenario(plane):
        await plane.client.create(daemon())
        await plane.until(lambda: is_done(plane))
        missing = []

        def look():
            missing.append(3 - sum(pods.is_ready(p) and pods.is_active(p) for p in plane.api.list(Pod)))
            return is_done(plane)

        set_image(plane, "b")
        await plane.until(look)
        return (
            max(missing),
            {p.spec.containers[0].image for p in plane.api.list(Pod)},
            len(plane.api.list(ControllerRevision)),
        )

    assert run(scenario) == (1, {"b"}, 2)


def test_a_surge_starts_the_new_pod_first():
    async def scenario(plane):
        await plane.client.create(daemon(surge=1, unavailable=0))
        await plane.until(lambda: is_done(plane))
        served = []

        def look():
            ready = {placement.node_of(p) for p in plane.api.list(Pod) if pods.is_ready(p)}
            served.append(len(ready))
            return is_done(plane) and len(plane.api.list(Pod)) == 3

        set_image(plane, "b")
        await plane.until(look)
        return min(served), {p.spec.containers[0].image for p in plane.api.list(Pod)}

    assert run(scenario) == (3, {"b"})


def test_on_delete_waits_for_somebody_to_delete():
    async def scenario(plane):
        await plane.client.create(daemon(strategy="OnDelete"))
        await plane.clock.sleep(5)
        set_image(plane, "b")
        await plane.clock.sleep(30)
        before = {p.spec.containers[0].image for p in plane.api.list(Pod)}
        name = plane.api.list(Pod)[0].metadata.name
        await plane.client.delete(Pod, "default", name)
        await plane.clock.sleep(10)
        return before, sorted(p.spec.containers[0].image for p in plane.api.list(Pod))

    assert run(scenario) == ({"a"}, ["a", "a", "b"])


def test_a_failed_pod_is_replaced_ever_more_slowly():
    async def scenario(plane):
        made = []
        plane.api.react("create pods", lambda call: made.append(plane.clock.monotonic()))
        await plane.client.create(daemon())
        await plane.clock.sleep(120)
        return made

    made = run(scenario, nodes=("n1",), habits=Habits(binds=False, exit_code=lambda pod: 1, run_time=0.1))
    pauses = [b - a for a, b in itertools.pairwise(made)]
    assert len(made) >= 4 and pauses[-1] > 2 * pauses[0]


def test_pods_of_the_set_on_a_node_that_left_are_not_kept_waiting():
    async def scenario(plane):
        await plane.client.create(daemon())
        await plane.clock.sleep(5.1)  # between two turns of `schedule`
        plane.api.put(
            Pod(
                metadata=ObjectMeta(name="lost", namespace="default", labels={"app": "ds"}),
                spec=PodSpec(affinity=pinned("gone").spec.affinity, nodeName=None),
            )
        )
        await plane.clock.sleep(0.05)
        return [p.metadata.name for p in plane.api.list(Pod) if placement.node_of(p) == "gone" and pods.is_active(p)]

    assert run(scenario, nodes=("n1",)) == []


def pinned(name):
    pod = Pod()
    placement.pin(pod, name)
    return pod


@pytest.mark.parametrize(
    ("operator", "values", "fits"), [("In", ["a"], True), ("NotIn", ["a"], False), ("Gt", ["1"], False)]
)
def test_requirements_are_judged_as_the_scheduler_would(operator, values, fits):
    from kybern.api.core_v1 import Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm

    term = NodeSelectorTerm(matchExpressions=[NodeSelectorRequirement(key="k", operator=operator, values=values)])
    affinity = NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=NodeSelector(nodeSelectorTerms=[term]))
    found = daemon(affinity=Affinity(nodeAffinity=affinity))
    assert placement.judge(found, node("n", k="a")).run == fits
