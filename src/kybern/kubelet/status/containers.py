"""containerStatuses: what the runtime holds of each container, as users of kubectl know it.

Pure. Used by generate. Source: "Pod Lifecycle: container states".
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from kybern.api import scalars
from kybern.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    LinuxContainerUser,
    Pod,
    ResourceRequirements,
    VolumeMountStatus,
)
from kybern.api.scalars import Quantity, Time
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerId
from kybern.kubelet.podkeys import AnyContainer, Role
from kybern.kubelet.sync.facts import ContainerFact, PodFacts

UNKNOWN_EXIT = 137
_UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"
_LOST_MESSAGE = "The container could not be located when the pod was deleted.  The container used to be Running"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run now."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What a container's status needs besides the runtime."""

    runtime: str = "containerd"  # prefix of container ids
    started: Set[ContainerId] = frozenset()
    ready: Set[ContainerId] = frozenset()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)  # by name: failed starts and crash loops
    messages: Mapping[ContainerId, str] = field(default_factory=dict)  # termination messages
    resources: Mapping[str, ResourceRequirements] = field(default_factory=dict)  # by name, as applied
    allocated: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    is_over: bool = False  # nothing of the pod runs or will run


def time_of(nanoseconds: int) -> Time | None:
    """None for "never"."""
    if nanoseconds <= 0:
        return None
    return scalars.render_time(datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC))


def build(
    pod: Pod, role: Role, container: AnyContainer, facts: PodFacts, view: View, previous: ContainerStatus | None
) -> ContainerStatus:
    """The status of one container of the spec."""
    instances = facts.of(container.name)
    status = (
        _of_instance(pod, instances, view, role, container)
        if instances
        else _without_instance(pod, role, container, view, previous)
    )
    status.name = container.name
    status.volumeMounts = [
        VolumeMountStatus(
            name=m.name,
            mountPath=m.mountPath,
            readOnly=m.readOnly,
            # What was asked for as "if possible" is told as what came of it.
            recursiveReadOnly="Disabled" if m.readOnly else None,
        )
        for m in container.volumeMounts
    ]
    if status.state.running is not None and role is not Role.EPHEMERAL:
        status.resources = view.resources.get(container.name, container.resources)
        status.allocatedResources = dict(view.allocated.get(container.name, container.resources.requests))
    return status


def _of_instance(
    pod: Pod, instances: list[ContainerFact], view: View, role: Role, container: AnyContainer
) -> ContainerStatus:
    fact = instances[0]
    facts = fact.status
    older = next((f for f in instances[1:] if f.is_exited), None)
    status = ContainerStatus(
        image=facts.image or container.image or "",
        imageID=facts.image_ref,
        containerID=_id(view, fact),
        restartCount=facts.attempt,
        ready=False,
        started=False,
        user=_user(facts.user),
    )
    if older is not None:
        status.lastState = ContainerState(terminated=_terminated(older, view))
    match facts.state:
        case contract.ContainerState.RUNNING:
            status.state = ContainerState(running=ContainerStateRunning(startedAt=time_of(facts.started_at)))
            status.started = fact.id in view.started
            # An init container is ready once it is done.
            status.ready = status.started and fact.id in view.ready and role is not Role.INIT
            if role is Role.EPHEMERAL:
                status.started, status.ready = None, False
        case contract.ContainerState.EXITED:
            ended = _terminated(fact, view)
            problem = None if view.is_over else view.waiting.get(container.name)
            if problem is not None:
                status.state = _waiting(problem)
                status.lastState = ContainerState(terminated=ended)
            else:
                status.state = ContainerState(terminated=ended)
            status.ready = role is Role.INIT and facts.exit_code == 0 and problem is None
            if role is Role.EPHEMERAL:
                status.started = None
        case _:
            problem = view.waiting.get(container.name) or _not_started(pod, role)
            status.state = _waiting(problem)
    return status


def _without_instance(
    pod: Pod, role: Role, container: AnyContainer, view: View, previous: ContainerStatus | None
) -> ContainerStatus:
    status = ContainerStatus(image=container.image or "", imageID="", ready=False, started=False)
    if role is Role.EPHEMERAL:
        status.started = None
    if previous is not None:
        status.restartCount = previous.restartCount
        status.lastState = previous.lastState
        if previous.state.terminated is not None:
            # The runtime has forgotten it (its remains were collected); what it came to stays true.
            status.state, status.imageID = previous.state, previous.imageID
            status.containerID, status.image = previous.containerID, previous.image
            status.ready = previous.ready
            if view.is_over or role is Role.INIT:
                return status
        elif previous.state.running is not None and view.is_over:
            status.state = ContainerState(
                terminated=ContainerStateTerminated(
                    exitCode=UNKNOWN_EXIT, reason="ContainerStatusUnknown", message=_UNKNOWN_MESSAGE
                )
            )
            status.imageID, status.containerID = previous.imageID, previous.containerID
            return status
        elif previous.state.running is not None:
            status.lastState = ContainerState(
                terminated=ContainerStateTerminated(
                    exitCode=UNKNOWN_EXIT, reason="ContainerStatusUnknown", message=_LOST_MESSAGE
                )
            )
    problem = view.waiting.get(container.name)
    if problem is None:
        problem = _not_started(pod, role)
    status.state = _waiting(problem)
    return status


def _not_started(pod: Pod, role: Role) -> Waiting:
    """Why nothing of a container runs yet, where nothing is wrong."""
    is_initializing = bool(pod.spec.initContainers) and role is not Role.EPHEMERAL
    return Waiting("PodInitializing" if is_initializing else "ContainerCreating")


def _waiting(problem: Waiting) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=problem.reason, message=problem.message or None))


def _terminated(fact: ContainerFact, view: View) -> ContainerStateTerminated:
    facts = fact.status
    reason = facts.reason or ("Completed" if facts.exit_code == 0 else "Error")
    return ContainerStateTerminated(
        exitCode=facts.exit_code,
        reason=reason,
        message=view.messages.get(fact.id) or facts.message or None,
        startedAt=time_of(facts.started_at) or time_of(facts.created_at),
        finishedAt=time_of(facts.finished_at),
        containerID=_id(view, fact),
    )


def _id(view: View, fact: ContainerFact) -> str:
    return f"{view.runtime}://{fact.id}"


def _user(user: contract.ContainerUser | None) -> ContainerUser | None:
    if user is None:
        return None
    return ContainerUser(
        linux=LinuxContainerUser(uid=user.uid, gid=user.gid, supplementalGroups=list(user.supplemental_groups))
    )
