"""The status people see, from what the runtime holds."""

import pytest
from msgspec import structs

from kybern.api.core_v1 import Container, Pod, PodCondition, PodReadinessGate, PodSpec, PodStatus
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerState as State
from kybern.kubelet.cri.contract import SandboxState
from kybern.kubelet.status import generate
from kybern.kubelet.status.containers import View, Waiting
from kybern.kubelet.status.generate import Context, Verdict
from kybern.kubelet.sync.facts import ContainerFact, PodFacts

SECOND = 10**9
NOW = "2026-01-01T00:10:00Z"


def pod(*names, init=(), restart="Always", status=None, **spec):
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", generation=3),
        spec=PodSpec(
            containers=[Container(name=n, image="app:1") for n in names],
            initContainers=list(init),
            restartPolicy=restart,
            **spec,
        ),
        status=status or PodStatus(),
    )


def fact(name, state, *, code=0, attempt=0, reason=""):
    status = contract.ContainerStatus(
        id=f"{name}-{attempt}", name=name, attempt=attempt, state=state, created_at=attempt + 1,
        started_at=60 * SECOND, finished_at=120 * SECOND if state is State.EXITED else 0, exit_code=code,
        image="app:1", image_ref="sha256:app", reason=reason,
    )  # fmt: skip
    return ContainerFact("s1", status)


def facts(*containers, ready=True):
    state = SandboxState.READY if ready else SandboxState.NOT_READY
    sandbox = contract.SandboxStatus(
        contract.Sandbox("s1", "p", "u", "ns", 0, state, 1), ("10.0.0.7",) if ready else ()
    )
    return PodFacts((sandbox,), tuple(sorted(containers, key=lambda c: c.status.attempt, reverse=True)))


def status_of(tested, seen, *, is_over=False, verdict=None, **view):
    running = {f.id for f in seen.running}
    given = {"started": running, "ready": running, "is_over": is_over, **view}
    context = Context(now=NOW, node_ips=("192.0.2.1",), view=View(**given), is_over=is_over, verdict=verdict)
    return generate.generate(tested, seen, context)


def conditions(status):
    return {c.type: (c.status, c.reason, c.message) for c in status.conditions}


def test_a_pod_nothing_was_made_for_is_pending_and_says_what_it_waits_for():
    status = status_of(pod("a"), PodFacts())
    assert status.phase == "Pending"
    assert status.containerStatuses[0].state.waiting.reason == "ContainerCreating"
    assert conditions(status)["PodReadyToStartContainers"][0] == "False"
    assert conditions(status)["Initialized"][0] == "True"
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [a]")
    assert (status.startTime, status.hostIP, status.podIP, status.qosClass) == (NOW, "192.0.2.1", None, "BestEffort")


def test_a_running_pod_is_ready_and_tells_its_addresses_and_containers():
    status = status_of(pod("b", "a"), facts(fact("a", State.RUNNING), fact("b", State.RUNNING, attempt=2)))
    assert status.phase == "Running"
    assert (status.podIP, status.podIPs[0].ip) == ("10.0.0.7", "10.0.0.7")
    assert [s.name for s in status.containerStatuses] == ["a", "b"]
    first, second = status.containerStatuses
    assert first.containerID == "containerd://a-0"
    assert first.imageID == "sha256:app"
    assert first.state.running.startedAt == "1970-01-01T00:01:00Z"
    assert (second.restartCount, second.ready, second.started) == (2, True, True)
    assert {kind: value[0] for kind, value in conditions(status).items()} == {
        "PodReadyToStartContainers": "True", "Initialized": "True", "Ready": "True", "ContainersReady": "True",
        "PodScheduled": "True",
    }  # fmt: skip
    assert all(c.observedGeneration == 3 for c in status.conditions)
    assert status.observedGeneration == 3


