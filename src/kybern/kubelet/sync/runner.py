"""Carries out one pod's plans, and remembers what went wrong: retries with pauses, crash back-off, resizes.

Owned by pod_worker, which starts `run` in a task of its own and reads `signals` and `waiting`. Orders themselves are
in apply.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import structlog

from kybern.api.core_v1 import Pod
from kybern.kubelet import podkeys
from kybern.kubelet.cri.contract import ContainerId, CriError
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.probes.worker import PodProber
from kybern.kubelet.status.containers import Waiting
from kybern.kubelet.sync import backoff, plan
from kybern.kubelet.sync.apply import Applier, PodWork, SandboxFailed
from kybern.kubelet.sync.facts import ContainerFact, PodFacts
from kybern.kubelet.sync.grant import Grant
from kybern.machinery.clock import Clock

SECOND = 10**9
FIRST_RETRY = 0.5  # seconds between attempts to start what keeps failing, doubled ...
LONGEST_RETRY = 10.0  # ... up to this
SANDBOX = ""  # where containers have their names

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Trouble:
    """What could not be started, by container name."""

    shown: dict[str, Waiting] = field(default_factory=dict)
    retry_at: dict[str, int] = field(default_factory=dict)  # ns
    tries: dict[str, int] = field(default_factory=dict)

    def clear(self, name: str) -> None:
        self.shown.pop(name, None)
        self.retry_at.pop(name, None)
        self.tries.pop(name, None)


class OrderRunner:
    """See the module's docstring."""

    def __init__(
        self, applier: Applier, work: PodWork, grant: Grant, clock: Clock, rng: random.Random, limits: backoff.Limits
    ) -> None:
        self._applier = applier
        self._work = work
        self._grant = grant
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._trouble = _Trouble()
        self._backoffs: dict[str, backoff.Entry] = {}
        self._crashing: dict[str, Waiting] = {}
        self._told_crash: set[ContainerId] = set()

    def now(self) -> int:
        return int(self._clock.now().timestamp() * SECOND)

    def retry_now(self) -> None:
        """Something changed that may help: whatever failed is tried at once."""
        self._trouble.retry_at.clear()
        self._trouble.tries.clear()

    def waiting(self) -> Mapping[str, Waiting]:
        """Why containers do not run, by name."""
        return {**self._trouble.shown, **self._crashing}

    # Planning.

    def plan_next(self, pod: Pod, facts: PodFacts, prober: PodProber) -> plan.Plan:
        """What to do next, and what is in back-off (told by an event, once an instance)."""
        signals = plan.Signals(
            now=self.now(),
            unhealthy=prober.unhealthy(pod),
            started=prober.started(facts, pod),
            backoffs=self._backoffs,
            retry_at=self._trouble.retry_at,
            restart_limits=self._limits,
            applied=self._grant.applied_to(facts),
            applied_pod=self._grant.applied_pod,
        )
        chosen = plan.plan_sync(pod, facts, signals)
        self._crashing = {name: _crash_loop(pod, name, delay) for name, delay in chosen.crashing.items()}
        for name in chosen.crashing:
            self._tell_crash(pod, name, facts)
        return chosen

    def _tell_crash(self, pod: Pod, name: str, facts: PodFacts) -> None:
        latest = facts.latest.get(name)
        if latest is None or latest.id in self._told_crash:
            return
        self._told_crash.add(latest.id)
        message = f"Back-off restarting failed container {name} in pod {podkeys.format_pod(pod)}"
        where = podkeys.field_path(pod, name)
        self._applier.recorder.event(pod, "Warning", "BackOff", message, field_path=where)

    # Doing.

    async def run(self, pod: Pod, facts: PodFacts, orders: Sequence[plan.Order]) -> None:
        """Supervised: whatever goes wrong is tried again after a pause."""
        try:
            for order in orders:
                await self._one(pod, facts, order)
            return
        except SandboxFailed:
            self._note(SANDBOX)  # told by events
            return
        except CriError as error:
            log.warning("an order failed", pod=podkeys.key_of(pod), error=str(error))
        except Exception:
            log.exception("orders of a pod failed", pod=podkeys.key_of(pod))
        await self._clock.sleep(1.0 + self._rng.random())

    async def _one(self, pod: Pod, facts: PodFacts, order: plan.Order) -> None:
        applier, work = self._applier, self._work
        match order:
            case plan.CreateSandbox(attempt):
                await applier.create_sandbox(pod, work, attempt)
                self._trouble.clear(SANDBOX)
            case plan.StopSandbox(sandbox):
                await applier.cri.stop_sandbox(sandbox)
            case plan.RemoveSandbox(sandbox):
                await applier.cri.remove_sandbox(sandbox)
            case plan.KillContainer(container, _, why, grace):
                if (fact := _find(facts, container)) is not None:
                    await applier.kill_container(pod, work, fact, why, grace)
            case plan.RemoveContainer(container, _):
                if (fact := _find(facts, container)) is not None:
                    await applier.remove_container(fact, pod)
            case plan.StartContainer():
                await self._start(pod, facts, order)
            case plan.ResizePod(grow):
                await self._resize_pod(pod, grow)
            case plan.ResizeContainer(container, name):
                if (fact := _find(facts, container)) is not None:
                    await self._resize(pod, fact, name)
            case _:
                assert_never(order)

    async def _start(self, pod: Pod, facts: PodFacts, order: plan.StartContainer) -> None:
        sandbox = plan.current_sandbox(pod, facts)
        if sandbox is None:
            return  # it went away; the next turn sees that
        try:
            await self._applier.start_container(pod, self._work, facts, sandbox, order)
        except StartFailed as error:
            self._note(order.name, Waiting(error.reason.value, error.message))
            self._applier.metrics.count_start_error(order.role, error.reason.value)
            if error.reason is Reason.IMAGE_BACK_OFF:
                self._wait_for_image(pod, order.name)
        except SandboxFailed as error:
            self._note(order.name, Waiting(Reason.CONFIG.value, str(error)))
        else:
            self._trouble.clear(order.name)
        finally:
            # Not before: until there is a new instance, the old one would seem to be waiting out its back-off.
            if order.finished_at:
                entry = self._backoffs.get(order.name)
                self._backoffs[order.name] = backoff.after_restart(entry, order.finished_at, self.now(), self._limits)

    def _wait_for_image(self, pod: Pod, name: str) -> None:
        found = podkeys.find_container(pod, name)
        delay = self._applier.images.retry_delay(pod, found[1]) if found else LONGEST_RETRY
        self._trouble.retry_at[name] = self.now() + int((delay + 0.05) * SECOND)

    async def _resize_pod(self, pod: Pod, grow: bool) -> None:
        try:
            if grow:
                await self._applier.cgroups.grow(pod)
                return
            await self._applier.cgroups.ensure(pod)
        except OSError as error:  # it uses more memory than it is to have
            self._grant.problem = f"the pod's limits could not be set: {error.strerror}"
            await self._clock.sleep(LONGEST_RETRY)
            return
        await self._grant.note_pod_applied(pod)

    async def _resize(self, pod: Pod, fact: ContainerFact, name: str) -> None:
        try:
            await self._applier.resize_container(pod, fact)
        except CriError as error:
            self._grant.problem = error.message
            self._note(name)
            return
        await self._grant.note_applied(fact.id, pod, name)
        self._trouble.clear(name)

    def _note(self, name: str, problem: Waiting | None = None) -> None:
        """It failed: try again later, and later each time."""
        tries = self._trouble.tries.get(name, 0)
        self._trouble.tries[name] = tries + 1
        delay = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(tries, 10)) * (1 + self._rng.random() * 0.2)
        self._trouble.retry_at[name] = self.now() + int(delay * SECOND)
        if problem is not None:
            self._trouble.shown[name] = problem


def _find(facts: PodFacts, container: ContainerId) -> ContainerFact | None:
    return next((fact for fact in facts.containers if fact.id == container), None)


def _crash_loop(pod: Pod, name: str, delay: float) -> Waiting:
    message = f"back-off {_duration(delay)} restarting failed container={name} pod={podkeys.format_pod(pod)}"
    return Waiting(Reason.CRASH_LOOP.value, message)


def _duration(seconds: float) -> str:
    """As Go prints it: 10s, 1m20s, 5m0s."""
    whole = round(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
