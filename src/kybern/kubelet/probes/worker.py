"""The probes of one pod: a task each, asking the container that runs now and keeping count.

Owned by a pod worker, which tells of containers (`observe`) and reads the verdicts (`ready`, `started`,
`unhealthy`); it is woken when one of them changes.
Promises: a verdict belongs to one container id; liveness and readiness wait for startup; a container that failed
liveness is not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from kybern.api.core_v1 import Pod, Probe
from kybern.client.recorder import EventRecorder
from kybern.kubelet import podkeys, waiting
from kybern.kubelet.cri.contract import ContainerId, Cri
from kybern.kubelet.podkeys import AnyContainer, Role
from kybern.kubelet.probes import check
from kybern.kubelet.probes.check import Verdict
from kybern.kubelet.sync.facts import ContainerFact, PodFacts
from kybern.kubelet.sync.plan import Unhealthy
from kybern.machinery.clock import Clock

ProbeKind = Literal["startup", "liveness", "readiness"]
_KINDS: tuple[ProbeKind, ...] = ("startup", "liveness", "readiness")


def probe_of(container: AnyContainer, kind: ProbeKind) -> Probe | None:
    match kind:
        case "startup":
            return container.startupProbe
        case "liveness":
            return container.livenessProbe
        case "readiness":
            return container.readinessProbe


@dataclass(slots=True)
class _Count:
    """Of one container and kind of probe."""

    container_id: ContainerId
    value: bool | None  # None: not yet decided
    streak: int = 0
    last: Verdict = Verdict.UNKNOWN


class PodProber:
    """Probes of one pod."""

    def __init__(
        self,
        cri: Cri,
        recorder: EventRecorder,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        on_change: Callable[[], None],
    ) -> None:
        self._cri = cri
        self._recorder = recorder
        self._clock = clock
        self._tasks = tasks
        self._on_change = on_change
        self._pod: Pod | None = None
        self._ip = ""
        self._running: dict[str, ContainerFact] = {}
        self._counts: dict[tuple[str, ProbeKind], _Count] = {}
        self._workers: dict[tuple[str, ProbeKind], asyncio.Task[None]] = {}
        self._changed: dict[tuple[str, ProbeKind], asyncio.Event] = {}

    def observe(self, pod: Pod, facts: PodFacts, ip: str) -> None:
        """What runs now. Starts the tasks of probes seen for the first time."""
        self._pod, self._ip = pod, ip
        self._running = {name: fact for name, fact in facts.latest.items() if fact.is_running}
        for role, container in podkeys.containers_of(pod):
            if role in (Role.INIT, Role.EPHEMERAL):
                continue  # neither has probes
            for kind in _KINDS:
                key = (container.name, kind)
                if probe_of(container, kind) is None:
                    continue
                if key not in self._workers:
                    self._changed[key] = asyncio.Event()
                    self._workers[key] = self._tasks.create_task(
                        self._run(container.name, kind), name=f"probe:{pod.metadata.name}/{container.name}/{kind}"
                    )
                fact = self._running.get(container.name)
                count = self._counts.get(key)
                if fact is not None and (count is None or count.container_id != fact.id):
                    self._counts[key] = _Count(fact.id, self._initial(pod, fact, kind))
                    self._changed[key].set()

    def _initial(self, pod: Pod, fact: ContainerFact, kind: ProbeKind) -> bool | None:
        """What holds before the first answer. A container known from before our restart keeps its status."""
        known = next(
            (
                s
                for s in [*pod.status.containerStatuses, *pod.status.initContainerStatuses]
                if s.name == fact.name and (s.containerID or "").endswith(fact.id)
            ),
            None,
        )
        match kind:
            case "liveness":
                return True
            case "readiness":
                return bool(known and known.ready)
            case "startup":
                return True if known and known.started else None

    def stop(self, kinds: Iterable[ProbeKind] = _KINDS) -> None:
        """No more probes of these kinds."""
        chosen = set(kinds)
        for key, task in list(self._workers.items()):
            if key[1] in chosen:
                task.cancel()

    # Verdicts.

    def started(self, facts: PodFacts, pod: Pod) -> set[ContainerId]:
        found = set()
        for fact in facts.running:
            container = podkeys.find_container(pod, fact.name)
            if container is None or container[1].startupProbe is None or self._value(fact, "startup"):
                found.add(fact.id)
        return found

    def ready(self, facts: PodFacts, pod: Pod) -> set[ContainerId]:
        found = set()
        for fact in facts.running:
            container = podkeys.find_container(pod, fact.name)
            if container is None or container[1].readinessProbe is None or self._value(fact, "readiness"):
                found.add(fact.id)
        return found

    def unhealthy(self, pod: Pod) -> dict[ContainerId, Unhealthy]:
        found: dict[ContainerId, Unhealthy] = {}
        for (name, kind), count in self._counts.items():
            if kind == "readiness" or count.value is not False:
                continue
            container = podkeys.find_container(pod, name)
            probe = probe_of(container[1], kind) if container else None
            if probe is not None:
                found[count.container_id] = Unhealthy(kind, probe.terminationGracePeriodSeconds)
        return found

    def _value(self, fact: ContainerFact, kind: ProbeKind) -> bool | None:
        count = self._counts.get((fact.name, kind))
        return count.value if count is not None and count.container_id == fact.id else None

    # One probe.

    async def _run(self, name: str, kind: ProbeKind) -> None:
        changed = self._changed[(name, kind)]
        while True:
            probe, container, fact = self._target(name, kind)
            if probe is None or container is None or fact is None or self._is_done(name, kind, fact):
                changed.clear()
                await changed.wait()
                continue
            delay = self._initial_delay(probe, fact)
            if delay > 0:
                changed.clear()
                await waiting.wait_for(changed, delay, self._clock)
                continue
            if kind != "startup" and container.startupProbe is not None and not self._value(fact, "startup"):
                changed.clear()
                await changed.wait()  # told when startup succeeds
                continue
            result = await check.check(self._cri, probe, container, fact.id, self._ip)
            self._count(name, kind, probe, fact, result)
            changed.clear()  # another container is asked at once
            await waiting.wait_for(changed, float(probe.periodSeconds or 10), self._clock)

    def _target(self, name: str, kind: ProbeKind) -> tuple[Probe | None, AnyContainer | None, ContainerFact | None]:
        assert self._pod is not None
        found = podkeys.find_container(self._pod, name)
        fact = self._running.get(name)
        return (probe_of(found[1], kind), found[1], fact) if found else (None, None, None)

    def _is_done(self, name: str, kind: ProbeKind, fact: ContainerFact) -> bool:
        """Nothing to ask: startup is decided, or the container is to be killed."""
        value = self._value(fact, kind)
        if kind == "startup":
            return value is not None
        if self._value(fact, "startup") is False:
            return True
        return kind == "liveness" and value is False

    def _initial_delay(self, probe: Probe, fact: ContainerFact) -> float:
        age = self._clock.now().timestamp() - fact.status.started_at / 1e9
        return (probe.initialDelaySeconds or 0) - age

    def _count(self, name: str, kind: ProbeKind, probe: Probe, fact: ContainerFact, result: check.Result) -> None:
        count = self._counts.get((name, kind))
        if count is None or count.container_id != fact.id:
            return  # it ended meanwhile
        self._tell(name, kind, result)
        if result.verdict is Verdict.UNKNOWN:
            return
        count.streak = count.streak + 1 if result.verdict is count.last else 1
        count.last = result.verdict
        success = result.verdict is Verdict.SUCCESS
        if kind == "readiness" or success:
            threshold = (probe.successThreshold or 1) if success else (probe.failureThreshold or 3)
        else:
            threshold = probe.failureThreshold or 3
        if count.streak < threshold or count.value is success:
            return
        count.value = success
        if kind == "startup":
            for other in ("liveness", "readiness"):
                event = self._changed.get((name, other))
                if event is not None:
                    event.set()
        self._on_change()

    def _tell(self, name: str, kind: ProbeKind, result: check.Result) -> None:
        assert self._pod is not None
        where = podkeys.field_path(self._pod, name)
        title = kind.capitalize()
        if result.verdict is Verdict.FAILURE:
            message = f"{title} probe failed: {result.output}"
            self._recorder.event(self._pod, "Warning", "Unhealthy", message, field_path=where)
        elif result.verdict is Verdict.UNKNOWN:
            message = f"{title} probe errored and resulted in unknown state: {result.output}"
            self._recorder.event(self._pod, "Warning", "Unhealthy", message, field_path=where)
        elif result.warning:
            message = f"{title} probe warning: {result.warning}"
            self._recorder.event(self._pod, "Warning", "ProbeWarning", message, field_path=where)
