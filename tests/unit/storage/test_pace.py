"""How long a compaction rests between its steps."""

from __future__ import annotations

import pytest

from kybern.storage.pace import RESTS, WITHIN, Pace


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_rests_several_times_as_long_as_a_step_took() -> None:
    time = Time()
    pace = Pace(time)
    time.now += 0.004
    assert pace.rest(10) == pytest.approx(0.004 * RESTS)


def test_a_rest_is_no_part_of_the_next_step() -> None:
    time = Time()
    pace = Pace(time)
    time.now += 0.004
    time.now += pace.rest(10)
    time.now += 0.002
    assert pace.rest(10) == pytest.approx(0.002 * RESTS)


def test_nor_is_a_step_after_which_nobody_rested() -> None:
    time = Time()
    pace = Pace(time)
    time.now += 3
    pace.skip()
    time.now += 0.001
    assert pace.rest(10) == pytest.approx(0.001 * RESTS)


def test_many_steps_are_done_in_time() -> None:
    time = Time()
    pace = Pace(time)
    for left in reversed(range(2_000)):
        time.now += 0.004
        time.now += pace.rest(left)
    assert WITHIN * 0.9 <= time.now - 100 <= WITHIN * 1.1


def test_what_is_late_does_not_rest() -> None:
    time = Time()
    pace = Pace(time)
    time.now += WITHIN
    assert pace.is_late
    assert pace.rest(5) == 0
