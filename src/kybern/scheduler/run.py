"""The loop: take a pod from the queue, decide, assume, and bind in the background. Started by process/scheduler.

Decisions are made one at a time and never wait; only writes do. Keeps the last decisions as records of why.
"""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Iterable

import structlog

from kybern.client.informer import Informers
from kybern.client.recorder import EventRecorder
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.scheduler import cycle, preempt
from kybern.scheduler.bind import Binder, VolumesNotBound
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.cycle import Decision
from kybern.scheduler.feed import Feed
from kybern.scheduler.metrics import Metrics
from kybern.scheduler.plugins.volume_binding import BindVolume
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.profile import DEFAULT_SCHEDULER, FILTERS, Profile
from kybern.scheduler.queue import Entry, PodQueue

RECORDS = 1000
TICK = 0.5  # seconds between looks at what has waited long enough
TURN = 16  # decisions in a row before others get the loop

log = structlog.get_logger(__name__)


class Scheduler:
    """One scheduler with its profiles."""

    def __init__(
        self,
        client: RestClient,
        informers: Informers,
        clock: Clock,
        rng: random.Random,
        profiles: Iterable[Profile],
    ) -> None:
        self.profiles = {p.name: p for p in profiles}
        self.cluster = Cluster()
        rules = {f.name: f for p in self.profiles.values() for f in p.filters} or {f.name: f for f in FILTERS}
        self.queue = PodQueue(clock, tuple(rules.values()))
        self.feed = Feed(self.cluster, self.queue, clock, frozenset(self.profiles))
        self.records: collections.OrderedDict[str, Decision] = collections.OrderedDict()  # by uid, newest last
        self.metrics = Metrics()
        self._began: dict[str, float] = {}  # when the attempt under way began, by uid
        self._informers = informers
        self._clock = clock
        self._rng = rng
        self._recorder = EventRecorder(client, clock, next(iter(self.profiles), DEFAULT_SCHEDULER))
        self._binder = Binder(client, self._recorder, clock)
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Place pods until cancelled."""
        self.feed.attach(self._informers)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._informers.run(), name="informers")
            tasks.create_task(self._recorder.run(), name="events")
            await self._informers.wait_synced()
            log.info("scheduling", nodes=len(self.cluster.snapshot), waiting=len(self.queue))
            tasks.create_task(self._tick(), name="tick")
            tasks.create_task(self._loop(), name="decisions")

    def why(self, uid: str) -> Decision | None:
        """The last decision about a pod."""
        return self.records.get(uid)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            self.queue.tick()
            self.feed.expire()

    async def _loop(self) -> None:
        turn = 0
        while True:
            entry = await self.queue.pop()
            try:
                self._place(entry)
            except Exception as error:
                # A supervised place: a fault in one decision must not end all others.
                log.exception("could not decide about a pod", pod=entry.pod.key)
                self._failed(entry.pod, "SchedulerError", str(error), frozenset(), is_error=True)
            turn += 1
            if turn % TURN == 0:
                await asyncio.sleep(0)

    def _place(self, entry: Entry) -> None:
        pod = entry.pod
        profile = self.profiles[pod.pod.spec.schedulerName or DEFAULT_SCHEDULER]
        self._began[pod.uid] = self._clock.monotonic()
        decision, outcome = cycle.decide(pod, self.cluster, profile, self._rng)
        if decision.node:
            self._keep(pod, decision)
            self._start_binding(pod, decision, entry.attempts)
            return
        preemption = preempt.plan_preemption(pod, self.cluster, outcome, profile.filters)
        message = cycle.render_failure(decision.nodes, outcome, preemption.message)
        self._keep(pod, Decision(pod.key, "", decision.nodes, 0, decision.reasons, message=message))
        if preemption.node:
            self._start_preemption(pod, preemption, profile, message, decision.plugins)
            return
        # A node kept earlier is given up once nothing there can help any more.
        waits = preemption.message == preempt.WAITING
        if not waits:
            self.cluster.nominate(pod, "")
        self._failed(pod, "Unschedulable", message, decision.plugins, nominated=None if waits else "")

    # success
    def _start_binding(self, pod: PodInfo, decision: Decision, tries: int) -> None:
        self.feed.assume(pod, decision.node)
        for step in decision.volumes:
            if isinstance(step, BindVolume):
                self.cluster.promised_volumes[step.volume] = f"{step.namespace}/{step.claim}"
        self._spawn(self._bind(pod, decision, tries), f"bind:{pod.key}")

    async def _bind(self, pod: PodInfo, decision: Decision, tries: int) -> None:
        try:
            if decision.volumes:
                await self._binder.bind_volumes(pod, decision.volumes, self.cluster)
            await self._binder.bind(pod, decision.node)
        except (ApiError, VolumesNotBound) as error:
            self._binding_failed(pod, error)
        else:
            self._end(pod, "scheduled")
            self.metrics.tries.observe(tries)
            self.feed.bound(pod)
            log.info("bound", pod=pod.key, node=decision.node, feasible=decision.feasible, nodes=decision.nodes)
        finally:
            for step in decision.volumes:
                if isinstance(step, BindVolume):
                    self.cluster.promised_volumes.pop(step.volume, None)

    def _binding_failed(self, pod: PodInfo, error: ApiError | VolumesNotBound) -> None:
        self.feed.forget(pod)
        if isinstance(error, ApiError) and error.is_not_found:
            self._began.pop(pod.uid, None)
            self.queue.remove(pod.uid)  # gone meanwhile
            return
        log.warning("could not bind a pod", pod=pod.key, error=str(error))
        self._failed(pod, "SchedulerError", f"binding rejected: {error}", frozenset(), is_error=True)

    # failure
    def _failed(
        self,
        pod: PodInfo,
        reason: str,
        message: str,
        plugins: frozenset[str],
        *,
        nominated: str | None = None,
        is_error: bool = False,
    ) -> None:
        self._end(pod, "error" if is_error else "unschedulable")
        self.queue.fail(pod.uid, plugins, is_error=is_error)
        self._recorder.event(pod.reference(), "Warning", "FailedScheduling", message)
        self._spawn(self._explain(pod, reason, message, nominated), f"explain:{pod.key}")

    async def _explain(self, pod: PodInfo, reason: str, message: str, nominated: str | None) -> None:
        try:
            await self._binder.explain(pod, reason, message, nominated)
        except ApiError as error:
            if not error.is_not_found:
                log.warning("could not write a pod's condition", pod=pod.key, error=str(error))

    def _end(self, pod: PodInfo, result: str) -> None:
        """An attempt to place a pod is over."""
        now = self._clock.monotonic()
        profile = pod.pod.spec.schedulerName or DEFAULT_SCHEDULER
        self.metrics.end(profile, result, now - self._began.pop(pod.uid, now))

    # preemption
    def _start_preemption(
        self,
        pod: PodInfo,
        preemption: preempt.Preemption,
        profile: Profile,
        message: str,
        plugins: frozenset[str],
    ) -> None:
        self.metrics.preemptions.add()
        self.metrics.victims.observe(len(preemption.victims))
        self.cluster.nominate(pod, preemption.node)
        # Those promised the same node who are less important must look again.
        for other in list(self.cluster.nominated.get(preemption.node, {}).values()):
            if other.priority < pod.priority:
                self.cluster.nominate(other, "")
                self.queue.activate(other.uid)
        self._failed(pod, "Unschedulable", message, plugins, nominated=preemption.node)
        self._spawn(self._preempt(pod, preemption, profile), f"preempt:{pod.key}")

    async def _preempt(self, pod: PodInfo, preemption: preempt.Preemption, profile: Profile) -> None:
        results = await asyncio.gather(
            *(self._binder.evict(v, pod, preemption.node, profile.name) for v in preemption.victims),
            return_exceptions=True,
        )
        faults = [r for r in results if isinstance(r, ApiError)]
        for other in (r for r in results if isinstance(r, BaseException) and not isinstance(r, ApiError)):
            raise other
        if faults:
            log.warning("could not evict victims", pod=pod.key, node=preemption.node, error=str(faults[0]))
            self.cluster.nominate(pod, "")
            self.queue.activate(pod.uid)

    def _keep(self, pod: PodInfo, decision: Decision) -> None:
        self.records[pod.uid] = decision
        self.records.move_to_end(pod.uid)
        if len(self.records) > RECORDS:
            self.records.popitem(last=False)

    def _spawn(self, work: collections.abc.Coroutine[None, None, None], name: str) -> None:
        assert self._tasks is not None, "run starts the loop"
        self._tasks.create_task(work, name=name)
