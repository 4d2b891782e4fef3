"""A pod's status from its spec and the runtime's facts: phase, conditions, addresses, containers.

Pure. Called by pod_workers whenever something was seen; the result goes to sender.
Promises: a terminal phase never changes back; a condition's lastTransitionTime changes with its status only;
conditions of others (readiness gates, the scheduler's, the controllers') are left alone.
Source: "Pod Lifecycle" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import structs

from kybern.api.core_v1 import ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements
from kybern.api.scalars import Time
from kybern.kubelet import podkeys, resources
from kybern.kubelet.podkeys import Role
from kybern.kubelet.status import containers
from kybern.kubelet.status.containers import View
from kybern.kubelet.sync import plan
from kybern.kubelet.sync.facts import PodFacts

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
OWN_CONDITIONS = frozenset(
    {
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
        "PodResizePending",
        "PodResizeInProgress",
        "AllContainersRestarting",
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision over the pod that ends it: turned away, evicted, out of time."""

    reason: str
    message: str
    condition: PodCondition | None = None  # DisruptionTarget
    grace: int | None = None  # seconds it has to end; None: its own grace period


@dataclass(frozen=True, slots=True)
class Context:
    """What the status needs besides spec and runtime."""

    now: Time
    node_ips: tuple[str, ...]
    view: View
    start_time: Time | None = None  # when the node first saw the pod
    is_over: bool = False  # nothing of the pod runs or will run
    verdict: Verdict | None = None
    resize: tuple[PodCondition, ...] = ()  # PodResizePending, PodResizeInProgress that hold
    pod_resources: ResourceRequirements | None = None  # of the pod as a whole, as applied


@dataclass
class _Tally:
    """Regular containers by what they do."""

    running: int = 0
    waiting: int = 0
    succeeded: int = 0
    failed: int = 0
    restarting: int = 0
    unknown: list[str] = field(default_factory=list)


def generate(pod: Pod, facts: PodFacts, context: Context) -> PodStatus:
    """The whole status. `pod.status` is what was last known (restart counts, transition times, foreign conditions)."""
    old = pod.status
    status = PodStatus(
        qosClass=old.qosClass or resources.qos_class(pod),
        startTime=old.startTime or context.start_time or context.now,
        observedGeneration=pod.metadata.generation,
        nominatedNodeName=old.nominatedNodeName,
        resourceClaimStatuses=old.resourceClaimStatuses,
        extendedResourceClaimStatus=old.extendedResourceClaimStatus,
        hostIP=context.node_ips[0] if context.node_ips else old.hostIP,
        hostIPs=[HostIP(ip=ip) for ip in context.node_ips] or old.hostIPs,
    )
    if pod.spec.resources is not None:
        status.allocatedResources = dict(pod.spec.resources.requests)
        status.resources = context.pod_resources or pod.spec.resources
    ips = _pod_ips(pod, facts, context)
    status.podIP = ips[0] if ips else None
    status.podIPs = [PodIP(ip=ip) for ip in ips]
    _add_containers(pod, facts, context, status)
    status.phase = _phase(pod, facts, context, status)
    status.reason, status.message = old.reason, old.message
    if context.verdict is not None:
        status.reason, status.message = context.verdict.reason, context.verdict.message
    status.conditions = _conditions(pod, facts, context, status)
    return status


def rejected(pod: Pod, verdict: Verdict) -> PodStatus:
    """Of a pod that this node turned away before it touched anything."""
    return PodStatus(
        phase=FAILED,
        reason=verdict.reason,
        message=verdict.message,
        qosClass=pod.status.qosClass or resources.qos_class(pod),
        observedGeneration=pod.metadata.generation,
        startTime=pod.status.startTime,
        conditions=pod.status.conditions,
        containerStatuses=pod.status.containerStatuses,
        initContainerStatuses=pod.status.initContainerStatuses,
        ephemeralContainerStatuses=pod.status.ephemeralContainerStatuses,
    )


def _pod_ips(pod: Pod, facts: PodFacts, context: Context) -> tuple[str, ...]:
    if pod.spec.hostNetwork:
        return context.node_ips if facts.sandboxes or pod.status.podIP else ()
    sandbox = facts.ready_sandbox
    if sandbox is not None and sandbox.ips:
        return sandbox.ips
    # A sandbox that ended had this address; it stays in the status until another comes.
    return tuple(item.ip for item in pod.status.podIPs)


def _add_containers(pod: Pod, facts: PodFacts, context: Context, status: PodStatus) -> None:
    old = pod.status
    known = {s.name: s for s in [*old.containerStatuses, *old.initContainerStatuses, *old.ephemeralContainerStatuses]}
    for role, container in podkeys.containers_of(pod):
        built = containers.build(pod, role, container, facts, context.view, known.get(container.name))
        match role:
            case Role.REGULAR:
                status.containerStatuses.append(built)
            case Role.EPHEMERAL:
                status.ephemeralContainerStatuses.append(built)
            case _:
                status.initContainerStatuses.append(built)
    status.containerStatuses.sort(key=lambda s: s.name)


# Phase.


def _phase(pod: Pod, facts: PodFacts, context: Context, status: PodStatus) -> str:
    if pod.status.phase in (SUCCEEDED, FAILED):
        return pod.status.phase
    if context.verdict is not None:
        return FAILED
    if plan.has_failed_init(pod, facts):
        return FAILED
    tally = _tally(pod, context, status)
    phase = _phase_of(tally, is_initialized(pod, status))
    if context.is_over and phase not in (SUCCEEDED, FAILED):
        return FAILED  # ended before it could finish
    return phase


