"""Resizing a running pod: what the spec asks for, what the node granted, what containers got.

Pure. Used by pod_worker, which keeps the grant (the allocation) and tells plan about differences.
Source: "Resize CPU and Memory Resources assigned to Containers" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import structs

from kybern.api.core_v1 import Container, Pod, PodCondition, ResourceRequirements
from kybern.kubelet import resources
from kybern.kubelet.admission import Room
from kybern.machinery import quantity

POD = ""  # where containers have their names: the pod's own resources
Allocation = Mapping[str, ResourceRequirements]  # by container name
RESIZABLE = ("cpu", "memory")
INFEASIBLE, DEFERRED = "Infeasible", "Deferred"


@dataclass(frozen=True, slots=True)
class Decision:
    """`pending` says why the grant is not what the spec asks for."""

    allocation: Allocation
    pending: PodCondition | None = None


def allocation_of(pod: Pod) -> Allocation:
    found = {c.name: c.resources for c in [*pod.spec.initContainers, *pod.spec.containers]}
    if pod.spec.resources is not None:
        found[POD] = pod.spec.resources
    return found


def with_allocation(pod: Pod, allocation: Allocation) -> Pod:
    """The pod as granted: what containers are made and pods are counted by."""
    if all(allocation.get(name, wanted) == wanted for name, wanted in allocation_of(pod).items()):
        return pod
    spec = structs.replace(
        pod.spec,
        initContainers=[_granted(c, allocation) for c in pod.spec.initContainers],
        containers=[_granted(c, allocation) for c in pod.spec.containers],
        resources=allocation.get(POD, pod.spec.resources),
    )
    return structs.replace(pod, spec=spec)


def _granted(container: Container, allocation: Allocation) -> Container:
    return structs.replace(container, resources=allocation.get(container.name, container.resources))


def decide(pod: Pod, allocation: Allocation, room: Room) -> Decision:
    """Grant what the spec asks for, if the node has it."""
    wanted = allocation_of(pod)
    if all(allocation.get(name) == requirements for name, requirements in wanted.items()):
        return Decision(wanted)
    requests = resources.pod_requests(pod)
    used = quantity.add_maps(resources.pod_requests(other) for other in room.others)
    for name in RESIZABLE:
        amount, has = quantity.nano(requests.get(name, "0")), quantity.nano(room.allocatable.get(name, "0"))
        unit = 10**6 if name == "cpu" else 10**9
        if amount > has:
            text = f"Node didn't have enough capacity: {name}, requested: {amount // unit}, capacity: {has // unit}"
            return Decision(allocation, _pending(pod, INFEASIBLE, text))
        taken = quantity.nano(used.get(name, "0"))
        if amount > has - taken:
            text = (
                f"Node didn't have enough resource: {name}, requested: {amount // unit}, "
                f"used: {taken // unit}, capacity: {has // unit}"
            )
            return Decision(allocation, _pending(pod, DEFERRED, text))
    return Decision(wanted)


def _pending(pod: Pod, reason: str, message: str) -> PodCondition:
    return PodCondition(
        type="PodResizePending",
        status="True",
        reason=reason,
        message=message,
        observedGeneration=pod.metadata.generation,
    )


def in_progress(pod: Pod, problem: str) -> PodCondition:
    return PodCondition(
        type="PodResizeInProgress",
        status="True",
        reason="Error" if problem else None,
        message=problem or None,
        observedGeneration=pod.metadata.generation,
    )


def bounded(own: ResourceRequirements, pod_level: ResourceRequirements | None) -> ResourceRequirements:
    """What a container feels: its own resources, and the pod's limits where it has none."""
    if pod_level is None:
        return own
    return ResourceRequirements(requests=own.requests, limits={**pod_level.limits, **own.limits})


def changed(old: ResourceRequirements, new: ResourceRequirements) -> list[str]:
    """Which of cpu and memory differ."""
    return [
        name
        for name in RESIZABLE
        if old.requests.get(name) != new.requests.get(name) or old.limits.get(name) != new.limits.get(name)
    ]


def needs_restart(container: Container, names: list[str]) -> bool:
    """Does the container want to be restarted when these change?"""
    return any(
        policy.resourceName in names and policy.restartPolicy == "RestartContainer" for policy in container.resizePolicy
    )
