"""What to do next for one pod: its spec and the runtime's facts in, frozen orders out.

Pure. Fed by pod_workers with facts and probe verdicts, applied by apply; after every application a new picture is
taken and a new plan made, so a plan holds only what can be done now.
Promises: a container is never started twice; init containers run in order, each after the one before is done;
nothing is started for a pod that has ended.
Source: "Pod Lifecycle", "Init Containers" and "Sidecar Containers" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from kybern.api.core_v1 import Container, ContainerRestartRule, Pod, ResourceRequirements
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import ContainerId, ContainerState, NamespaceMode, SandboxId
from kybern.kubelet.podkeys import AnyContainer, Role
from kybern.kubelet.sync import backoff, resize
from kybern.kubelet.sync.facts import ContainerFact, PodFacts


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A probe's verdict on a running container: it must be killed."""

    probe: str  # "liveness", "startup"
    grace: int | None  # the probe's own terminationGracePeriodSeconds


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known besides spec and runtime."""

    now: int  # ns
    unhealthy: Mapping[ContainerId, Unhealthy] = field(default_factory=dict)
    started: Set[ContainerId] = frozenset()  # passed their startup probe, or have none
    backoffs: Mapping[str, backoff.Entry] = field(default_factory=dict)  # by container name
    retry_at: Mapping[str, int] = field(default_factory=dict)  # ns; containers (or "" the sandbox) that failed to start
    restart_limits: backoff.Limits = backoff.DEFAULT
    applied: Mapping[ContainerId, ResourceRequirements] = field(default_factory=dict)  # what running ones got
    applied_pod: ResourceRequirements | None = None  # what the pod as a whole got


# Orders.


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StopSandbox:
    id: SandboxId


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    id: SandboxId


@dataclass(frozen=True, slots=True)
class KillContainer:
    id: ContainerId
    name: str
    why: str  # for the event
    grace: int | None = None  # seconds; None: the pod's


@dataclass(frozen=True, slots=True)
class StartContainer:
    """`finished_at` of the instance it replaces (0: none) feeds the back-off."""

    name: str
    role: Role
    attempt: int
    finished_at: int = 0


@dataclass(frozen=True, slots=True)
class ResizeContainer:
    """Give a running container the resources its spec says."""

    id: ContainerId
    name: str


@dataclass(frozen=True, slots=True)
class ResizePod:
    """Limits of the pod as a whole: wide enough for old and new (`grow`), then exact."""

    grow: bool


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    id: ContainerId
    name: str


Order = (
    CreateSandbox
    | StopSandbox
    | RemoveSandbox
    | KillContainer
    | StartContainer
    | ResizeContainer
    | ResizePod
    | RemoveContainer
)


@dataclass(frozen=True, slots=True)
class Plan:
    orders: tuple[Order, ...] = ()
    crashing: Mapping[str, float] = field(default_factory=dict)  # containers in back-off -> its length in seconds
    wake_at: int | None = None  # ns: when something waits only for time


@dataclass
class _Draft:
    """A plan being written."""

    orders: list[Order] = field(default_factory=list)
    crashing: dict[str, float] = field(default_factory=dict)
    wakes: list[int] = field(default_factory=list)
    is_resizing: bool = False

    def finish(self) -> Plan:
        return Plan(tuple(self.orders), self.crashing, min(self.wakes) if self.wakes else None)


# Rules.


def should_restart(pod: Pod, container: AnyContainer, exit_code: int) -> bool:
    """May a container that ended with this code run again?"""
    rule = matching_rule(container.restartPolicyRules, exit_code)
    if rule is not None:
        return True
    policy = container.restartPolicy or pod.spec.restartPolicy or "Always"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def matching_rule(rules: Sequence[ContainerRestartRule], exit_code: int) -> ContainerRestartRule | None:
    """The first restart rule about this exit code."""
    for rule in rules:
        if rule.exitCodes is None:
            continue
        listed = exit_code in rule.exitCodes.values
        if listed if rule.exitCodes.operator == "In" else not listed:
            return rule
    return None


def restart_epoch(pod: Pod, facts: PodFacts) -> int:
    """When a container last ended in a way that restarts all of them (ns); 0: never.

    What was made before that belongs to the pod's past: it is ended, and everything runs anew.
    """
    ends: list[tuple[int, int]] = []
    for role, container in podkeys.containers_of(pod):
        if role is Role.EPHEMERAL or not container.restartPolicyRules:
            continue
        for fact in facts.of(container.name):
            rule = matching_rule(container.restartPolicyRules, fact.status.exit_code) if fact.is_exited else None
            if rule is not None and rule.action == "RestartAllContainers":
                ends.append((fact.status.finished_at, fact.status.created_at))
    epoch = 0
    for finished, created in sorted(ends):
        if created >= epoch:  # else it was ended because of the one before, which is no new reason
            epoch = finished
    return epoch


def is_past(fact: ContainerFact, epoch: int) -> bool:
    return fact.status.created_at < epoch


def is_restarting_all(pod: Pod, facts: PodFacts) -> bool:
    """Is something of the pod's past still there as the newest of its name?"""
    epoch = restart_epoch(pod, facts)
    regular = (c.name for role, c in podkeys.containers_of(pod) if role is not Role.EPHEMERAL)
    return epoch > 0 and any(name in facts.latest and is_past(facts.latest[name], epoch) for name in regular)


