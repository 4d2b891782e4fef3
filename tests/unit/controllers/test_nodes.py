"""What happens to nodes that fall silent, and to their pods: lifecycle, taints, addresses, lost pods."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api.coordination_v1 import Lease, LeaseSpec
from kybern.api.core_v1 import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Taint,
    Toleration,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import taints
from kybern.controllers.node_ipam import plan as ipam
from kybern.controllers.node_lifecycle import plan as lifecycle
from kybern.controllers.settings import Settings
from kybern.machinery.status import ApiError
from kybern.testing import control_plane

NAMES = ["node-lifecycle-controller", "taint-eviction-controller"]


def node(name, ready="True", stamp="2026-01-01T00:00:00Z", **labels):
    return Node(
        metadata=ObjectMeta(name=name, labels=labels),
        status=NodeStatus(conditions=[NodeCondition(type="Ready", status=ready, lastHeartbeatTime=stamp)]),
    )


def pod(name, on="n1", phase="Running", **spec):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(nodeName=on, **spec),
        status=PodStatus(phase=phase, conditions=[PodCondition(type="Ready", status="True")]),
    )


async def beat(plane, *names):
    """Renew the leases of these nodes for as long as the test runs."""
    while True:
        for name in names:
            meta = ObjectMeta(name=name, namespace="kube-node-lease")
            stamp = plane.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            plane.api.put(Lease(metadata=meta, spec=LeaseSpec(renewTime=stamp)))
        await plane.clock.sleep(10)


def run(scenario, alive=(), names=NAMES, **options):
    async def main(plane):
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(beat(plane, *alive))
            result = await scenario(plane)
            beating.cancel()
        return result

    return control_plane.run(names, main, node=False, **options)


def keys(plane, name):
    return sorted((t.key.rpartition("/")[2], t.effect) for t in plane.api.get(Node, "", name).spec.taints)


def ready(plane, name):
    return next(c for c in plane.api.get(Node, "", name).status.conditions if c.type == "Ready")


def test_a_silent_node_becomes_unknown_after_its_grace_and_its_pods_not_ready():
    async def scenario(plane):
        for name in ("n1", "n2"):
            plane.api.put(node(name))
        plane.api.put(pod("p"))
        await plane.clock.sleep(35)
        early = ready(plane, "n1").status
        await plane.until(lambda: ready(plane, "n1").status == "Unknown")
        when = plane.clock.monotonic()
        await plane.clock.sleep(1)
        told = plane.api.get(Pod, "default", "p").status.conditions[0].status
        return early, when, ready(plane, "n1"), ready(plane, "n2").status, told, keys(plane, "n1")

    early, when, condition, other, told, found = run(scenario, alive=["n2"])
    assert (early, other, told) == ("True", "True", "False")
    assert 40 <= when <= 47
    assert (condition.reason, condition.message) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert found == [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]


def test_a_node_that_comes_back_loses_its_taints():
    async def scenario(plane):
        plane.api.put(node("n1"))
        plane.api.put(node("n2"))
        await plane.until(lambda: keys(plane, "n1"))
        plane.api.put(node("n1", stamp="2026-01-01T00:01:00Z"))
        await plane.clock.sleep(10)
        return keys(plane, "n1")

    assert run(scenario, alive=["n2"]) == []


def test_pods_leave_a_lost_node_when_their_toleration_ends_and_not_before():
    lasting = [
        Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=300)
        for key in (taints.UNREACHABLE, taints.NOT_READY)
    ]

    async def scenario(plane):
        plane.api.put(node("n1"))
        plane.api.put(node("n2"))
        plane.api.put(pod("impatient"))
        plane.api.put(pod("patient", tolerations=lasting))
        plane.api.put(pod("daemon", tolerations=[Toleration(operator="Exists")]))
        plane.api.put(pod("elsewhere", on="n2"))
        gone = {}
        for _ in range(450):
            await plane.clock.sleep(1)
            for found in plane.api.list(Pod):
                if found.metadata.deletionTimestamp and found.metadata.name not in gone:
                    gone[found.metadata.name] = plane.clock.monotonic()
        reasons = {
            c.reason for c in plane.api.get(Pod, "default", "patient").status.conditions if c.type == "DisruptionTarget"
        }
        return gone, reasons

    gone, reasons = run(scenario, alive=["n2"])
    assert set(gone) == {"impatient", "patient"} and reasons == {"DeletionByTaintManager"}
    assert 40 <= gone["impatient"] <= 50
    assert 300 <= gone["patient"] - gone["impatient"] <= 303


def test_a_taint_that_goes_in_time_cancels_the_eviction():
    async def scenario(plane):
        plane.api.put(node("n1"))
        plane.api.put(
            pod("p", tolerations=[Toleration(key="k", operator="Exists", effect="NoExecute", tolerationSeconds=20)])
        )
        plane.api.edit(Node, "", "n1", lambda n: n.spec.taints.append(Taint(key="k", effect="NoExecute")))
        await plane.clock.sleep(15)
        plane.api.edit(Node, "", "n1", lambda n: n.spec.taints.clear())
        await plane.clock.sleep(60)
        return plane.api.get(Pod, "default", "p").metadata.deletionTimestamp

    assert run(scenario, alive=["n1"]) is None


def test_when_every_node_is_lost_nothing_is_evicted():
    async def scenario(plane):
        for number in range(3):
            plane.api.put(node(f"n{number}"))
        await plane.clock.sleep(300)
        return [keys(plane, f"n{number}") for number in range(3)]

    assert run(scenario) == [[("unreachable", "NoSchedule")]] * 3


def test_nodes_are_evicted_one_after_the_other():
    async def scenario(plane):
        for number in range(8):
            plane.api.put(node(f"n{number}"))
        when = {}
        for _ in range(120):
            await plane.clock.sleep(1)
            for number in range(3):
                if ("unreachable", "NoExecute") in keys(plane, f"n{number}"):
                    when.setdefault(number, plane.clock.monotonic())
        return sorted(when.values())

    times = run(scenario, alive=[f"n{number}" for number in range(3, 8)])
    assert len(times) == 3
    assert times[1] - times[0] >= 10 and times[2] - times[1] >= 10


def test_conditions_become_taints_and_foreign_taints_stay():
    async def scenario(plane):
        found = node("n1")
        found.spec = NodeSpec(
            unschedulable=True,
            taints=[
                Taint(key="mine", effect="NoSchedule"),
                Taint(key="node.kubernetes.io/disk-pressure", effect="NoSchedule"),
            ],
        )
        found.status.conditions.append(NodeCondition(type="MemoryPressure", status="True"))
        plane.api.put(found)
        await plane.clock.sleep(3)
        return keys(plane, "n1")

    assert run(scenario, alive=["n1"]) == [
        ("memory-pressure", "NoSchedule"),
        ("mine", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ]


def test_a_node_that_was_never_heard_of_is_told_so():
    async def scenario(plane):
        plane.api.put(Node(metadata=ObjectMeta(name="n1")))
        await plane.clock.sleep(55)
        early = len(plane.api.get(Node, "", "n1").status.conditions)
        await plane.clock.sleep(15)
        return early, ready(plane, "n1").reason, len(plane.api.get(Node, "", "n1").status.conditions)

    assert run(scenario) == (0, "NodeStatusNeverUpdated", 4)


@pytest.mark.parametrize(
    ("toleration", "taint", "fits"),
    [
        (Toleration(operator="Exists"), Taint(key="k", effect="NoExecute"), True),
        (Toleration(key="k", operator="Exists"), Taint(key="k", value="v", effect="NoSchedule"), True),
        (Toleration(key="k", value="v"), Taint(key="k", value="v", effect="NoSchedule"), True),
        (Toleration(key="k", value="w"), Taint(key="k", value="v", effect="NoSchedule"), False),
        (Toleration(key="k", operator="Exists", effect="NoExecute"), Taint(key="k", effect="NoSchedule"), False),
        (Toleration(), Taint(key="k", effect="NoSchedule"), False),
        (Toleration(key="k", operator="Gt", value="5"), Taint(key="k", value="7", effect="NoSchedule"), True),
        (Toleration(key="k", operator="Odd"), Taint(key="k", effect="NoSchedule"), False),
    ],
)
def test_tolerations(toleration, taint, fits):
    assert taints.tolerates(toleration, taint) is fits


# ranges of pod addresses


def test_every_node_gets_a_range_of_its_own_and_a_free_one_is_given_again():
    async def scenario(plane):
        for number in range(4):
            plane.api.put(node(f"n{number}"))
        await plane.clock.sleep(2)
        first = [plane.api.get(Node, "", f"n{number}").spec.podCIDR for number in range(4)]
        plane.api.remove(Node, "", "n1")
        plane.api.put(node("late"))
        await plane.clock.sleep(2)
        late = plane.api.get(Node, "", "late").spec
        return first, late.podCIDR, late.podCIDRs

    first, late, all_of_late = run(scenario, names=["node-ipam-controller"])
    assert sorted(first) == [f"10.244.{number}.0/24" for number in range(4)]
    assert late == first[1] and all_of_late == [late]


def test_when_ranges_run_out_nodes_wait_for_one():
    async def scenario(plane):
        for number in range(3):
            plane.api.put(node(f"n{number}"))
        await plane.clock.sleep(2)
        without = [n.metadata.name for n in plane.api.list(Node) if not n.spec.podCIDR]
        plane.api.remove(Node, "", next(n.metadata.name for n in plane.api.list(Node) if n.spec.podCIDR))
        await plane.clock.sleep(60)
        return without, [n.metadata.name for n in plane.api.list(Node) if not n.spec.podCIDR]

    without, after = run(scenario, names=["node-ipam-controller"], settings=Settings(cluster_cidr="10.0.0.0/23"))
    assert len(without) == 1 and after == []


def free_of(pool, taken):
    free = [number for number in range(32) if number not in taken]
    return pool.free() == (ipaddress.ip_network(f"10.0.{free[0]}.0/24") if free else None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 31)), max_size=100))
def test_the_lowest_free_range_is_given_and_never_one_that_overlaps(steps):
    pool = ipam.Pool(ipaddress.ip_network("10.0.0.0/19"), 24)
    holders = [0] * 32
    for is_taken, number in steps:
        network = ipaddress.ip_network(f"10.0.{number}.0/25" if number % 2 else f"10.0.{number}.0/24")
        if is_taken:
            holders[number] += 1
            pool.take(network)
        elif holders[number]:
            holders[number] -= 1
            pool.release(network)
        assert free_of(pool, {n for n in range(32) if holders[n]})


def test_ranges_of_others_and_of_nearly_everything_are_counted():
    pool = ipam.Pool(ipaddress.ip_network("10.0.0.0/8"), 28)
    pool.take(ipaddress.ip_network("192.0.2.0/24"))
    pool.take(ipaddress.ip_network("fd00::/64"))
    assert str(pool.free()) == "10.0.0.0/28"
    pool.take(ipaddress.ip_network("0.0.0.0/0"))
    assert pool.free() is None
    pool.release(ipaddress.ip_network("0.0.0.0/0"))
    assert str(pool.free()) == "10.0.0.0/28"


# pods nobody else takes away


def test_lost_pods_are_taken_away():
    async def scenario(plane):
        plane.api.put(node("n1"))
        plane.api.put(pod("fine"))
        plane.api.put(pod("orphan", on="gone"))
        waiting = pod("never-scheduled", on=None, phase="Pending")
        waiting.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
        waiting.metadata.deletionGracePeriodSeconds = 30
        plane.api.put(waiting)
        await plane.clock.sleep(30)
        early = sorted(p.metadata.name for p in plane.api.list(Pod))
        await plane.clock.sleep(60)
        return early, [p.metadata.name for p in plane.api.list(Pod)]

    early, after = run(scenario, names=["pod-garbage-collector-controller"])
    assert early == ["fine", "orphan"] and after == ["fine"]


def test_ended_pods_beyond_the_threshold_go_oldest_first():
    async def scenario(plane):
        plane.api.put(node("n1"))
        for number in range(6):
            plane.api.put(pod(f"p{number}", phase="Succeeded"))
            await plane.clock.sleep(2)
        await plane.clock.sleep(25)
        return sorted(p.metadata.name for p in plane.api.list(Pod))

    settings = Settings(terminated_pod_gc_threshold=4)
    assert run(scenario, names=["pod-garbage-collector-controller"], settings=settings) == ["p2", "p3", "p4", "p5"]


def test_a_node_that_is_fine_is_looked_at_when_its_grace_would_be_over():
    settings = Settings()
    fine, silent = node("n"), node("n", ready="Unknown")
    assert lifecycle.next_look(fine, 0.0, settings) == pytest.approx(40.1)
    assert lifecycle.next_look(fine, 35.0, settings) == pytest.approx(5.1)
    assert lifecycle.next_look(silent, 0.0, settings) == settings.node_monitor_period


def test_leases_are_signs_of_life_when_they_come():
    async def scenario(plane):
        for name in ("n1", "n2"):
            plane.api.put(node(name))
        for seconds in (30, 25, 35):  # each within the grace, and never when the controller would look
            await plane.clock.sleep(seconds)
            meta = ObjectMeta(name="n1", namespace="kube-node-lease")
            plane.api.put(Lease(metadata=meta, spec=LeaseSpec(renewTime=f"2026-01-01T00:00:{seconds}.000000Z")))
        early = ready(plane, "n1").status
        when = plane.clock.monotonic()
        await plane.until(lambda: ready(plane, "n1").status == "Unknown")
        return early, plane.clock.monotonic() - when

    early, waited = run(scenario, alive=["n2"])
    assert early == "True" and 40 <= waited <= 42


def test_zones_are_counted_with_their_sizes():
    nodes = [node(f"a{i}", **{lifecycle.ZONE: "a"}) for i in range(2)]
    nodes += [node(f"b{i}", ready="False", **{lifecycle.ZONE: "b"}) for i in range(4)]
    zones = lifecycle.count_zones(nodes, Settings())
    assert zones.sizes == {":a": 2, ":b": 4}
    assert zones.states == {":a": lifecycle.ZoneState.NORMAL, ":b": lifecycle.ZoneState.FULL}


def test_a_range_whose_write_fails_is_given_to_another():
    async def scenario(plane):
        plane.api.fail_next("patch nodes", ApiError.unavailable("for a moment"), times=2)
        for number in range(20):
            plane.api.put(node(f"n{number}"))
        await plane.clock.sleep(5)
        return [plane.api.get(Node, "", f"n{number}").spec.podCIDR for number in range(20)]

    given_ = run(
        scenario, names=["node-ipam-controller"], settings=Settings(cluster_cidr="10.0.0.0/27", node_cidr_mask_size=32)
    )
    assert len(set(given_)) == 20 and None not in given_


def test_a_node_that_changes_while_its_range_is_written_keeps_it_to_itself():
    async def scenario(plane):
        for number in range(8):
            plane.api.put(node(f"n{number}"))
            plane.api.edit(Node, "", f"n{number}", lambda n: n.metadata.labels.update({"x": "y"}))
        await plane.clock.sleep(5)
        return [plane.api.get(Node, "", f"n{number}").spec.podCIDR for number in range(8)]

    given_ = run(scenario, names=["node-ipam-controller"])
    assert len(set(given_)) == 8 and None not in given_
