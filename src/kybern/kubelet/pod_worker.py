"""One pod from its first sight to its last trace: look, decide, report, act, wait.

Made by pod_workers, one a pod UID. Each turn inspects the runtime, generates the status, plans, and lets apply
carry out the orders in a task beside, so that the status keeps up with what happens meanwhile.
Promises: one set of orders at a time; once a pod is ending nothing of it is started again; the API object is
deleted only when nothing runs, its files are gone and its last status was sent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

import structlog
from msgspec import structs

from kybern.api import scalars
from kybern.api.core_v1 import Pod, PodStatus
from kybern.client.rest import RestClient
from kybern.kubelet import objects, podkeys, waiting
from kybern.kubelet.admission import Room, admit
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import CriError
from kybern.kubelet.failures import Rejected
from kybern.kubelet.podkeys import PodUid
from kybern.kubelet.probes.worker import PodProber
from kybern.kubelet.status import generate
from kybern.kubelet.status.containers import View
from kybern.kubelet.status.generate import OWN_CONDITIONS, Context, Verdict
from kybern.kubelet.status.sender import StatusSender
from kybern.kubelet.sync import backoff, plan, remains
from kybern.kubelet.sync.apply import Applier, PodWork
from kybern.kubelet.sync.facts import Inspector, PodFacts
from kybern.kubelet.sync.grant import Grant
from kybern.kubelet.sync.refresh import ContentRefresh
from kybern.kubelet.sync.remains import LastWords
from kybern.kubelet.sync.runner import OrderRunner
from kybern.kubelet.volumes.tokens import TokenSource
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

SECOND = 10**9
RESYNC = 60.0  # a turn at least this often
VANISHED_GRACE = 1  # seconds for a pod that is gone from the API already

log = structlog.get_logger(__name__)


class Stage(Enum):
    SYNCING = "syncing"  # the pod should run
    TERMINATING = "terminating"  # what runs of it is being ended
    TERMINATED = "terminated"  # nothing of it runs; its remains wait for the API object to go
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every worker works with."""

    applier: Applier
    inspector: Inspector
    sender: StatusSender
    client: RestClient
    tokens: TokenSource
    clock: Clock
    rng: random.Random
    node_ips: tuple[str, ...]
    runtime: str  # "containerd"
    room: Callable[[PodUid], Room]
    on_gone: Callable[[PodUid], None]
    limits: backoff.Limits = backoff.DEFAULT