def test_a_container_that_has_not_passed_its_probes_is_not_ready():
    status = status_of(pod("a"), facts(fact("a", State.RUNNING)), started=set(), ready={"a-0"})
    assert (status.containerStatuses[0].started, status.containerStatuses[0].ready) == (False, False)
    status = status_of(pod("a"), facts(fact("a", State.RUNNING)), ready=set())
    assert (status.containerStatuses[0].started, status.containerStatuses[0].ready) == (True, False)


@pytest.mark.parametrize(
    ("restart", "codes", "phase"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("Always", (0, 0), "Running"),
    ],
)
def test_the_phase_of_a_pod_whose_containers_have_ended(restart, codes, phase):
    seen = facts(fact("a", State.EXITED, code=codes[0]), fact("b", State.EXITED, code=codes[1]))
    assert status_of(pod("a", "b", restart=restart), seen).phase == phase


def test_an_ended_container_tells_how():
    seen = facts(fact("a", State.EXITED, code=137, reason="OOMKilled"))
    shown = status_of(pod("a", restart="Never"), seen, messages={"a-0": "bye"}).containerStatuses[0]
    ended = shown.state.terminated
    assert (ended.exitCode, ended.reason, ended.message) == (137, "OOMKilled", "bye")
    assert (ended.startedAt, ended.finishedAt) == ("1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z")
    assert ended.containerID == shown.containerID == "containerd://a-0"


def test_a_crash_loop_shows_why_it_waits_and_how_it_ended_last():
    seen = facts(fact("a", State.EXITED, code=1, attempt=2))
    waiting = {"a": Waiting("CrashLoopBackOff", "back-off 10s")}
    status = status_of(pod("a"), seen, waiting=waiting)
    shown = status.containerStatuses[0]
    assert (shown.state.waiting.reason, shown.state.waiting.message) == ("CrashLoopBackOff", "back-off 10s")
    assert shown.lastState.terminated.exitCode == 1
    assert (shown.restartCount, status.phase) == (2, "Running")


def test_a_restarted_container_keeps_its_previous_end():
    seen = facts(fact("a", State.RUNNING, attempt=1), fact("a", State.EXITED, code=3))
    shown = status_of(pod("a"), seen).containerStatuses[0]
    assert shown.lastState.terminated.exitCode == 3
    assert shown.state.running is not None


def test_a_failed_start_is_shown_with_its_reason():
    waiting = {"a": Waiting("ImagePullBackOff", "Back-off pulling")}
    shown = status_of(pod("a"), facts(), waiting=waiting).containerStatuses[0]
    assert shown.state.waiting.reason == "ImagePullBackOff"


# Init containers.


def test_until_init_containers_are_done_the_pod_is_pending():
    init = [Container(name="i", image="x"), Container(name="j", image="x")]
    status = status_of(pod("a", init=init), facts(fact("i", State.EXITED), fact("j", State.RUNNING)))
    assert status.phase == "Pending"
    assert conditions(status)["Initialized"] == (
        "False", "ContainersNotInitialized", "containers with incomplete status: [j]",
    )  # fmt: skip
    assert status.containerStatuses[0].state.waiting.reason == "PodInitializing"
    assert [s.ready for s in status.initContainerStatuses] == [True, False]


def test_a_failed_init_container_fails_a_pod_that_never_restarts():
    init = [Container(name="i", image="x")]
    status = status_of(pod("a", init=init, restart="Never"), facts(fact("i", State.EXITED, code=1)))
    assert status.phase == "Failed"
    assert status.containerStatuses[0].state.waiting.reason == "PodInitializing"
    again = status_of(pod("a", init=init), facts(fact("i", State.EXITED, code=1)))
    assert again.phase == "Pending"


def test_a_sidecar_counts_for_readiness():
    init = [Container(name="s", image="x", restartPolicy="Always")]
    seen = facts(fact("s", State.RUNNING), fact("a", State.RUNNING))
    status = status_of(pod("a", init=init), seen, ready={"a-0"})
    assert conditions(status)["Ready"][2] == "containers with unready status: [s]"
    assert conditions(status)["Initialized"][0] == "True"


# Ends.


