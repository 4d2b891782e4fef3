"""One turn of one pod: the kubelet's decisions, carried out by a runtime that is a function. Pure.

Called by node for each change of a pod and when a turn asked to be woken. Orders are kubelet/sync/plan's, the status is
kubelet/status/generate's. Promise: a turn on the pod as the last turn made it says nothing new, except with time.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from kybern.api import scalars
from kybern.api.core_v1 import Pod, PodStatus
from kybern.kubelet.status import generate
from kybern.kubelet.status.containers import View
from kybern.kubelet.sync import plan
from kybern.kubelet.sync.facts import PodFacts
from kybern.simulated import runtime

SECOND = 10**9
MOST_ROUNDS = 64  # of planning in one turn: a round starts at least one container


@dataclass(frozen=True, slots=True)
class Habits:
    """How long things take; seconds."""

    start: float = 0.5  # from the first sight of a pod until its containers run
    stop: float = 0.2  # from its deletion until nothing of it runs
    run: float = 1.0  # of containers that are to end


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod is."""

    node_ips: tuple[str, ...]
    pod_ip: str  # "": none could be had


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes of a look at a pod."""

    status: PodStatus | None = None  # to be told where it differs from the pod's
    wake_after: float | None = None  # seconds
    is_over: bool = False  # its API object may go


def plan_turn(pod: Pod, place: Place, habits: Habits, now: datetime.datetime, seen_for: float) -> Turn:
    """`seen_for`: seconds since the node first saw the pod, or first saw it deleted."""
    facts = runtime.recall(pod)
    moment = int(now.timestamp() * SECOND)
    if pod.metadata.deletionTimestamp is not None:
        return _end(pod, facts, place, habits, moment, seen_for)
    if pod.status.phase in (generate.SUCCEEDED, generate.FAILED):
        return Turn()
    if facts.is_empty and seen_for < habits.start:
        return Turn(_status(pod, facts, place, moment), habits.start - seen_for)
    facts = _run(pod, facts, place, moment)
    ending = [fact for fact in facts.running if _is_to_end(pod, fact.name)]
    if not ending:
        return Turn(_status(pod, facts, place, moment))
    due = [fact.name for fact in ending if moment - fact.status.started_at >= habits.run * SECOND]
    facts = runtime.finish(facts, due, moment)
    left = [fact.status.started_at + habits.run * SECOND - moment for fact in ending if fact.name not in due]
    is_over = bool(facts.containers) and plan.is_finished(pod, facts)
    return Turn(_status(pod, facts, place, moment, is_over=is_over), min(left) / SECOND if left else None)


def _end(pod: Pod, facts: PodFacts, place: Place, habits: Habits, now: int, seen_for: float) -> Turn:
    if facts.running and seen_for < habits.stop and pod.metadata.deletionGracePeriodSeconds != 0:
        return Turn(None, habits.stop - seen_for)
    return Turn(_status(pod, runtime.stop(facts, now), place, now, is_over=True), is_over=True)


def _run(pod: Pod, facts: PodFacts, place: Place, now: int) -> PodFacts:
    """Carry out what the kubelet would order until it orders nothing more."""
    for _ in range(MOST_ROUNDS):
        started = frozenset(fact.id for fact in facts.running)
        orders = plan.plan_sync(
            pod, facts, plan.Signals(now=now, started=started, applied_pod=pod.spec.resources)
        ).orders
        if not orders:
            break
        facts = runtime.carry_out(pod, facts, orders, now, place.pod_ip)
    return facts


def _is_to_end(pod: Pod, name: str) -> bool:
    """Regular containers of pods that are not to run for ever."""
    return any(
        c.name == name and (c.restartPolicy or pod.spec.restartPolicy) in ("Never", "OnFailure")
        for c in pod.spec.containers
    )


def _status(pod: Pod, facts: PodFacts, place: Place, now: int, *, is_over: bool = False) -> PodStatus:
    running = frozenset(fact.id for fact in facts.running)
    context = generate.Context(
        now=scalars.render_time(datetime.datetime.fromtimestamp(now // SECOND, datetime.UTC)),
        node_ips=place.node_ips,
        view=View(runtime=runtime.NAME, started=running, ready=running, is_over=is_over),
        is_over=is_over,
        pod_resources=pod.spec.resources,
    )
    return generate.generate(pod, facts, context)