def current_sandbox(pod: Pod, facts: PodFacts) -> contract.SandboxStatus | None:
    """The sandbox the pod's containers belong into; None when a new one is needed."""
    ready = [s for s in facts.sandboxes if s.sandbox.state is contract.SandboxState.READY]
    if len(ready) != 1 or ready[0] is not facts.sandboxes[0]:
        return None
    on_host = ready[0].network is NamespaceMode.NODE
    if on_host != bool(pod.spec.hostNetwork):
        return None
    if not on_host and not ready[0].ips:
        return None
    return ready[0]


def is_finished(pod: Pod, facts: PodFacts) -> bool:
    """Will none of the regular containers run (again), or has an init container failed for good?"""
    if is_restarting_all(pod, facts):
        return False
    if has_failed_init(pod, facts):
        return True
    for container in pod.spec.containers:
        latest = facts.latest.get(container.name)
        if latest is None or not latest.is_exited or should_restart(pod, container, latest.status.exit_code):
            return False
    return True


def has_failed_init(pod: Pod, facts: PodFacts) -> bool:
    """Has an init container ended badly that will not be tried again?"""
    if is_restarting_all(pod, facts):
        return False
    for container in pod.spec.initContainers:
        if podkeys.role_of_init(container) is Role.SIDECAR:
            continue
        latest = facts.latest.get(container.name)
        if latest is not None and latest.is_exited and latest.status.exit_code != 0:
            return not should_restart(pod, container, latest.status.exit_code)
    return False


def next_attempt(facts: PodFacts, name: str, recorded: int = -1) -> int:
    """The restart count of the next instance: one more than the newest, or than `recorded` in the pod's status."""
    latest = facts.latest.get(name)
    return (latest.status.attempt if latest else recorded) + 1


# Plans.


def plan_sync(pod: Pod, facts: PodFacts, signals: Signals) -> Plan:
    """For a pod that should run."""
    draft = _Draft()
    sandbox = current_sandbox(pod, facts)
    if sandbox is None:
        _plan_sandbox(pod, facts, signals, draft)
        return draft.finish()
    for stale in facts.sandboxes:
        if stale is not sandbox and stale.sandbox.state is contract.SandboxState.READY:
            draft.orders.append(StopSandbox(stale.sandbox.id))
    inside = facts.in_sandbox(sandbox.sandbox.id)
    if is_finished(pod, facts):
        return draft.finish()  # the worker ends the pod
    epoch = restart_epoch(pod, facts)
    if epoch and _plan_end_of_past(pod, inside, epoch, draft):
        return draft.finish()
    inside = {name: fact for name, fact in inside.items() if not is_past(fact, epoch)}
    _plan_ephemeral(pod, facts, inside, signals, draft)
    if _plan_init(pod, facts, inside, signals, draft):
        for container in pod.spec.containers:
            _plan_container(pod, container, Role.REGULAR, facts, inside, signals, draft)
    _plan_removals(facts, draft)
    if pod.spec.resources is not None and signals.applied_pod != pod.spec.resources and facts.running:
        draft.is_resizing = True
    if draft.is_resizing:
        draft.orders = [ResizePod(grow=True), *draft.orders, ResizePod(grow=False)]
    return draft.finish()


