"""What is done next for a pod, decided from its spec and what the runtime holds."""

from dataclasses import replace

import pytest

from kybern.api.core_v1 import (
    Container,
    ContainerResizePolicy,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ContainerState,
    ContainerStateTerminated,
    EphemeralContainer,
    Pod,
    PodSpec,
    ResourceRequirements,
)
from kybern.api.core_v1 import ContainerStatus as ApiStatus
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.scalars import Quantity
from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import ContainerState as State
from kybern.kubelet.cri.contract import NamespaceMode, SandboxState
from kybern.kubelet.podkeys import Role
from kybern.kubelet.sync import backoff, plan
from kybern.kubelet.sync.facts import ContainerFact, PodFacts
from kybern.kubelet.sync.plan import (
    CreateSandbox,
    KillContainer,
    RemoveContainer,
    RemoveSandbox,
    ResizeContainer,
    ResizePod,
    Signals,
    StartContainer,
    StopSandbox,
    Unhealthy,
)

SECOND = 10**9
NOW = 1_000 * SECOND


def container(name, **fields):
    return Container(name=name, image="app:1", **fields)


def pod(*containers, init=(), ephemeral=(), restart="Always", **spec):
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(
            containers=list(containers),
            initContainers=list(init),
            ephemeralContainers=list(ephemeral),
            restartPolicy=restart,
            **spec,
        ),
    )


def sandbox(name="s1", *, ready=True, attempt=0, ips=("10.0.0.1",), network=NamespaceMode.POD, at=1):
    state = SandboxState.READY if ready else SandboxState.NOT_READY
    facts = contract.Sandbox(name, "p", "u", "ns", attempt, state, at)
    return contract.SandboxStatus(facts, ips if ready else (), network)


def fact(name, state, *, code=0, attempt=0, where="s1", finished=900, image="app:1", ident=None):
    made = container(name)
    made.image = image
    status = contract.ContainerStatus(
        id=ident or f"{name}-{attempt}",
        name=name,
        attempt=attempt,
        state=state,
        created_at=attempt + 1,
        started_at=attempt + 1,
        finished_at=finished * SECOND if state is State.EXITED else 0,
        exit_code=code,
        image=image,
        image_ref="sha256:x",
        annotations={labels.HASH: labels.container_hash(made)},
    )
    return ContainerFact(where, status)


def facts(*containers, sandboxes=None):
    ordered = sorted(containers, key=lambda c: c.status.attempt, reverse=True)
    return PodFacts((sandbox(),) if sandboxes is None else tuple(sandboxes), tuple(ordered))


def decide(tested, seen, **signals):
    return plan.plan_sync(tested, seen, Signals(now=NOW, **signals))


def started(seen):
    return {f.id for f in seen.running}


# Sandboxes.


def test_a_new_pod_gets_a_sandbox_first():
    assert decide(pod(container("a")), PodFacts()).orders == (CreateSandbox(0),)


def test_containers_are_started_in_the_sandbox_together():
    orders = decide(pod(container("a"), container("b")), facts()).orders
    assert orders == (StartContainer("a", Role.REGULAR, 0), StartContainer("b", Role.REGULAR, 0))


def test_a_dead_sandbox_is_replaced_and_everything_starts_over():
    seen = facts(
        fact("i", State.EXITED), fact("a", State.EXITED, code=137), sandboxes=[sandbox(ready=False, attempt=3)]
    )
    tested = pod(container("a"), init=[container("i")])
    assert decide(tested, seen).orders == (CreateSandbox(4),)
    again = facts(fact("i", State.EXITED), fact("a", State.EXITED, code=137), sandboxes=[sandbox("s2", at=2)])
    assert decide(tested, again).orders == (StartContainer("i", Role.INIT, 1, 900 * SECOND),)


def test_what_runs_in_a_sandbox_without_address_is_ended_before_it_is_replaced():
    seen = facts(fact("a", State.RUNNING), sandboxes=[sandbox(ips=())])
    kinds = [type(order) for order in decide(pod(container("a")), seen).orders]
    assert kinds == [KillContainer, StopSandbox, CreateSandbox]


def test_a_pod_on_the_hosts_network_needs_no_address():
    seen = facts(fact("a", State.RUNNING), sandboxes=[sandbox(ips=(), network=NamespaceMode.NODE)])
    assert decide(pod(container("a"), hostNetwork=True), seen).orders == ()


def test_a_pod_that_never_restarts_does_not_get_a_second_sandbox():
    seen = facts(fact("a", State.EXITED, code=137), sandboxes=[sandbox(ready=False)])
    assert decide(pod(container("a"), container("b"), restart="Never"), seen).orders == ()


def test_a_sandbox_that_failed_a_moment_ago_waits():
    chosen = decide(pod(container("a")), PodFacts(), retry_at={"": NOW + SECOND})
    assert (chosen.orders, chosen.wake_at) == ((), NOW + SECOND)


def test_old_sandboxes_are_stopped_and_removed_once_empty():
    seen = facts(
        fact("a", State.RUNNING, where="s2"),
        sandboxes=[sandbox("s2", at=2, attempt=1), sandbox("s1", ready=False)],
    )
    assert decide(pod(container("a")), seen).orders == (RemoveSandbox("s1"),)