def _tally(pod: Pod, context: Context, status: PodStatus) -> _Tally:
    tally = _Tally()
    by_name = {s.name: s for s in status.containerStatuses}
    for container in pod.spec.containers:
        shown = by_name[container.name]
        ended = shown.state.terminated or (shown.lastState.terminated if shown.state.waiting else None)
        if shown.state.running is not None:
            tally.running += 1
        elif ended is None:
            tally.waiting += 1
        elif not context.is_over and (
            shown.state.waiting is not None or plan.should_restart(pod, container, ended.exitCode)
        ):
            tally.restarting += 1
        elif ended.exitCode == 0:
            tally.succeeded += 1
        else:
            tally.failed += 1
    return tally


def _phase_of(tally: _Tally, initialized: bool) -> str:
    if tally.waiting or not initialized:
        return PENDING
    if tally.running or tally.restarting:
        return RUNNING
    return FAILED if tally.failed else SUCCEEDED


def is_initialized(pod: Pod, status: PodStatus) -> bool:
    """Are all init containers done, and all sidecars started?"""
    return not _incomplete_init(pod, status)


def _incomplete_init(pod: Pod, status: PodStatus) -> list[str]:
    if any(
        s.state.running is not None or s.state.terminated is not None or s.lastState.terminated is not None
        for s in status.containerStatuses
    ):
        # Regular containers have run, so initialization was done; only a sandbox's end makes it start over.
        return []
    by_name = {s.name: s for s in status.initContainerStatuses}
    incomplete = []
    for container in pod.spec.initContainers:
        shown = by_name[container.name]
        if podkeys.role_of_init(container) is Role.SIDECAR:
            if not shown.started:
                incomplete.append(container.name)
        elif shown.state.terminated is None or shown.state.terminated.exitCode != 0:
            incomplete.append(container.name)
    return incomplete


# Conditions.


def _conditions(pod: Pod, facts: PodFacts, context: Context, status: PodStatus) -> list[PodCondition]:
    old = {c.type: c for c in pod.status.conditions}
    ready_containers = _containers_ready(pod, status)
    computed = [
        *context.resize,
        *_restart_condition(pod, facts, context),
        _sandbox_condition(pod, facts, context),
        _initialized_condition(pod, status),
        _ready_condition(pod, old, ready_containers),
        ready_containers,
        PodCondition(type="PodScheduled", status="True"),
    ]
    if context.verdict is not None and context.verdict.condition is not None:
        computed.append(context.verdict.condition)
    names = {c.type for c in computed}
    result = []
    for condition in computed:
        before = old.get(condition.type)
        if before is not None and condition.type == "PodScheduled":
            condition = structs.replace(before)  # the scheduler's; ours only where nobody told
        condition.observedGeneration = pod.metadata.generation
        condition.lastTransitionTime = (
            before.lastTransitionTime
            if before is not None and before.status == condition.status and before.lastTransitionTime
            else context.now
        )
        result.append(condition)
    result.extend(c for c in pod.status.conditions if c.type not in names and c.type not in OWN_CONDITIONS)
    return result


def _restart_condition(pod: Pod, facts: PodFacts, context: Context) -> list[PodCondition]:
    if context.is_over or not plan.is_restarting_all(pod, facts):
        return []
    return [PodCondition(type="AllContainersRestarting", status="True", reason="ContainerExited")]


def _sandbox_condition(pod: Pod, facts: PodFacts, context: Context) -> PodCondition:
    ready = not context.is_over and plan.current_sandbox(pod, facts) is not None
    return PodCondition(type="PodReadyToStartContainers", status=_truth(ready))


def _initialized_condition(pod: Pod, status: PodStatus) -> PodCondition:
    if status.phase == SUCCEEDED:
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    incomplete = _incomplete_init(pod, status)
    if not incomplete:
        return PodCondition(type="Initialized", status="True")
    return PodCondition(
        type="Initialized",
        status="False",
        reason="ContainersNotInitialized",
        message=f"containers with incomplete status: {_names(incomplete)}",
    )


def _containers_ready(pod: Pod, status: PodStatus) -> PodCondition:
    kind = "ContainersReady"
    if status.phase == SUCCEEDED:
        return PodCondition(type=kind, status="False", reason="PodCompleted")
    if status.phase == FAILED:
        return PodCondition(type=kind, status="False", reason="PodFailed")
    sidecars = {c.name for c in pod.spec.initContainers if podkeys.role_of_init(c) is Role.SIDECAR}
    serving: list[ContainerStatus] = [
        *(s for s in status.initContainerStatuses if s.name in sidecars),
        *status.containerStatuses,
    ]
    by_name = {s.name: s for s in serving}
    order = [*(c.name for c in pod.spec.initContainers if c.name in sidecars), *(c.name for c in pod.spec.containers)]
    unready = [name for name in order if not by_name[name].ready]
    if not unready:
        return PodCondition(type=kind, status="True")
    return PodCondition(
        type=kind,
        status="False",
        reason="ContainersNotReady",
        message=f"containers with unready status: {_names(unready)}",
    )


def _ready_condition(pod: Pod, old: dict[str, PodCondition], containers_ready: PodCondition) -> PodCondition:
    if containers_ready.status != "True":
        return PodCondition(
            type="Ready", status="False", reason=containers_ready.reason, message=containers_ready.message
        )
    problems = []
    for gate in pod.spec.readinessGates:
        condition = old.get(gate.conditionType)
        if condition is None:
            problems.append(f'corresponding condition of pod readiness gate "{gate.conditionType}" does not exist.')
        elif condition.status != "True":
            problems.append(
                f'the status of pod readiness gate "{gate.conditionType}" is not "True", but {condition.status}'
            )
    if problems:
        return PodCondition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(problems))
    return PodCondition(type="Ready", status="True")


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"