class PodWorker:
    """See the module's docstring."""

    def __init__(self, pod: Pod, tools: Tools, mirror: Pod | None = None) -> None:
        self.uid = podkeys.uid_of(pod)
        self.pod = pod  # as its source last told
        self.mirror = mirror  # the API's picture of a static pod
        self.stage = Stage.SYNCING
        self.status: PodStatus | None = None  # as last generated
        self.is_admitted = False
        self._tools = tools
        self._wake = asyncio.Event()
        applier, clock = tools.applier, tools.clock
        work = self._work = PodWork()
        self._grant = Grant(applier.volumes.directory(self.uid) / "resources.json")
        self._runner = OrderRunner(applier, work, self._grant, clock, tools.rng, tools.limits)
        self._refresh = ContentRefresh(self.uid, applier, work, tools.tokens, clock)
        self._words = LastWords(pod, applier)
        self._applying: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._prober: PodProber | None = None
        self._verdict: Verdict | None = None
        self._kill_grace: int | None = None  # of the kill under way
        self._has_vanished = False  # from its source
        self._was_rejected = False
        self._is_cleaned = False
        self._asked_deletion = False
        self._start_time = pod.status.startTime
        self._seen_at = clock.monotonic() if self._start_time is None else None  # until it runs, for the metric

    # What happens to the pod. Synchronous: it is noted, and the loop wakes.

    def update(self, pod: Pod) -> None:
        """The source told of a newer version."""
        old, self.pod = self.pod, pod
        if _is_news(old, pod):
            self._runner.retry_now()
            self._refresh.note_change()
        self._wake.set()

    def vanish(self) -> None:
        """The source no longer has the pod."""
        self._has_vanished = True
        self._wake.set()

    def poke(self) -> None:
        """Something happened in the runtime."""
        self._wake.set()

    def refresh(self) -> None:
        """A ConfigMap or Secret the pod uses has changed."""
        self._runner.retry_now()
        self._refresh.note_change()
        self._wake.set()

    def end(self, verdict: Verdict) -> None:
        """Evict it: it becomes Failed with this reason."""
        if self._verdict is None and self.stage is Stage.SYNCING:
            self._verdict = verdict
            self._tools.applier.recorder.event(self.pod, "Warning", verdict.reason, verdict.message)
        self._wake.set()

    def reborn(self) -> PodWorker:
        """A worker that knows what this one was told, and nothing of what it did."""
        fresh = PodWorker(self.pod, self._tools, self.mirror)
        fresh.is_admitted = self.is_admitted
        if self._has_vanished:
            fresh.vanish()
        return fresh

    @property
    def is_ending(self) -> bool:
        return self.stage is not Stage.SYNCING

    def granted(self) -> Pod:
        """The pod with the resources this node gave it, for counting."""
        return self._grant.granted(self.pod)

    def shown(self) -> Pod:
        """The pod with the newest status, read-only."""
        if self.status is None:
            return self.pod
        return structs.replace(self.pod, status=self.status)

    # The loop.

    async def run(self) -> None:
        """Until the pod is gone."""
        tools = self._tools
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._prober = PodProber(tools.applier.cri, tools.applier.recorder, tools.clock, tasks, self._wake.set)
            while True:
                self._wake.clear()
                delay = await self._safe_turn()
                if self.stage is Stage.GONE:
                    break
                await waiting.wait_for(self._wake, delay, tools.clock)
            self._prober.stop()
            if self._applying is not None:
                self._applying.cancel()
        tools.applier.references.release(self.uid)
        tools.tokens.forget(self.uid)
        tools.applier.images.forget(self.uid)
        tools.on_gone(self.uid)

    async def _safe_turn(self) -> float:
        """Supervised: one pod's trouble is its own."""
        try:
            return await self._turn()
        except CriError as error:
            log.warning("the runtime did not answer", pod=podkeys.key_of(self.pod), error=str(error))
        except Exception:
            log.exception("a turn of a pod failed", pod=podkeys.key_of(self.pod), stage=self.stage.value)
        return 1.0 + self._tools.rng.random()

    async def _turn(self) -> float:
        """Seconds until the next turn is due anyway."""
        tools = self._tools
        facts = await tools.inspector.inspect(self.uid)
        await self._words.collect(self.pod, facts)
        pod = self._base()
        if self.stage is Stage.SYNCING and not self.is_admitted:
            self._admit(pod, facts)
        if self.is_admitted:
            room = tools.room(self.uid) if self.stage is Stage.SYNCING else None
            pod = await self._grant.apply_to(pod, facts, room)
        self._advance(pod, facts)
        if self.stage is Stage.SYNCING:
            tools.applier.references.refer(self.uid, objects.references_of(pod))
        if self.stage is Stage.SYNCING or self.stage is Stage.TERMINATING:
            assert self._prober is not None
            self._prober.observe(pod, facts, self._ip(pod, facts))
        assert self._prober is not None
        chosen = self._runner.plan_next(pod, facts, self._prober) if self.stage is Stage.SYNCING else plan.Plan()
        self._report(pod, facts)
        match self.stage:
            case Stage.SYNCING:
                return self._sync(pod, facts, chosen)
            case Stage.TERMINATING:
                return self._terminate(pod, facts)
            case Stage.TERMINATED:
                return await self._finish(pod, facts)
            case Stage.GONE:
                return 0.0
            case _:
                assert_never(self.stage)

    def _base(self) -> Pod:
        """The pod with what is last known of its status: ours, and the conditions of others as the API has them."""
        api = self.mirror if self.mirror is not None else self.pod
        if self.status is None:
            return structs.replace(self.pod, status=api.status)
        foreign = [c for c in api.status.conditions if c.type not in OWN_CONDITIONS]
        own = [c for c in self.status.conditions if c.type in OWN_CONDITIONS or c.type == "DisruptionTarget"]
        kinds = {c.type for c in own}
        conditions = own + [c for c in foreign if c.type not in kinds]
        return structs.replace(self.pod, status=structs.replace(self.status, conditions=conditions))

    def _ip(self, pod: Pod, facts: PodFacts) -> str:
        if pod.spec.hostNetwork:
            return self._tools.node_ips[0] if self._tools.node_ips else ""
        sandbox = facts.ready_sandbox
        return sandbox.ips[0] if sandbox is not None and sandbox.ips else ""

    # Stages.

    def _admit(self, pod: Pod, facts: PodFacts) -> None:
        if pod.status.startTime is not None or not facts.is_empty or self._is_over_already(pod):
            self.is_admitted = True  # this node took it before
            return
        if pod.metadata.deletionTimestamp or self._has_vanished:
            return
        try:
            admit(pod, self._tools.room(self.uid))
        except Rejected as rejected:
            self._was_rejected = True
            self._verdict = Verdict(rejected.reason, f"Pod was rejected: {rejected.message}")
            self._tools.applier.recorder.event(pod, "Warning", rejected.reason, rejected.message)
            return
        self.is_admitted = True

    @staticmethod
    def _is_over_already(pod: Pod) -> bool:
        return pod.status.phase in (generate.SUCCEEDED, generate.FAILED)

    def _advance(self, pod: Pod, facts: PodFacts) -> None:
        """Move to the next stage when it is time."""
        if self.stage is Stage.SYNCING:
            self._check_deadline(pod)
            if (
                pod.metadata.deletionTimestamp
                or self._has_vanished
                or self._verdict is not None
                or self._is_over_already(pod)
                or (facts.containers and plan.is_finished(pod, facts))
            ):
                self.stage = Stage.TERMINATING
                if self._prober is not None:
                    self._prober.stop(("startup", "liveness"))
                if self._applying is not None:
                    self._applying.cancel()
        if self.stage is Stage.TERMINATING and self._applying is None and not _has_live_parts(facts):
            self.stage = Stage.TERMINATED
            if self._prober is not None:
                self._prober.stop()

    def _check_deadline(self, pod: Pod) -> None:
        left = self._deadline_in(pod)
        if left is not None and left <= 0 and self._verdict is None:
            message = "Pod was active on the node longer than the specified deadline"
            self._verdict = Verdict("DeadlineExceeded", message)
            self._tools.applier.recorder.event(pod, "Normal", "DeadlineExceeded", message)

    def _deadline_in(self, pod: Pod) -> float | None:
        seconds, start = pod.spec.activeDeadlineSeconds, pod.status.startTime or self._start_time
        if seconds is None or start is None:
            return None
        return (scalars.parse_time(start) - self._tools.clock.now()).total_seconds() + seconds

    # Status.

    def _report(self, pod: Pod, facts: PodFacts) -> None:
        now = scalars.render_time(self._tools.clock.now())
        if self._start_time is None:
            self._start_time = now
        if self._was_rejected and self._verdict is not None:
            self.status = generate.rejected(pod, self._verdict)
        else:
            self.status = generate.generate(pod, facts, self._context(pod, facts, now))
        if self._seen_at is not None and self.status.phase == generate.RUNNING:
            self._tools.applier.metrics.observe_pod_start(self._tools.clock.monotonic() - self._seen_at)
            self._seen_at = None
        identity = self.mirror if podkeys.is_static(self.pod) else self.pod
        if identity is None or self._has_vanished:
            return
        self._tools.sender.offer(
            PodUid(identity.metadata.uid), identity.metadata.namespace, identity.metadata.name, self.status
        )

    def _context(self, pod: Pod, facts: PodFacts, now: scalars.Time) -> Context:
        assert self._prober is not None
        is_over = self.stage is Stage.TERMINATED
        view = View(
            runtime=self._tools.runtime,
            started=self._prober.started(facts, pod),
            ready=self._prober.ready(facts, pod),
            waiting=self._runner.waiting(),
            messages=self._words.by_id,
            resources={fact.name: self._grant.applied(fact) for fact in facts.running},
            is_over=is_over,
        )
        return Context(
            now=now,
            node_ips=self._tools.node_ips,
            view=view,
            start_time=self._start_time,
            is_over=is_over,
            verdict=self._verdict,
            resize=self._grant.conditions(pod, facts) if self.stage is Stage.SYNCING else (),
            pod_resources=self._grant.applied_pod,
        )

    # While it should run.

    def _sync(self, pod: Pod, facts: PodFacts, chosen: plan.Plan) -> float:
        if self._applying is None and chosen.orders:
            assert self._tasks is not None
            self._applying = self._tasks.create_task(
                self._apply(pod, facts, chosen.orders), name=f"apply:{podkeys.key_of(pod)}"
            )
        if self._refresh.is_due(facts):
            assert self._tasks is not None
            self._tasks.create_task(self._bring_up_to_date(pod, facts), name=f"refresh:{podkeys.key_of(pod)}")
        waits = [RESYNC + self._tools.rng.random() * 10]
        if self._applying is None and chosen.wake_at is not None:
            waits.append(max(0.0, (chosen.wake_at - self._runner.now()) / SECOND) + 0.01)
        deadline = self._deadline_in(pod)
        if deadline is not None:
            waits.append(max(0.0, deadline) + 0.01)
        refresh = self._refresh.due_in()
        if refresh is not None:
            waits.append(refresh)
        return min(waits)

    async def _apply(self, pod: Pod, facts: PodFacts, orders: Sequence[plan.Order]) -> None:
        try:
            await self._runner.run(pod, facts, orders)
        finally:
            self._applying = None
            self._wake.set()

    async def _bring_up_to_date(self, pod: Pod, facts: PodFacts) -> None:
        await self._refresh.run(pod, facts, self._tools.node_ips)
        self._wake.set()

    # While it ends.

    def _grace(self, pod: Pod) -> int:
        if self._verdict is not None and self._verdict.grace is not None:
            return self._verdict.grace
        if self._has_vanished and not pod.metadata.deletionTimestamp:
            return VANISHED_GRACE
        if pod.metadata.deletionTimestamp:
            return max(1, podkeys.grace_of(pod))
        return podkeys.grace_of(pod)

    def _terminate(self, pod: Pod, facts: PodFacts) -> float:
        grace = self._grace(pod)
        if self._applying is not None:
            if self._kill_grace is not None and grace < self._kill_grace:
                self._applying.cancel()  # a shorter grace period: stop waiting the long one
            return RESYNC
        assert self._tasks is not None
        self._kill_grace = grace
        self._applying = self._tasks.create_task(self._kill(pod, facts, grace), name=f"kill:{podkeys.key_of(pod)}")
        return RESYNC

    async def _kill(self, pod: Pod, facts: PodFacts, grace: int) -> None:
        """Supervised: tried again until nothing runs."""
        try:
            await self._tools.applier.kill_pod(pod, self._work, facts, grace)
        except Exception as error:
            log.warning("ending a pod failed", pod=podkeys.key_of(pod), error=str(error))
            await self._tools.clock.sleep(1.0)
        finally:
            self._applying = None
            self._kill_grace = None
            self._wake.set()

    # When it has ended.

    async def _finish(self, pod: Pod, facts: PodFacts) -> float:
        """Take away what the pod leaves; let the API object go if it is to be deleted."""
        applier = self._tools.applier
        if not self._is_cleaned:
            try:
                await remains.clean_up(applier, self.uid)
            except OSError as error:
                log.warning("could not clean up after a pod", pod=podkeys.key_of(pod), error=str(error))
                return 1.0
            self._is_cleaned = True
            applier.references.release(self.uid)
        if self._has_vanished:
            await remains.remove(applier, pod, facts)
            self.stage = Stage.GONE
            return 0.0
        if pod.metadata.deletionTimestamp and not self._asked_deletion and not podkeys.is_static(pod):
            return await self._delete(pod)
        return RESYNC

    async def _delete(self, pod: Pod) -> float:
        await self._tools.sender.wait_sent(self.uid)
        try:
            await self._tools.client.delete(
                Pod, pod.metadata.namespace, pod.metadata.name, uid=pod.metadata.uid, grace_period=0
            )
        except ApiError as error:
            if not error.is_not_found and not error.is_conflict:
                log.warning("could not delete a pod that has ended", pod=podkeys.key_of(pod), error=str(error))
                return 1.0
            self._has_vanished = True
            self._wake.set()
        self._asked_deletion = True
        return RESYNC


def _has_live_parts(facts: PodFacts) -> bool:
    return bool(facts.running) or any(s.sandbox.state is contract.SandboxState.READY for s in facts.sandboxes)


def _is_news(old: Pod, new: Pod) -> bool:
    """Did more than the status change?"""
    return (
        old.metadata.generation != new.metadata.generation
        or old.metadata.labels != new.metadata.labels
        or old.metadata.annotations != new.metadata.annotations
        or old.spec != new.spec
    )