# Init containers and sidecars.


def test_init_containers_run_one_after_the_other():
    tested = pod(container("a"), init=[container("i"), container("j")])
    assert decide(tested, facts()).orders == (StartContainer("i", Role.INIT, 0),)
    assert decide(tested, facts(fact("i", State.RUNNING))).orders == ()
    assert decide(tested, facts(fact("i", State.EXITED))).orders == (StartContainer("j", Role.INIT, 0),)
    both = facts(fact("i", State.EXITED), fact("j", State.EXITED))
    assert decide(tested, both).orders == (StartContainer("a", Role.REGULAR, 0),)


@pytest.mark.parametrize(("restart", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
def test_a_failed_init_container_is_tried_again_unless_the_pod_never_restarts(restart, again):
    tested = pod(container("a"), init=[container("i")], restart=restart)
    seen = facts(fact("i", State.EXITED, code=1))
    assert (decide(tested, seen).orders != ()) is again
    assert plan.is_finished(tested, seen) is not again


def test_a_finished_init_container_that_was_collected_is_not_run_again():
    tested = pod(container("a"), init=[container("i")])
    assert decide(tested, facts(fact("a", State.RUNNING))).orders == ()


def test_a_sidecar_must_have_started_before_what_follows_it():
    tested = pod(container("a"), init=[container("s", restartPolicy="Always")])
    seen = facts(fact("s", State.RUNNING))
    assert decide(tested, seen).orders == ()
    assert decide(tested, seen, started=started(seen)).orders == (StartContainer("a", Role.REGULAR, 0),)


def test_a_sidecar_that_ends_comes_back_even_if_the_pod_never_restarts():
    tested = pod(container("a"), init=[container("s", restartPolicy="Always")], restart="Never")
    seen = facts(fact("s", State.EXITED, code=0), fact("a", State.RUNNING))
    assert decide(tested, seen).orders == (StartContainer("s", Role.SIDECAR, 1, 900 * SECOND),)


def test_a_pod_is_finished_when_its_regular_containers_are_whatever_sidecars_do():
    tested = pod(container("a"), init=[container("s", restartPolicy="Always")], restart="OnFailure")
    seen = facts(fact("s", State.RUNNING), fact("a", State.EXITED))
    assert plan.is_finished(tested, seen)
    assert decide(tested, seen, started=started(seen)).orders == ()


# Restarts.


@pytest.mark.parametrize(
    ("restart", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(restart, code, again):
    tested = pod(container("a"), container("b"), restart=restart)
    seen = facts(fact("a", State.EXITED, code=code), fact("b", State.RUNNING))
    assert (StartContainer("a", Role.REGULAR, 1, 900 * SECOND) in decide(tested, seen).orders) is again


def test_a_container_may_have_a_policy_and_rules_of_its_own():
    rule = ContainerRestartRule(action="Restart", exitCodes=ContainerRestartRuleOnExitCodes(operator="In", values=[42]))
    one = container("a", restartPolicy="Never", restartPolicyRules=[rule])
    assert plan.should_restart(pod(one), one, 42)
    assert not plan.should_restart(pod(one), one, 1)
    other = ContainerRestartRule(
        action="Restart", exitCodes=ContainerRestartRuleOnExitCodes(operator="NotIn", values=[42])
    )
    assert plan.matching_rule([other], 42) is None
    assert plan.matching_rule([other], 1) is other


def test_the_first_crash_is_free_and_the_next_ones_wait_longer_and_longer():
    tested = pod(container("a"))
    seen = facts(fact("a", State.EXITED, code=1, finished=1000))
    assert decide(tested, seen).orders == (StartContainer("a", Role.REGULAR, 1, NOW),)
    waiting = decide(tested, seen, backoffs={"a": backoff.Entry(20.0, NOW)})
    assert waiting.orders == ()
    assert waiting.crashing == {"a": 20.0}
    assert waiting.wake_at == NOW + 20 * SECOND


def test_a_container_that_could_not_be_started_waits_but_the_others_do_not():
    chosen = decide(pod(container("a"), container("b")), facts(), retry_at={"a": NOW + 5 * SECOND})
    assert chosen.orders == (StartContainer("b", Role.REGULAR, 0),)
    assert chosen.wake_at == NOW + 5 * SECOND


def test_a_changed_image_replaces_a_running_container_whatever_the_policy():
    seen = facts(fact("a", State.RUNNING, image="app:0"))
    orders = decide(pod(container("a"), restart="Never"), seen).orders
    assert orders == (
        KillContainer("a-0", "a", "Container a definition changed, will be restarted"),
        StartContainer("a", Role.REGULAR, 1),
    )


def test_a_failed_liveness_probe_kills_and_leaves_the_rest_to_the_restart_policy():
    seen = facts(fact("a", State.RUNNING))
    unhealthy = {"a-0": Unhealthy("liveness", 3)}
    orders = decide(pod(container("a")), seen, unhealthy=unhealthy).orders
    assert orders == (KillContainer("a-0", "a", "Container a failed liveness probe, will be restarted", 3),)
    never = decide(pod(container("a"), restart="Never"), seen, unhealthy=unhealthy).orders
    assert never[0].why == "Container a failed liveness probe"


def test_a_container_that_was_made_but_never_started_is_made_anew():
    seen = facts(fact("a", State.CREATED))
    assert decide(pod(container("a")), seen).orders == (
        RemoveContainer("a-0", "a"),
        StartContainer("a", Role.REGULAR, 1),
    )


def test_the_restart_count_goes_on_where_the_status_left_it():
    tested = pod(container("a"))
    ended = ContainerState(terminated=ContainerStateTerminated(exitCode=1))
    tested.status.containerStatuses = [ApiStatus(name="a", restartCount=4, lastState=ended)]
    assert decide(tested, facts()).orders == (StartContainer("a", Role.REGULAR, 5),)


def test_of_dead_instances_the_last_one_is_kept_for_its_log():
    seen = facts(
        fact("a", State.RUNNING, attempt=3),
        fact("a", State.EXITED, attempt=2, code=1),
        fact("a", State.EXITED, attempt=1, code=1),
    )
    assert decide(pod(container("a")), seen).orders == (RemoveContainer("a-1", "a"),)


def test_an_ephemeral_container_is_started_once_and_never_again():
    tested = pod(container("a"), ephemeral=[EphemeralContainer(name="e", image="x")])
    seen = facts(fact("a", State.RUNNING))
    assert decide(tested, seen).orders == (StartContainer("e", Role.EPHEMERAL, 0),)
    done = facts(fact("a", State.RUNNING), fact("e", State.EXITED, code=1))
    assert decide(tested, done).orders == ()


def test_a_container_that_succeeded_in_an_earlier_sandbox_stays_ended():
    tested = pod(container("a"), container("b"), restart="OnFailure")
    seen = facts(
        fact("a", State.EXITED, code=0), fact("b", State.EXITED, code=1), sandboxes=[sandbox("s2", at=2, attempt=1)]
    )
    assert [order.name for order in decide(tested, seen).orders] == ["b"]


# Resizing.


def sized(cpu, **fields):
    return container("a", resources=ResourceRequirements(requests={"cpu": Quantity(cpu)}), **fields)


def test_a_resize_changes_the_running_container_between_two_changes_of_the_pod():
    seen = facts(fact("a", State.RUNNING))
    applied = {"a-0": sized("1").resources}
    assert decide(pod(sized("2")), seen, applied=applied).orders == (
        ResizePod(grow=True),
        ResizeContainer("a-0", "a"),
        ResizePod(grow=False),
    )
    assert decide(pod(sized("1")), seen, applied=applied).orders == ()


def test_a_container_that_wants_it_is_restarted_for_a_resize():
    policy = ContainerResizePolicy(resourceName="cpu", restartPolicy="RestartContainer")
    seen = facts(fact("a", State.RUNNING))
    orders = decide(pod(sized("2", resizePolicy=[policy])), seen, applied={"a-0": sized("1").resources}).orders
    assert [type(o) for o in orders] == [ResizePod, KillContainer, StartContainer, ResizePod]


# Restarting all containers.


def all_restart(name):
    codes = ContainerRestartRuleOnExitCodes(operator="In", values=[42])
    return container(name, restartPolicyRules=[ContainerRestartRule(action="RestartAllContainers", exitCodes=codes)])


def at(name, state, created, *, code=0, attempt=0, finished=0):
    seen = fact(name, state, code=code, attempt=attempt)
    made = replace(seen.status, created_at=created, finished_at=finished)
    return ContainerFact(seen.sandbox_id, made)


def test_one_container_can_have_all_of_them_restarted():
    tested = pod(all_restart("a"), container("b"), init=[container("i")], restart="Never")
    running = facts(
        at("i", State.EXITED, 1, finished=2), at("a", State.EXITED, 5, code=42, finished=50), at("b", State.RUNNING, 6)
    )
    assert not plan.is_finished(tested, running)
    orders = decide(tested, running).orders
    assert [(type(o), o.name) for o in orders] == [(KillContainer, "b")]
    ended = facts(
        at("i", State.EXITED, 1, finished=2),
        at("a", State.EXITED, 5, code=42, finished=50),
        at("b", State.EXITED, 6, code=137, finished=60),
    )
    assert [o.name for o in decide(tested, ended).orders] == ["i"]
    assert plan.is_restarting_all(tested, ended)


def test_what_ended_because_of_a_restart_of_all_is_no_reason_for_another():
    tested = pod(all_restart("a"), all_restart("b"), restart="Never")
    seen = facts(
        at("a", State.EXITED, 5, code=42, finished=50),
        at("a", State.RUNNING, 70, attempt=1),
        at("b", State.EXITED, 6, code=42, finished=60),
        at("b", State.RUNNING, 71, attempt=1),
    )
    assert plan.restart_epoch(tested, seen) == 50
    assert not plan.is_restarting_all(tested, seen)
    assert decide(tested, seen).orders == ()