def _plan_end_of_past(pod: Pod, inside: Mapping[str, ContainerFact], epoch: int, draft: _Draft) -> bool:
    """All containers are to run anew: end those that still run. True while there are such."""
    for role, container in podkeys.containers_of(pod):
        fact = inside.get(container.name)
        if role is not Role.EPHEMERAL and fact is not None and fact.is_running and is_past(fact, epoch):
            why = f"Container {container.name} will be restarted with all containers of the pod"
            draft.orders.append(KillContainer(fact.id, container.name, why))
    return bool(draft.orders)


def _plan_sandbox(pod: Pod, facts: PodFacts, signals: Signals, draft: _Draft) -> None:
    """No usable sandbox: end what is left of the old one, then make the next if something has yet to run in it."""
    for fact in facts.running:
        draft.orders.append(KillContainer(fact.id, fact.name, "Pod sandbox changed, it will be killed and re-created."))
    for old in facts.sandboxes:
        if old.sandbox.state is contract.SandboxState.READY:
            draft.orders.append(StopSandbox(old.sandbox.id))
    attempt = facts.sandboxes[0].sandbox.attempt + 1 if facts.sandboxes else 0
    if is_finished(pod, facts):
        return
    if pod.spec.restartPolicy == "Never" and attempt > 0 and facts.containers:
        return  # its containers died with the sandbox
    if _postponed("", signals, draft):
        return
    draft.orders.append(CreateSandbox(attempt))


def _plan_init(pod: Pod, facts: PodFacts, inside: Mapping[str, ContainerFact], signals: Signals, draft: _Draft) -> bool:
    """Orders for init containers and sidecars. True when regular containers may run."""
    initialized = any(container.name in inside for container in pod.spec.containers)
    for container in pod.spec.initContainers:
        role = podkeys.role_of_init(container)
        fact = inside.get(container.name)
        if initialized and role is Role.INIT:
            continue  # done before; its remains may have been collected
        if role is Role.INIT and fact is not None and fact.is_exited and fact.status.exit_code == 0:
            continue
        if role is Role.SIDECAR and fact is not None and fact.is_running and fact.id in signals.started:
            _plan_container(pod, container, role, facts, inside, signals, draft)
            continue
        _plan_container(pod, container, role, facts, inside, signals, draft)
        if not initialized:
            return False
    return True


def _plan_container(
    pod: Pod,
    container: Container,
    role: Role,
    facts: PodFacts,
    inside: Mapping[str, ContainerFact],
    signals: Signals,
    draft: _Draft,
) -> None:
    fact = inside.get(container.name)
    if fact is None:
        previous = facts.latest.get(container.name)
        if role is Role.REGULAR and previous is not None and _ended_well(pod, container, previous):
            return  # it succeeded in an earlier sandbox
        _start(pod, container, role, previous, facts, signals, draft)
        return
    match fact.status.state:
        case ContainerState.RUNNING:
            why, grace = _reason_to_kill(pod, container, fact, signals)
            if not why:
                _plan_resize(pod, container, role, fact, signals, draft)
                return
            draft.orders.append(KillContainer(fact.id, container.name, why, grace))
            # A changed definition always brings a new instance. A failed probe is a crash: what follows it is
            # decided by the restart policy and the back-off, once the container has ended.
            if _is_changed(container, fact):
                draft.orders.append(StartContainer(container.name, role, fact.status.attempt + 1))
        case ContainerState.CREATED | ContainerState.UNKNOWN:
            # Made but never started (or lost): nobody waits for it any more.
            if _postponed(container.name, signals, draft):
                return
            draft.orders.append(RemoveContainer(fact.id, container.name))
            draft.orders.append(StartContainer(container.name, role, fact.status.attempt + 1))
        case ContainerState.EXITED:
            if role is Role.SIDECAR or should_restart(pod, container, fact.status.exit_code):
                _start(pod, container, role, fact, facts, signals, draft)


