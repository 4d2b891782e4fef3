import random

import pytest

from kybern.apiserver.flow_control import shuffle
from kybern.apiserver.flow_control.queues import QueueSet, Rejected, Ticket
from kybern.apiserver.flow_control.work import Work


class World:
    """A queue set with a clock; `started` tells the flows of requests in the order in which they ran."""

    def __init__(self, limit: int, queues: int = 8, hand: int = 2, length: int = 50) -> None:
        self.set = QueueSet(limit, queues, length)
        self.now = 0.0
        self.started: list[str] = []
        self._hand = min(hand, queues)

    def ask(self, flow: str, work: Work | None = None) -> Ticket:
        count = len(self.set.queues)
        hand = shuffle.deal(shuffle.fingerprint("s", flow), count, self._hand) if count else ()
        ticket = Ticket(hand, work or Work(), self.now, lambda: self.started.append(flow))
        self.set.join(ticket, self.now)
        return ticket

    def end(self, ticket: Ticket) -> float:
        return self.set.leave(ticket, self.now)


def test_requests_run_while_there_are_seats_and_wait_then() -> None:
    world = World(2)
    first, second, third = world.ask("a"), world.ask("a"), world.ask("a")
    assert (first.started, second.started, third.started) == (0, 0, -1)
    assert not world.set.can_start
    world.end(first)
    assert third.started == 0
    assert world.set.seats == 2


def test_without_queues_what_finds_no_seat_is_rejected() -> None:
    world = World(1, queues=0)
    world.ask("a")
    with pytest.raises(Rejected) as refused:
        world.ask("b")
    assert refused.value.reason == "concurrency-limit"


def test_a_full_queue_rejects() -> None:
    world = World(1, queues=4, hand=1, length=2)
    for _ in range(3):
        world.ask("a")
    with pytest.raises(Rejected) as refused:
        world.ask("a")
    assert refused.value.reason == "queue-full"
    assert world.set.waiting == 2


def test_a_request_wider_than_the_limit_runs_alone() -> None:
    world = World(2)
    narrow = world.ask("a")
    wide = world.ask("a", Work(10))
    assert wide.started == -1
    world.end(narrow)
    assert wide.started == 0
    assert world.ask("a").started == -1


def test_a_flow_that_floods_does_not_hold_up_another() -> None:
    world = World(1, queues=64, hand=4, length=100)
    running = world.ask("noisy")
    noisy = [world.ask("noisy") for _ in range(100)]
    quiet = [world.ask("quiet") for _ in range(3)]
    served = 0
    while any(t.started < 0 for t in quiet):
        world.now += 0.003
        done, running = running, next(t for t in (*noisy, *quiet) if t.started < 0 or not t.is_over)
        world.end(done)
        running = next(t for t in (*noisy, *quiet) if t.started >= 0 and not t.is_over)
        served += 1
    assert served <= 16  # the noisy flow has four queues to the quiet one's: not a hundred requests come first


def test_a_flow_of_long_requests_is_charged_for_the_time_they_take() -> None:
    world = World(1, queues=64, hand=1)
    running = world.ask("long")
    long = [world.ask("long") for _ in range(10)]
    short = [world.ask("short") for _ in range(10)]
    for _ in range(11):
        world.now += 1.0 if running in long else 0.001
        world.end(running)
        running = next(t for t in (*long, *short) if t.started >= 0 and not t.is_over)
    assert sum(t.started >= 0 for t in short) >= 9
    assert sum(t.started >= 0 for t in long) <= 2


def test_final_seats_stay_taken_until_they_are_freed() -> None:
    world = World(4)
    ticket = world.ask("a", Work(1, 4, 0.02))
    waiting = world.ask("a")
    assert world.set.seats == 4
    assert world.end(ticket) == 0.02
    assert world.set.seats == 4
    assert waiting.started == -1
    world.now = 0.02
    world.set.free(ticket, world.now)
    assert waiting.started == 0.02


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    world = World(1)
    running, waiting = world.ask("a"), world.ask("a")
    assert world.end(waiting) == 0
    assert world.end(waiting) == 0
    assert (world.set.waiting, world.set.waiting_seats) == (0, 0)
    world.end(running)
    assert world.set.seats == 0
    assert all(queue.is_idle for queue in world.set.queues)


def test_requests_wait_on_when_the_queues_change() -> None:
    world = World(1)
    running = world.ask("a")
    waiting = [world.ask("a") for _ in range(5)]
    world.set.configure(2, 50)
    for _ in range(5):
        world.end(running)
        running = next(t for t in waiting if t.started >= 0 and not t.is_over)
    world.end(running)
    assert (world.set.seats, world.set.waiting, world.set.running) == (0, 0, 0)


def test_more_seats_let_more_run() -> None:
    world = World(1)
    world.ask("a")
    waiting = world.ask("a")
    world.set.resize(2, 1.0)
    assert waiting.started == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_seats_are_bounded_and_all_are_given_back(seed: int) -> None:
    dice = random.Random(seed)
    world = World(dice.randrange(1, 12), queues=dice.choice([1, 3, 16]), hand=3, length=5)
    alive: list[Ticket] = []
    final: list[Ticket] = []
    for _ in range(400):
        world.now += dice.random() * 0.01
        if dice.random() < 0.5:
            try:
                alive.append(world.ask(dice.choice("abcd"), dice.choice([Work(), Work(3), Work(1, 5, 0.01)])))
            except Rejected:
                pass
        elif alive:
            ticket = alive.pop(dice.randrange(len(alive)))
            if world.end(ticket) > 0:
                final.append(ticket)
        if final and dice.random() < 0.5:
            world.set.free(final.pop(), world.now)
        running = [t for t in alive if t.started >= 0]
        taken = sum(t.work.most for t in running) + sum(t.work.final_seats for t in final)
        assert taken == world.set.seats
        assert taken <= world.set.limit or len(running) + len(final) == 1
        assert sum(not q.is_idle for q in world.set.queues) == world.set._busy
    for ticket in alive:
        if world.end(ticket) > 0:
            final.append(ticket)
    for ticket in final:
        world.set.free(ticket, world.now)
    assert (world.set.seats, world.set.waiting, world.set.running, world.set._busy) == (0, 0, 0, 0)


def test_a_hand_has_different_queues_and_flows_rarely_share_all() -> None:
    hands = [shuffle.deal(shuffle.fingerprint("s", f"user-{n}"), 64, 6) for n in range(500)]
    assert all(len(set(hand)) == 6 and min(hand) >= 0 and max(hand) < 64 for hand in hands)
    assert sum(set(hand) == set(hands[0]) for hand in hands[1:]) == 0
    assert len({card for hand in hands for card in hand}) == 64


def test_no_user_can_name_himself_into_the_flow_of_another_schema() -> None:
    assert shuffle.fingerprint("a", "b,c") != shuffle.fingerprint("a,b", "c")
