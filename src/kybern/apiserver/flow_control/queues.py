"""One priority level's fair queues. Time is told by the caller: nothing here waits.

Used by level. A request joins the shortest of its flow's queues (shuffle). Queues are served in the order in which
they would finish if all of them got the same part of the seats at every moment: each has a virtual time at which its
next request would start, which moves by the seat-seconds its requests take. The set's own virtual time `progress`
moves as fast as seats are there for each busy queue; a queue that was idle joins at that time and so has no credit.
Source: KEP-1040 "Fair Queuing for Server Requests".

Promise: never more seats than the limit, but for one request that is wider than the whole limit and runs alone; a
request joins no queue that holds `length` requests already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kybern.apiserver.flow_control.work import GUESS, Work


class Rejected(Exception):
    """A request that cannot even wait."""

    def __init__(self, reason: str) -> None:
        self.reason = reason  # "queue-full", "concurrency-limit"


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits or runs."""

    hand: tuple[int, ...]  # numbers of the queues that its flow may use
    work: Work
    arrived: float
    start: Callable[[], None]  # called when it may run
    about: object = None  # who asks what, for the dump
    queue: Queue | None = None  # None: the level has none
    started: float = -1.0  # -1: it waits
    is_over: bool = False


@dataclass(eq=False, slots=True)
class Queue:
    """Requests in order of arrival, and what of the queue runs."""

    index: int
    waiting: deque[Ticket] = field(default_factory=deque)
    running: int = 0
    seats: int = 0  # of what runs
    waiting_seconds: float = 0.0  # seat-seconds of what waits, by the guess
    next_start: float = 0.0  # virtual

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.running or self.seats)


