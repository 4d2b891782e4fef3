"""A container runtime that is a function: containers recalled from a pod's status, orders carried out. Pure.

Used by life. Stands where kubelet/cri and kubelet/sync/apply stand in a real kubelet. Nothing is remembered: what a
pod's status tells is what runs. Containers start and stop at once and without fault; those of pods that are to end
(restartPolicy Never or OnFailure) and init containers end well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from kybern.api import scalars
from kybern.api.core_v1 import ContainerStatus, Pod
from kybern.api.scalars import Time
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerId, ContainerState, ImageRef, NamespaceMode, SandboxId, SandboxState
from kybern.kubelet.podkeys import Role
from kybern.kubelet.sync import plan
from kybern.kubelet.sync.facts import ContainerFact, PodFacts

NAME = "simulated"
SECOND = 10**9


def recall(pod: Pod) -> PodFacts:
    """What runs of a pod, as its status tells."""
    status = pod.status
    shown = [*status.containerStatuses, *status.initContainerStatuses, *status.ephemeralContainerStatuses]
    known = [item for item in shown if item.containerID]
    ips = tuple(item.ip for item in status.podIPs)
    if not known and not ips:
        return PodFacts()
    is_over = status.phase in ("Succeeded", "Failed")
    state = SandboxState.NOT_READY if is_over else SandboxState.READY
    sandbox = _sandbox(pod, 0, _nanoseconds(status.startTime), ips, state)
    return PodFacts((sandbox,), tuple(_fact(sandbox.sandbox.id, item) for item in known))


def carry_out(pod: Pod, facts: PodFacts, orders: Iterable[plan.Order], now: int, ip: str) -> PodFacts:
    """The facts after the orders. `now` in ns; `ip`: of a sandbox that is made."""
    for order in orders:
        match order:
            case plan.CreateSandbox(attempt):
                made = _sandbox(pod, attempt, now, (ip,) if ip else (), SandboxState.READY)
                facts = PodFacts((made, *facts.sandboxes), facts.containers)
            case plan.StartContainer(name, role, attempt):
                facts = PodFacts(facts.sandboxes, (_start(pod, facts, name, role, attempt, now), *facts.containers))
            case plan.KillContainer(container):
                ended = tuple(_ended(f, now) if f.id == container else f for f in facts.containers)
                facts = PodFacts(facts.sandboxes, ended)
            case plan.RemoveContainer(container):
                facts = PodFacts(facts.sandboxes, tuple(f for f in facts.containers if f.id != container))
            case plan.StopSandbox(sandbox) | plan.RemoveSandbox(sandbox):
                facts = PodFacts(tuple(s for s in facts.sandboxes if s.sandbox.id != sandbox), facts.containers)
            case plan.ResizeContainer() | plan.ResizePod():
                pass  # there is nothing to give more or less to
            case _:
                assert_never(order)
    return facts


def stop(facts: PodFacts, now: int) -> PodFacts:
    """The facts after everything was ended."""
    sandboxes = tuple(
        contract.SandboxStatus(replace(s.sandbox, state=SandboxState.NOT_READY), s.ips, s.network)
        for s in facts.sandboxes
    )
    return PodFacts(sandboxes, tuple(_ended(fact, now) for fact in facts.containers))


def finish(facts: PodFacts, names: Iterable[str], now: int) -> PodFacts:
    """The facts after some containers ended by themselves, and well."""
    chosen = set(names)
    return PodFacts(facts.sandboxes, tuple(_ended(f, now) if f.name in chosen else f for f in facts.containers))


def _sandbox(pod: Pod, attempt: int, created: int, ips: tuple[str, ...], state: SandboxState) -> contract.SandboxStatus:
    meta = pod.metadata
    sandbox = contract.Sandbox(
        id=SandboxId(f"{meta.uid}-{attempt}"),
        name=meta.name,
        uid=meta.uid,
        namespace=meta.namespace,
        attempt=attempt,
        state=state,
        created_at=created,
    )
    on_host = bool(pod.spec.hostNetwork)
    network = NamespaceMode.NODE if on_host else NamespaceMode.POD
    return contract.SandboxStatus(sandbox, () if on_host else ips, network)


def _start(pod: Pod, facts: PodFacts, name: str, role: Role, attempt: int, now: int) -> ContainerFact:
    found = podkeys.find_container(pod, name)
    image = (found[1].image if found else None) or ""
    status = contract.ContainerStatus(
        id=ContainerId(f"{pod.metadata.uid}-{name}-{attempt}"),
        name=name,
        attempt=attempt,
        state=ContainerState.RUNNING,
        created_at=now,
        started_at=now,
        finished_at=0,
        exit_code=0,
        image=image,
        image_ref=ImageRef(f"{image}@simulated"),
    )
    fact = ContainerFact(facts.sandboxes[0].sandbox.id, status)
    return _ended(fact, now) if role is Role.INIT else fact


def _ended(fact: ContainerFact, now: int) -> ContainerFact:
    if not fact.is_running:
        return fact
    status = replace(fact.status, state=ContainerState.EXITED, finished_at=now, exit_code=0, reason="Completed")
    return ContainerFact(fact.sandbox_id, status)


def _fact(sandbox: SandboxId, shown: ContainerStatus) -> ContainerFact:
    running, ended = shown.state.running, shown.state.terminated
    started = _nanoseconds(running.startedAt if running else ended.startedAt if ended else None)
    state = ContainerState.RUNNING if running else ContainerState.EXITED if ended else ContainerState.CREATED
    status = contract.ContainerStatus(
        id=ContainerId((shown.containerID or "").partition("://")[2]),
        name=shown.name,
        attempt=shown.restartCount,
        state=state,
        created_at=started,
        started_at=started,
        finished_at=_nanoseconds(ended.finishedAt) if ended else 0,
        exit_code=ended.exitCode if ended else 0,
        image=shown.image,
        image_ref=ImageRef(shown.imageID),
        reason=(ended.reason or "") if ended else "",
    )
    return ContainerFact(sandbox, status)


def _nanoseconds(time: Time | None) -> int:
    return int(scalars.parse_time(time).timestamp()) * SECOND if time else 0