def test_a_pod_that_ended_before_it_could_finish_has_failed():
    status = status_of(pod("a"), facts(fact("a", State.EXITED, code=143), ready=False), is_over=True)
    assert status.phase == "Failed"
    assert conditions(status)["ContainersReady"][:2] == ("False", "PodFailed")
    never_started = status_of(pod("a"), facts(ready=False), is_over=True)
    assert never_started.phase == "Failed"
    assert never_started.containerStatuses[0].state.waiting is not None


def test_a_pod_stopped_cleanly_has_succeeded():
    assert status_of(pod("a"), facts(fact("a", State.EXITED)), is_over=True).phase == "Succeeded"


def test_a_terminal_phase_never_changes_back():
    done = pod("a", status=PodStatus(phase="Succeeded"))
    assert status_of(done, facts(fact("a", State.RUNNING))).phase == "Succeeded"
    assert conditions(status_of(done, facts()))["Initialized"][1] == "PodCompleted"


def test_a_verdict_fails_the_pod_and_gives_the_reason():
    verdict = Verdict("DeadlineExceeded", "too long")
    status = status_of(pod("a"), facts(fact("a", State.RUNNING)), verdict=verdict)
    assert (status.phase, status.reason, status.message) == ("Failed", "DeadlineExceeded", "too long")


def test_what_a_container_came_to_stays_when_the_runtime_forgets_it():
    tested = pod("a", restart="Never")
    tested.status = status_of(tested, facts(fact("a", State.EXITED, code=3)))
    forgotten = status_of(tested, PodFacts(), is_over=True)
    assert forgotten.containerStatuses[0].state.terminated.exitCode == 3
    assert forgotten.podIP == "10.0.0.7"


def test_a_running_container_that_is_nowhere_to_be_found_is_unknown():
    tested = pod("a")
    tested.status = status_of(tested, facts(fact("a", State.RUNNING)))
    lost = status_of(tested, PodFacts(), is_over=True).containerStatuses[0].state.terminated
    assert (lost.exitCode, lost.reason) == (137, "ContainerStatusUnknown")


def test_a_pod_turned_away_has_nothing_but_the_reason():
    status = generate.rejected(pod("a"), Verdict("OutOfcpu", "Pod was rejected: no"))
    assert (status.phase, status.reason, status.containerStatuses) == ("Failed", "OutOfcpu", [])


# Conditions.


def test_readiness_gates_need_a_condition_of_somebody_else():
    gates = [PodReadinessGate(conditionType="example.com/up")]
    seen = facts(fact("a", State.RUNNING))
    missing = status_of(pod("a", readinessGates=gates), seen)
    assert conditions(missing)["Ready"][1] == "ReadinessGatesNotReady"
    assert "does not exist" in conditions(missing)["Ready"][2]
    assert conditions(missing)["ContainersReady"][0] == "True"
    told = PodStatus(conditions=[PodCondition(type="example.com/up", status="True")])
    ready = status_of(pod("a", readinessGates=gates, status=told), seen)
    assert conditions(ready)["Ready"][0] == "True"
    assert conditions(ready)["example.com/up"][0] == "True"


def test_transition_times_change_with_the_status_only():
    before = pod("a")
    before.status = status_of(before, facts(fact("a", State.RUNNING)))
    for condition in before.status.conditions:
        condition.lastTransitionTime = "2026-01-01T00:00:00Z"
    after = status_of(before, facts(fact("a", State.EXITED, code=1)))
    times = {c.type: c.lastTransitionTime for c in after.conditions}
    assert times["Initialized"] == "2026-01-01T00:00:00Z"
    assert times["Ready"] == NOW


def test_nothing_of_what_was_handed_in_is_changed():
    old = PodStatus(conditions=[PodCondition(type="PodScheduled", status="True", lastTransitionTime=NOW)])
    tested = pod("a", status=old)
    copy = structs.replace(old.conditions[0])
    status_of(tested, facts())
    assert old.conditions[0] == copy
