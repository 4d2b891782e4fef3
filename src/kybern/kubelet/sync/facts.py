"""What the runtime holds of one pod, as one frozen picture. Taken by pod_workers, read by plan, status and probes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from dataclasses import dataclass

from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerId, ContainerState, Cri, CriError, SandboxId, SandboxState


@dataclass(frozen=True, slots=True)
class ContainerFact:
    """One container that exists, running or not."""

    sandbox_id: SandboxId
    status: contract.ContainerStatus

    @property
    def id(self) -> ContainerId:
        return self.status.id

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def is_running(self) -> bool:
        return self.status.state is ContainerState.RUNNING

    @property
    def is_exited(self) -> bool:
        return self.status.state is ContainerState.EXITED


@dataclass(frozen=True)
class PodFacts:
    """Sandboxes and containers of a pod, newest first."""

    sandboxes: tuple[contract.SandboxStatus, ...] = ()
    containers: tuple[ContainerFact, ...] = ()

    @functools.cached_property
    def ready_sandbox(self) -> contract.SandboxStatus | None:
        return next((s for s in self.sandboxes if s.sandbox.state is SandboxState.READY), None)

    @functools.cached_property
    def latest(self) -> dict[str, ContainerFact]:
        """The newest container of each name, in whatever sandbox."""
        found: dict[str, ContainerFact] = {}
        for fact in self.containers:
            found.setdefault(fact.name, fact)
        return found

    def of(self, name: str) -> list[ContainerFact]:
        """All containers of a name, newest first."""
        return [fact for fact in self.containers if fact.name == name]

    def in_sandbox(self, sandbox: SandboxId) -> dict[str, ContainerFact]:
        """The newest container of each name in one sandbox."""
        found: dict[str, ContainerFact] = {}
        for fact in self.containers:
            if fact.sandbox_id == sandbox:
                found.setdefault(fact.name, fact)
        return found

    @property
    def running(self) -> list[ContainerFact]:
        return [fact for fact in self.containers if fact.is_running]

    @property
    def is_empty(self) -> bool:
        return not self.sandboxes and not self.containers


class Inspector:
    """Takes pictures of pods. Remembers exited containers, whose status no longer changes."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self._exited: dict[ContainerId, contract.ContainerStatus] = {}

    async def inspect(self, uid: str) -> PodFacts:
        """Raises CriError. What vanishes while looking is left out."""
        sandboxes, containers = await asyncio.gather(self._cri.list_sandboxes(uid), self._cri.list_containers(uid))
        sandbox_statuses = await asyncio.gather(*(self._sandbox(s) for s in sandboxes))
        statuses = await asyncio.gather(*(self._container(c) for c in containers))
        facts = [
            ContainerFact(container.sandbox_id, status)
            for container, status in zip(containers, statuses, strict=True)
            if status is not None
        ]
        return PodFacts(
            tuple(
                sorted(
                    (s for s in sandbox_statuses if s is not None),
                    key=lambda s: (s.sandbox.created_at, s.sandbox.attempt),
                    reverse=True,
                )
            ),
            tuple(sorted(facts, key=lambda f: (f.status.created_at, f.status.attempt), reverse=True)),
        )

    async def _sandbox(self, sandbox: contract.Sandbox) -> contract.SandboxStatus | None:
        if sandbox.state is SandboxState.NOT_READY:
            return contract.SandboxStatus(sandbox)
        try:
            return await self._cri.sandbox_status(sandbox.id)
        except CriError as error:
            if error.is_not_found:
                return None
            raise

    async def _container(self, container: contract.Container) -> contract.ContainerStatus | None:
        remembered = self._exited.get(container.id)
        if remembered is not None:
            return remembered
        try:
            status = await self._cri.container_status(container.id)
        except CriError as error:
            if error.is_not_found:
                return None
            raise
        if status.state is ContainerState.EXITED:
            self._exited[status.id] = status
        return status

    def forget(self, known: Iterable[ContainerId]) -> None:
        """Drop what is remembered of containers that are not among `known`."""
        alive = set(known)
        for container in [c for c in self._exited if c not in alive]:
            del self._exited[container]
