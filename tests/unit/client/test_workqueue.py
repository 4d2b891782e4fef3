"""The work queue's rules (core) and its waiting (queue)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.client.workqueue import RateLimit, WorkQueue
from kybern.client.workqueue.core import Core
from kybern.testing import clock as virtual


@pytest.fixture
def core():
    return Core(RateLimit())


def test_a_key_added_twice_comes_out_once(core):
    core.add("a", 0)
    core.add("a", 1)
    assert (core.take(2), core.take(2)) == ("a", None)


def test_a_key_added_while_processing_runs_again_after_done_and_not_before(core):
    core.add("a", 0)
    assert core.take(0) == "a"
    core.add("a", 0)
    assert core.take(0) is None
    core.done("a", 0)
    assert core.take(0) == "a"


def test_the_earliest_of_several_delays_of_a_key_wins(core):
    core.add_at("a", 10, 0)
    core.add_at("a", 5, 0)
    core.add_at("a", 7, 0)
    assert core.advance(4) == 5
    assert core.advance(5) is None
    assert core.take(5) == "a"
    core.done("a", 5)
    assert core.advance(20) is None
    assert core.take(20) is None


def test_pauses_double_up_to_the_longest_and_start_anew_after_forget(core):
    pauses = [core.add_rate_limited("a", 0) for _ in range(20)]
    assert pauses[:4] == [0.005, 0.01, 0.02, 0.04]
    assert max(pauses) == 1000.0
    core.forget("a")
    assert core.add_rate_limited("a", 0) == 0.005


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done", "delay"]), st.sampled_from("abc")), max_size=80))
def test_no_key_is_ever_lost_or_processed_twice_at_once(steps):
    core = Core(RateLimit())
    now = 0.0
    wanted: set[str] = set()
    busy: set[str] = set()
    for action, key in steps:
        now += 1
        core.advance(now)
        if action == "add":
            core.add(key, now)
            wanted.add(key)
        elif action == "delay":
            core.add_at(key, now + 0.5, now)
            wanted.add(key)
        elif action == "take":
            taken = core.take(now)
            if taken is not None:
                assert taken not in busy
                busy.add(taken)
                wanted.discard(taken)
        elif key in busy:
            core.done(key, now)
            busy.discard(key)
    core.advance(now + 1)
    for key in busy:
        core.done(key, now)
    left = set()
    while (taken := core.take(now)) is not None:
        left.add(taken)
    assert left == wanted


def test_delayed_keys_come_out_in_the_order_of_their_times():
    async def main(clock):
        queue = WorkQueue(clock)
        got = []
        async with asyncio.TaskGroup() as tasks:
            runner = tasks.create_task(queue.run())
            queue.add_after("late", 60)
            queue.add_after("soon", 5)
            queue.add("now")
            for _ in range(3):
                key = await queue.get()
                got.append((key, clock.monotonic()))
                queue.done(key)
            runner.cancel()
        return got

    assert virtual.run(main) == [("now", 0.0), ("soon", 5.0), ("late", 60.0)]


def test_metrics_tell_depth_waits_and_work():
    async def main(clock):
        queue = WorkQueue(clock)
        queue.add("a")
        queue.add("b")
        await clock.sleep(2)
        key = await queue.get()
        await clock.sleep(3)
        queue.done(key)
        return queue.metrics()

    metrics = virtual.run(main)
    assert (metrics.adds, metrics.depth, metrics.processed) == (2, 1, 1)
    assert (metrics.waited.sum, metrics.worked.sum) == (2.0, 3.0)
