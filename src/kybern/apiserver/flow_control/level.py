"""One priority level at work: its queues, what it counted, and the seats of its requests.

Made by control for each PriorityLevelConfiguration; read by numbers and debug.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kybern.api.flowcontrol_v1 import PriorityLevelConfiguration
from kybern.apiserver.flow_control import shares, work
from kybern.apiserver.flow_control.demand import Demand
from kybern.apiserver.flow_control.queues import QueueSet, Rejected, Ticket
from kybern.machinery.clock import Clock
from kybern.machinery.metrics import Series

WAIT_BOUNDS = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)
SEAT_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 100)
LENGTH_BOUNDS = (0, 10, 25, 50, 100, 250, 500, 1000)
WATCH_BOUNDS = (0, 1, 10, 100, 1000, 10000)


@dataclass(eq=False, slots=True)
class Counts:
    """What was counted of one flow schema in one level."""

    schema: str
    level: str
    quick: int = 0  # requests that ran at once in one seat
    dispatched: int = 0  # the others that ran
    rejected: dict[str, int] = field(default_factory=dict)  # by reason
    running: int = 0
    running_seats: int = 0
    waiting: int = 0
    waiting_seats: int = 0
    waits: Series = field(default_factory=lambda: Series(WAIT_BOUNDS))
    waits_in_vain: Series = field(default_factory=lambda: Series(WAIT_BOUNDS))
    runs: Series = field(default_factory=lambda: Series(WAIT_BOUNDS))
    watch_runs: Series = field(default_factory=lambda: Series(WAIT_BOUNDS))
    seats: Series = field(default_factory=lambda: Series(SEAT_BOUNDS))
    lengths: Series = field(default_factory=lambda: Series(LENGTH_BOUNDS))
    watches: Series = field(default_factory=lambda: Series(WATCH_BOUNDS))


class Level:
    """A priority level. An exempt one has no queues: all its requests run."""

    def __init__(self, obj: PriorityLevelConfiguration, clock: Clock) -> None:
        self.name: str = obj.metadata.name
        self.uid: str = obj.metadata.uid
        self.is_exempt = obj.spec.type == "Exempt"
        self.limits = shares.Limits(0, 0, 0, self.is_exempt)
        self.most_seats = 1
        self.hand = 0
        self.queues = QueueSet(0)
        self.demand = Demand(clock.monotonic())
        self.smoothed = shares.Smoothed()
        self.target = 0.0
        self.counts: dict[str, Counts] = {}
        self.tickets: set[Seat] = set()  # of requests that wait or run, for the dump
        self._clock = clock
        self.apply(obj)

    def apply(self, obj: PriorityLevelConfiguration) -> None:
        """Take a changed configuration."""
        self.uid = obj.metadata.uid
        limited = obj.spec.limited
        response = limited.limitResponse if limited is not None else None
        queuing = response.queuing if response is not None and response.type == "Queue" else None
        if queuing is None:
            self.hand = 0
            self.queues.configure(0, 0)
        else:
            count = queuing.queues or 1
            self.hand = min(queuing.handSize or 1, count)
            self.queues.configure(count, queuing.queueLengthLimit or 50)

    def entitle(self, limits: shares.Limits) -> None:
        """Take the seats of a changed configuration."""
        if limits == self.limits and self.queues.limit:
            return
        self.limits = limits
        self.most_seats = work.most_seats(limits.nominal)
        self.resize(limits.nominal)

    def resize(self, limit: int) -> None:
        self.queues.resize(limit, self._clock.monotonic())

    def counts_of(self, schema: str) -> Counts:
        found = self.counts.get(schema)
        if found is None:
            found = self.counts[schema] = Counts(schema, self.name)
        return found

    @property
    def is_idle(self) -> bool:
        return not self.tickets

    def note(self) -> None:
        """Its seats or its queues have changed."""
        self.demand.set(self.queues.seats + self.queues.waiting_seats, self._clock.monotonic())


class Seat:
    """A request's place in a level, from when it joins until it is released."""

    __slots__ = ("_clock", "_counts", "_is_watch", "level", "ticket", "waiter")

    def __init__(
        self, level: Level, counts: Counts, hand: tuple[int, ...], wanted: work.Work, about: Any, clock: Clock
    ) -> None:
        self.level = level
        self.waiter: asyncio.Future[None] | None = None  # resolved when the request may run
        self.ticket = Ticket(hand, wanted, clock.monotonic(), self._started, about)
        self._counts = counts
        self._clock = clock
        self._is_watch = about.info.verb == "watch"

    def join(self) -> bool:
        """Whether it may run at once; if not, it waits. Raises Rejected."""
        level, counts, ticket = self.level, self._counts, self.ticket
        counts.seats.observe(ticket.work.most)
        counts.waiting += 1
        counts.waiting_seats += ticket.work.most
        level.tickets.add(self)
        try:
            level.queues.join(ticket, ticket.arrived)
        except Rejected as rejected:
            self.give_up(rejected.reason)
            raise
        if ticket.queue is not None:
            counts.lengths.observe(len(ticket.queue.waiting))
        level.note()
        return self.is_running

    def admit(self) -> None:
        """Run, seats or not: there are some, or it was let in before."""
        counts, ticket, queues = self._counts, self.ticket, self.level.queues
        seats = ticket.work.most
        counts.running += 1
        counts.running_seats += seats
        if seats == 1:
            counts.quick += 1
        else:
            counts.dispatched += 1
            counts.seats.observe(seats)
            counts.waits.observe(0)
        self.level.tickets.add(self)
        if self.level.is_exempt:
            ticket.started = ticket.arrived
            queues.running += 1
            queues.seats += 1
        else:
            queues.admit(ticket, ticket.arrived)
        self.level.demand.set(queues.seats + queues.waiting_seats, ticket.arrived)

    @property
    def is_running(self) -> bool:
        return self.ticket.started >= 0

    def _started(self) -> None:
        counts, seats = self._counts, self.ticket.work.most
        counts.waiting -= 1
        counts.waiting_seats -= seats
        counts.running += 1
        counts.running_seats += seats
        counts.dispatched += 1
        counts.waits.observe(self.ticket.started - self.ticket.arrived)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def give_up(self, reason: str) -> None:
        """It was refused, waited too long, or went away before it ran."""
        counts, now = self._counts, self._clock.monotonic()
        counts.waiting -= 1
        counts.waiting_seats -= self.ticket.work.most
        counts.rejected[reason] = counts.rejected.get(reason, 0) + 1
        counts.waits_in_vain.observe(now - self.ticket.arrived)
        self.level.tickets.discard(self)
        if self.ticket.queue is not None:
            self.level.queues.leave(self.ticket, now)
        self.level.note()
        self._forget()

    def release(self) -> None:
        """The request is over (or, of a watch, all is told that was). Once is enough, more do no harm."""
        ticket, level = self.ticket, self.level
        if ticket.is_over:
            return
        counts, now = self._counts, self._clock.monotonic()
        counts.running -= 1
        counts.running_seats -= ticket.work.most
        (counts.watch_runs if self._is_watch else counts.runs).observe(now - ticket.started)
        level.tickets.discard(self)
        if level.is_exempt:
            ticket.is_over = True
            level.queues.running -= 1
            level.queues.seats -= 1
        else:
            extra = level.queues.leave(ticket, now)
            if extra > 0:
                asyncio.get_running_loop().call_later(extra, self._free)
        level.demand.set(level.queues.seats + level.queues.waiting_seats, now)
        self._forget()

    def _forget(self) -> None:
        """Break the circle of request, seat and ticket: nothing need wait for the collector."""
        self.ticket.about = None
        self.ticket.start = _nothing

    def _free(self) -> None:
        self.level.queues.free(self.ticket, self._clock.monotonic())
        self.level.note()


def _nothing() -> None:
    """What a ticket that is over starts."""
