from __future__ import annotations

from typing import Any

import pytest

from kybern.scheduler.plugins.contract import Change, Event
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.profile import FILTERS
from kybern.scheduler.queue import FLUSH_AFTER, Place, PodQueue, backoff
from kybern.testing.clock import FakeClock
from kybern.testing.scheduler_worlds import node, pod


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> PodQueue:
    return PodQueue(clock, FILTERS)


def taken(queue: PodQueue) -> list[str]:
    found = []
    while (entry := queue.take()) is not None:
        found.append(entry.pod.name)
    return found


def waiting(queue: PodQueue, short: dict[str, Any], *rules: str) -> PodInfo:
    """A pod that these rules rejected."""
    info = pod("waiting", short)
    queue.put(info)
    assert queue.take() is not None
    queue.fail(info.uid, frozenset(rules))
    return info


def test_pods_come_by_priority_then_by_age(queue: PodQueue, clock: FakeClock) -> None:
    for name, priority in (("old", 0), ("young", 0), ("urgent", 9)):
        queue.put(pod(name, {"priority": priority}))
        clock.move(1)
    assert taken(queue) == ["urgent", "old", "young"]


def test_a_gated_pod_waits_until_its_gates_are_gone(queue: PodQueue) -> None:
    queue.put(pod("p", {"schedulingGates": [{"name": "x"}]}))
    assert taken(queue) == []
    assert queue.place_of("p") is Place.GATED
    queue.put(pod("p", {}))
    assert taken(queue) == ["p"]


def test_a_rejected_pod_waits_for_something_that_may_help(queue: PodQueue) -> None:
    waiting(queue, {"requests": {"cpu": "3"}, "nodeSelector": {"disk": "ssd"}}, "NodeAffinity")
    queue.tell(Change(Event.NODE_ADDED, None, node("a", {})))
    queue.tell(Change(Event.POD_GONE, pod("other", {"at": "a"}), None))
    assert queue.place_of("waiting") is Place.UNSCHEDULABLE
    queue.tell(Change(Event.NODE_ADDED, None, node("b", {"labels": {"disk": "ssd"}})))
    assert queue.place_of("waiting") is Place.BACKOFF
    assert taken(queue) == ["waiting"]  # nothing else to do: no need to wait out the backoff


def test_a_pod_without_any_node_waits_for_one(queue: PodQueue) -> None:
    waiting(queue, {})
    queue.tell(Change(Event.POD_GONE, pod("other", {"at": "a"}), None))
    assert taken(queue) == []
    queue.tell(Change(Event.NODE_ADDED, None, node("a", {})))
    assert taken(queue) == ["waiting"]


def test_a_failed_write_is_paid_with_a_pause_that_grows(queue: PodQueue, clock: FakeClock) -> None:
    assert [backoff(n) for n in (1, 2, 3, 4, 5, 500)] == [1, 2, 4, 8, 10, 10]
    queue.put(pod("p", {}))
    for pause in (1, 2, 4, 8, 10, 10):
        assert taken(queue) == ["p"]
        queue.fail("p", frozenset(), is_error=True)
        assert taken(queue) == []
        clock.move(pause - 0.01)
        queue.tick()
        assert taken(queue) == []
        clock.move(0.02)
        queue.tick()


def test_what_happens_while_a_pod_is_in_flight_is_not_lost(queue: PodQueue) -> None:
    info = pod("p", {})
    queue.put(info)
    assert taken(queue) == ["p"]
    queue.tell(Change(Event.NODE_ADDED, None, node("a", {})))
    queue.fail("p", frozenset({"NodeResourcesFit"}))
    assert queue.place_of("p") is Place.BACKOFF


def test_a_pod_is_tried_again_after_five_minutes_in_any_case(queue: PodQueue, clock: FakeClock) -> None:
    waiting(queue, {}, "NodeAffinity")
    clock.move(FLUSH_AFTER - 1)
    queue.tick()
    assert taken(queue) == []
    clock.move(1)
    queue.tick()
    assert taken(queue) == ["waiting"]


def test_a_pod_that_is_gone_does_not_come(queue: PodQueue) -> None:
    queue.put(pod("p", {}))
    queue.remove("p")
    assert taken(queue) == []
    queue.fail("p", frozenset(), is_error=True)
    assert len(queue) == 0


def test_a_change_of_the_pod_itself_is_an_occasion(queue: PodQueue) -> None:
    waiting(queue, {"nodeSelector": {"disk": "ssd"}}, "NodeAffinity")
    queue.put(pod("waiting", {"nodeSelector": {"disk": "ssd"}}))
    assert taken(queue) == []
    queue.put(pod("waiting", {}))
    assert taken(queue) == ["waiting"]


def on_port(port: int) -> dict[str, Any]:
    return {"ports": [{"hostPort": port, "containerPort": 1}]}


HELP = [
    ("NodePorts", on_port(80), on_port(80), True),
    ("NodePorts", on_port(80), on_port(81), False),
    (
        "InterPodAffinity",
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "zone"}]}}},
        {"labels": {"app": "a"}},
        True,
    ),
    (
        "InterPodAffinity",
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "zone"}]}}},
        {"labels": {"app": "b"}},
        False,
    ),
    (
        "PodTopologySpread",
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                                        "labelSelector": {"matchLabels": {"app": "a"}}}]},
        {"labels": {"app": "a"}},
        True,
    ),
    ("TaintToleration", {}, {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "short", "gone", "helps"), HELP)
def test_a_pod_that_goes_wakes_those_it_was_in_the_way_of(
    queue: PodQueue, rule: str, short: dict[str, Any], gone: dict[str, Any], helps: bool
) -> None:
    waiting(queue, short, rule)
    queue.tell(Change(Event.POD_GONE, pod("gone", {**gone, "at": "n"}), None))
    assert (taken(queue) == ["waiting"]) is helps


def test_changes_look_at_no_pod_that_they_cannot_move(queue: PodQueue) -> None:
    stuck = waiting(queue, {"requests": {"cpu": "9"}}, "NodeResourcesFit")
    for number in range(100):
        queue.put(pod(f"ready-{number}", {}))
    gone = Change(Event.POD_GONE, pod("other", {}), None)
    assert set(queue._movable) == {stuck.uid}
    queue.tell(gone)
    assert queue.place_of(stuck.uid) is Place.BACKOFF and not queue._movable


@pytest.mark.parametrize("ends", ["remove", "fail", "error"])
def test_a_pod_in_flight_is_movable_until_its_attempt_ends(queue: PodQueue, ends: str) -> None:
    info = pod("p", {})
    queue.put(info)
    assert not queue._movable
    queue.take()
    assert set(queue._movable) == {info.uid}
    if ends == "remove":
        queue.remove(info.uid)
    else:
        queue.fail(info.uid, frozenset(), is_error=ends == "error")
    assert set(queue._movable) == ({info.uid} if ends == "fail" else set())
