"""What one pod was granted of the node's cpu and memory, and what its containers got of that.

Owned by pod_worker. Kept in a file of the pod once it differs from what containers were made with, so that a kubelet
that comes back neither grants twice nor forgets.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import Pod, PodCondition, ResourceRequirements
from kybern.kubelet import podkeys
from kybern.kubelet.admission import Room
from kybern.kubelet.cri import labels
from kybern.kubelet.cri.contract import ContainerId
from kybern.kubelet.sync import resize
from kybern.kubelet.sync.facts import ContainerFact, PodFacts


class _Record(msgspec.Struct):
    """The file."""

    allocated: dict[str, ResourceRequirements] = {}
    applied: dict[str, ResourceRequirements] = {}  # by container id
    applied_pod: ResourceRequirements | None = None


class Grant:
    """`apply_to` gives the pod as granted; everything after it works with that."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._allocation: resize.Allocation | None = None
        self._applied: dict[ContainerId, ResourceRequirements] = {}
        self.applied_pod: ResourceRequirements | None = None  # of the pod as a whole, where it has such
        self._pending: PodCondition | None = None
        self.problem = ""  # of the last attempt to apply

    async def apply_to(self, pod: Pod, facts: PodFacts, room: Room | None) -> Pod:
        """The pod with its granted resources. `room` None: nothing new is granted any more."""
        if self._allocation is None:
            await self._restore(pod, facts)
        assert self._allocation is not None
        if room is not None:
            decision = resize.decide(pod, self._allocation, room)
            self._pending = decision.pending
            if decision.allocation != self._allocation:
                self._allocation, self.problem = decision.allocation, ""
                await self._save()
        return resize.with_allocation(pod, self._allocation)

    def granted(self, pod: Pod) -> Pod:
        return pod if self._allocation is None else resize.with_allocation(pod, self._allocation)

    async def _restore(self, pod: Pod, facts: PodFacts) -> None:
        record = await asyncio.to_thread(_read, self._file)
        made = {fact.name: _made_with(fact) for fact in facts.latest.values()}
        self._applied = {ContainerId(key): value for key, value in record.applied.items()}
        self._allocation = {
            name: record.allocated.get(name) or made.get(name) or wanted
            for name, wanted in resize.allocation_of(pod).items()
        }
        self.applied_pod = record.applied_pod or self._allocation.get(resize.POD)

    def applied(self, fact: ContainerFact) -> ResourceRequirements:
        """What a container has now."""
        return self._applied.get(fact.id) or _made_with(fact) or ResourceRequirements()

    def applied_to(self, facts: PodFacts) -> dict[ContainerId, ResourceRequirements]:
        return {fact.id: self.applied(fact) for fact in facts.running if labels.RESOURCES in fact.status.annotations}

    async def note_applied(self, container: ContainerId, pod: Pod, name: str) -> None:
        """The container now has what the granted pod says."""
        found = podkeys.find_container(pod, name)
        if found is not None:
            self._applied[container] = found[1].resources
            self.problem = ""
            await self._save()

    async def note_pod_applied(self, pod: Pod) -> None:
        """The pod as a whole now has what the granted pod says."""
        if self.applied_pod != pod.spec.resources:
            self.applied_pod = pod.spec.resources
            await self._save()

    def conditions(self, pod: Pod, facts: PodFacts) -> tuple[PodCondition, ...]:
        """Of a resize that is not finished. `pod` is the granted one."""
        found = [self._pending] if self._pending is not None else []
        wanted = dict(resize.allocation_of(pod))
        running = {fact.name: fact for fact in facts.running if labels.RESOURCES in fact.status.annotations}
        pod_level = wanted.pop(resize.POD, None)
        lags = any(
            name in wanted and resize.changed(self.applied(fact), wanted[name]) for name, fact in running.items()
        )
        if lags or (pod_level is not None and self.applied_pod != pod_level and running):
            found.append(resize.in_progress(pod, self.problem))
        return tuple(found)

    async def _save(self) -> None:
        applied = {str(container): value for container, value in self._applied.items()}
        record = _Record(dict(self._allocation or {}), applied, self.applied_pod)
        await asyncio.to_thread(_write, self._file, record)


def _made_with(fact: ContainerFact) -> ResourceRequirements | None:
    text = fact.status.annotations.get(labels.RESOURCES, "")
    try:
        return codec.decode(ResourceRequirements, text.encode()) if text else None
    except msgspec.DecodeError:
        return None


def _read(file: Path) -> _Record:
    try:
        return codec.decode(_Record, file.read_bytes())
    except (OSError, msgspec.DecodeError):
        return _Record()


def _write(file: Path, record: _Record) -> None:
    draft = file.with_suffix(".tmp")
    file.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(codec.encode(record))
    os.replace(draft, file)
