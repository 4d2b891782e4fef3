"""A pod's turns, as the API server would store them: each status is what the next turn sees."""

from __future__ import annotations

import datetime
from typing import Any

from msgspec import structs

from kybern.api import scalars
from kybern.api.core_v1 import Container, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.simulated import life, runtime
from kybern.simulated.life import Habits, Place, Turn

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PLACE = Place(("198.18.0.1",), "10.0.0.2")
HABITS = Habits(start=0.5, stop=0.2, run=1.0)


def make(*containers: Container, **spec: Any) -> Pod:
    given = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, **spec}
    listed = list(containers) or [Container(name="app", image="app:1")]
    return Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"), spec=PodSpec(containers=listed, **given))


def turn(pod: Pod, seconds: float, since: float | None = None) -> tuple[Pod, Turn]:
    """The pod as stored after a turn so many seconds after the first sight."""
    now = NOW + datetime.timedelta(seconds=seconds)
    chosen = life.plan_turn(pod, PLACE, HABITS, now, seconds if since is None else since)
    return (structs.replace(pod, status=chosen.status) if chosen.status is not None else pod), chosen


def deleted(pod: Pod) -> Pod:
    stamp = scalars.render_time(NOW)
    return structs.replace(pod, metadata=structs.replace(pod.metadata, deletionTimestamp=stamp))


def conditions(pod: Pod) -> dict[str, str]:
    return {c.type: c.status for c in pod.status.conditions}


def test_a_pod_is_first_told_to_be_pending() -> None:
    pod, chosen = turn(make(), 0)
    assert pod.status.phase == "Pending" and pod.status.startTime and chosen.wake_after == 0.5
    assert pod.status.containerStatuses[0].state.waiting is not None
    assert conditions(pod)["Ready"] == "False"


def test_then_it_runs_and_is_ready() -> None:
    pod, _ = turn(make(), 0)
    pod, chosen = turn(pod, 0.6)
    assert pod.status.phase == "Running" and chosen.wake_after is None and not chosen.is_over
    assert pod.status.podIP == "10.0.0.2" and pod.status.hostIP == "198.18.0.1"
    assert pod.status.containerStatuses[0].ready and pod.status.containerStatuses[0].started
    assert conditions(pod)["Ready"] == conditions(pod)["PodReadyToStartContainers"] == "True"


def test_a_turn_on_what_a_turn_made_says_nothing_new() -> None:
    pod, _ = turn(make(), 0)
    pod, _ = turn(pod, 0.6)
    again, _ = turn(pod, 60.0)
    assert again.status == pod.status


def test_what_runs_is_recalled_from_the_status_alone() -> None:
    pod, _ = turn(make(Container(name="a", image="a:1"), Container(name="b", image="b:1")), 0)
    pod, _ = turn(pod, 1.0)
    facts = runtime.recall(pod)
    assert sorted(fact.name for fact in facts.running) == ["a", "b"]
    assert facts.ready_sandbox is not None and facts.ready_sandbox.ips == ("10.0.0.2",)


def test_init_containers_end_before_others_start_and_sidecars_go_on() -> None:
    init = [Container(name="setup", image="i:1"), Container(name="side", image="s:1", restartPolicy="Always")]
    pod, _ = turn(make(initContainers=init), 0)
    pod, _ = turn(pod, 1.0)
    shown = {s.name: s for s in pod.status.initContainerStatuses}
    assert shown["setup"].state.terminated is not None and shown["setup"].state.terminated.exitCode == 0
    assert shown["side"].state.running is not None
    assert pod.status.phase == "Running" and conditions(pod)["Initialized"] == "True"


def test_pods_that_are_to_end_succeed_after_their_time() -> None:
    pod, _ = turn(make(restartPolicy="Never"), 0)
    pod, chosen = turn(pod, 1.0)
    assert pod.status.phase == "Running" and chosen.wake_after == 1.0
    pod, chosen = turn(pod, 3.0)
    assert pod.status.phase == "Succeeded" and not chosen.is_over
    assert pod.status.containerStatuses[0].state.terminated is not None
    assert turn(pod, 10.0)[1] == Turn()


def test_a_deleted_pod_ends_and_then_goes() -> None:
    pod, _ = turn(make(), 0)
    pod, _ = turn(pod, 1.0)
    pod, chosen = turn(deleted(pod), 5.0, since=0.0)
    assert chosen.wake_after == 0.2 and chosen.status is None
    pod, chosen = turn(pod, 5.3, since=0.3)
    assert chosen.is_over and pod.status.phase == "Succeeded"  # its containers ended well when they were asked to
    assert not pod.status.containerStatuses[0].ready and conditions(pod)["Ready"] == "False"


def test_a_pod_deleted_before_it_ran_goes_at_once() -> None:
    pod, _ = turn(make(), 0)
    pod, chosen = turn(deleted(pod), 0.1, since=0.0)
    assert chosen.is_over and pod.status.phase == "Failed"


def test_pods_on_the_hosts_network_have_the_nodes_address() -> None:
    pod, _ = turn(make(hostNetwork=True), 0)
    pod, _ = turn(pod, 1.0)
    assert pod.status.phase == "Running" and pod.status.podIP == "198.18.0.1"