class QueueSet:
    """All queues of a level, or none: then what finds no seat is rejected."""

    def __init__(self, limit: int, count: int = 0, length: int = 0) -> None:
        self.limit = limit
        self.seats = 0  # in use
        self.running = 0
        self.waiting = 0
        self.waiting_seats = 0
        self.progress = 0.0  # virtual time
        self.queues: list[Queue] = []
        self._length = 0
        self._busy = 0  # queues that are not idle
        self._last = 0.0
        self._turn = 0  # the queue served last: the next of equals comes first
        self._retired: list[Queue] = []
        self.configure(count, length)

    def configure(self, count: int, length: int) -> None:
        """Other queues: what waits goes on waiting where it is, until it is served."""
        self._length = length
        if count == len(self.queues):
            return
        self._retired = [q for q in (*self._retired, *self.queues) if not q.is_idle]
        self.queues = [Queue(index) for index in range(count)]

    @property
    def can_start(self) -> bool:
        """A request of one seat would run at once."""
        return not self.waiting and (self.seats < self.limit or not self.seats)

    def has_room(self, seats: int) -> bool:
        """A request of so many seats would run at once."""
        return not self.waiting and (self.seats + seats <= self.limit or not self.seats)

    # -- what happens to requests --------------------------------------------------------------------------------

    def join(self, ticket: Ticket, now: float) -> None:
        """Let a request wait or run. Its hand holds numbers of queues that there are. Raises Rejected."""
        self._advance(now)
        if not self.queues:
            if not self._fits(ticket):
                raise Rejected("concurrency-limit")
            self._run(ticket, now)
            return
        queue = min((self.queues[i] for i in ticket.hand), key=_load)
        if len(queue.waiting) >= self._length and not (self._fits(ticket) and not self.waiting):
            raise Rejected("queue-full")
        self._enter(queue, ticket)
        queue.waiting.append(ticket)
        queue.waiting_seconds += ticket.work.guess
        self.waiting += 1
        self.waiting_seats += ticket.work.most
        self._serve(now)

    def admit(self, ticket: Ticket, now: float) -> None:
        """Let a request run without a call of its `start`: there are seats, or it was let in before."""
        self._advance(now)
        if self.queues:
            queue = self.queues[ticket.hand[0]]
            self._enter(queue, ticket)
            self._charge(queue, ticket)
        ticket.started = now
        self.running += 1
        self.seats += ticket.work.most

    def leave(self, ticket: Ticket, now: float) -> float:
        """It ends, or gives up waiting. Returns for how many seconds its final seats stay taken: call `free` then."""
        if ticket.is_over:
            return 0.0
        ticket.is_over = True
        self._advance(now)
        queue = ticket.queue
        if ticket.started < 0:
            if queue is not None:
                queue.waiting.remove(ticket)
                self._unwait(queue, ticket)
                self._settle(queue)
            self._serve(now)
            return 0.0
        self.running -= 1
        stays = ticket.work.final_seats if ticket.work.extra > 0 else 0
        self.seats -= ticket.work.most - stays
        if queue is not None:
            queue.running -= 1
            queue.seats -= ticket.work.most - stays
            # The guess becomes what it was.
            queue.next_start += (now - ticket.started - GUESS) * ticket.work.seats
            self._settle(queue)
        self._serve(now)
        return ticket.work.extra if stays else 0.0

    def free(self, ticket: Ticket, now: float) -> None:
        """Its final seats are free again."""
        self._advance(now)
        self.seats -= ticket.work.final_seats
        if ticket.queue is not None:
            ticket.queue.seats -= ticket.work.final_seats
            self._settle(ticket.queue)
        self._serve(now)

    def resize(self, limit: int, now: float) -> None:
        """Another number of seats."""
        self._advance(now)
        self.limit = limit
        self._serve(now)

    # -- inside --------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        if self._busy and now > self._last:
            wanted = self.seats + self.waiting_seats
            self.progress += (now - self._last) * (wanted if wanted < self.limit else self.limit) / self._busy
        self._last = now

    def _enter(self, queue: Queue, ticket: Ticket) -> None:
        if queue.is_idle:
            queue.next_start = self.progress
            self._busy += 1
        ticket.queue = queue

    def _charge(self, queue: Queue, ticket: Ticket) -> None:
        queue.next_start += ticket.work.guess
        queue.running += 1
        queue.seats += ticket.work.most

    def _fits(self, ticket: Ticket) -> bool:
        return self.seats + ticket.work.most <= self.limit or not self.seats

    def _serve(self, now: float) -> None:
        """Start what may start, in order of virtual finish."""
        while self.waiting:
            queue = self._next()
            ticket = queue.waiting[0]
            if not self._fits(ticket):
                return
            queue.waiting.popleft()
            self._unwait(queue, ticket)
            self._turn = queue.index
            self._charge(queue, ticket)
            self._run(ticket, now)

    def _next(self) -> Queue:
        count = len(self.queues)
        best: Queue | None = None
        best_finish = 0.0
        for step in range(count):
            queue = self.queues[(self._turn + 1 + step) % count]
            if queue.waiting:
                finish = queue.next_start + queue.waiting[0].work.guess
                if best is None or finish < best_finish:
                    best, best_finish = queue, finish
        for queue in self._retired:
            if queue.waiting:  # its queue is no more: it has waited long enough
                return queue
        assert best is not None
        return best

    def _run(self, ticket: Ticket, now: float) -> None:
        ticket.started = now
        self.running += 1
        self.seats += ticket.work.most
        ticket.start()

    def _unwait(self, queue: Queue, ticket: Ticket) -> None:
        queue.waiting_seconds -= ticket.work.guess
        self.waiting -= 1
        self.waiting_seats -= ticket.work.most

    def _settle(self, queue: Queue) -> None:
        """A queue without requests is out of the race, once its last seats are free."""
        if queue.is_idle:
            queue.waiting_seconds = 0.0  # what rounding left
            self._busy -= 1


def _load(queue: Queue) -> tuple[float, int]:
    return queue.waiting_seconds, queue.seats