def _plan_resize(
    pod: Pod, container: Container, role: Role, fact: ContainerFact, signals: Signals, draft: _Draft
) -> None:
    applied = signals.applied.get(fact.id)
    if applied is None:
        return
    wanted = resize.bounded(container.resources, pod.spec.resources)
    names = resize.changed(resize.bounded(applied, signals.applied_pod), wanted)
    if not names or _postponed(container.name, signals, draft):
        return
    draft.is_resizing = True
    if resize.needs_restart(container, names):
        draft.orders.append(
            KillContainer(fact.id, container.name, f"Container {container.name} resize requires restart")
        )
        draft.orders.append(StartContainer(container.name, role, fact.status.attempt + 1))
    else:
        draft.orders.append(ResizeContainer(fact.id, container.name))


def _ended_well(pod: Pod, container: Container, fact: ContainerFact) -> bool:
    return fact.is_exited and not should_restart(pod, container, fact.status.exit_code)


def _reason_to_kill(pod: Pod, container: Container, fact: ContainerFact, signals: Signals) -> tuple[str, int | None]:
    kind = "Init container" if any(container.name == c.name for c in pod.spec.initContainers) else "Container"
    if _is_changed(container, fact):
        return f"{kind} {container.name} definition changed, will be restarted", None
    verdict = signals.unhealthy.get(fact.id)
    if verdict is not None:
        again = "" if (container.restartPolicy or pod.spec.restartPolicy) == "Never" else ", will be restarted"
        return f"{kind} {container.name} failed {verdict.probe} probe{again}", verdict.grace
    return "", None


def _is_changed(container: Container, fact: ContainerFact) -> bool:
    recorded = fact.status.annotations.get(labels.HASH, "")
    return bool(recorded) and recorded != labels.container_hash(container)


def _start(
    pod: Pod,
    container: AnyContainer,
    role: Role,
    previous: ContainerFact | None,
    facts: PodFacts,
    signals: Signals,
    draft: _Draft,
) -> None:
    """Start now, or say when."""
    if _postponed(container.name, signals, draft):
        return
    finished_at = 0
    if previous is not None and previous.is_exited:
        finished_at = previous.status.finished_at or previous.status.created_at
        entry = signals.backoffs.get(container.name)
        until = backoff.wait_until(entry, finished_at, signals.restart_limits)
        if until > signals.now:
            draft.crashing[container.name] = entry.delay if entry else 0.0
            draft.wakes.append(until)
            return
    recorded = recorded_restarts(pod, container.name)
    draft.orders.append(
        StartContainer(container.name, role, next_attempt(facts, container.name, recorded), finished_at)
    )


def recorded_restarts(pod: Pod, name: str) -> int:
    """The restart count in the pod's status; -1 when it never ran. Counts go on when the runtime forgot."""
    for status in [*pod.status.containerStatuses, *pod.status.initContainerStatuses]:
        if status.name == name and (status.containerID or status.lastState.terminated):
            return status.restartCount
    return -1


def _plan_ephemeral(
    pod: Pod, facts: PodFacts, inside: Mapping[str, ContainerFact], signals: Signals, draft: _Draft
) -> None:
    """Started once, never again."""
    for container in pod.spec.ephemeralContainers:
        if container.name in facts.latest or _postponed(container.name, signals, draft):
            continue
        draft.orders.append(StartContainer(container.name, Role.EPHEMERAL, 0))


def _plan_removals(facts: PodFacts, draft: _Draft) -> None:
    """Of the dead instances of a container, the newest two stay: the current one and the one before (for its log)."""
    seen: dict[str, int] = {}
    for fact in facts.containers:
        if not fact.is_exited:
            continue
        seen[fact.name] = seen.get(fact.name, 0) + 1
        latest = facts.latest[fact.name]
        keep = 1 if not latest.is_exited else 2
        if seen[fact.name] > keep:
            draft.orders.append(RemoveContainer(fact.id, fact.name))
    used = {fact.sandbox_id for fact in facts.containers}
    for old in facts.sandboxes[1:]:
        if old.sandbox.id not in used and old.sandbox.state is contract.SandboxState.NOT_READY:
            draft.orders.append(RemoveSandbox(old.sandbox.id))


def _postponed(name: str, signals: Signals, draft: _Draft) -> bool:
    """Did starting it fail a moment ago? Then it waits."""
    until = signals.retry_at.get(name, 0)
    if until <= signals.now:
        return False
    draft.wakes.append(until)
    return True
