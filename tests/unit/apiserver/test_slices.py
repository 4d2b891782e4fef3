"""Handlers in slices of time: they give and raise what they would without, and others run between."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import pytest

from kybern.apiserver.flow_control.turns import Turns
from kybern.apiserver.slices import SLICE, Slices
from kybern.pausing import pause, pausing

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Clock:
    """Each look at it takes as long as half a slice."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += SLICE / 2
        return self.now


def long_sum(numbers: int) -> int:
    total = 0
    for number in pausing(range(numbers)):
        total += number
    return total


async def compute(numbers: int) -> int:
    before = long_sum(numbers)
    await asyncio.sleep(0)
    return before + long_sum(numbers)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


def test_the_value_is_that_of_the_handler() -> None:
    async def main() -> int:
        return await Slices(Clock(), Turns()).run(compute(1000), "a")

    assert run(main()) == 2 * sum(range(1000))


def test_others_run_while_a_computation_pauses() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        slices = Slices(Clock(), Turns())

        async def other() -> None:
            while True:
                told.append("other")
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            beside = tasks.create_task(other(), name="other")
            await slices.run(compute(1000), "a")
            beside.cancel()
        return told

    assert len(run(main())) > 10


def test_two_computations_take_turns() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        slices = Slices(Clock(), Turns())

        async def walk(name: str) -> None:
            for _ in range(6):
                told.append(name)
                pause()

        async with asyncio.TaskGroup() as tasks:
            for name in ("a", "b"):
                tasks.create_task(_awaited(slices.run(walk(name), name)), name=name)
        return told

    told = "".join(run(main()))
    assert sorted(told) == sorted("ab" * 6)
    assert "aaaa" not in told and "bbbb" not in told


async def _awaited(waiting: Any) -> Any:
    return await waiting


def test_what_the_handler_raises_is_raised() -> None:
    async def fail() -> None:
        long_sum(1000)
        raise LookupError("gone")

    async def main() -> None:
        await Slices(Clock(), Turns()).run(fail(), "a")

    with pytest.raises(LookupError, match="gone"):
        run(main())


def test_who_cancels_a_request_cancels_its_computation() -> None:
    async def main() -> str:
        told = "nothing"
        slices = Slices(Clock(), Turns())

        async def endless() -> None:
            nonlocal told
            try:
                while True:
                    pause()
            except asyncio.CancelledError:
                told = "cancelled"
                raise

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(_awaited(slices.run(endless(), "a")), name="endless")
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
        return told

    assert run(main()) == "cancelled"


def test_a_time_limit_ends_a_computation_that_pauses() -> None:
    async def main() -> None:
        async def endless() -> None:
            while True:
                pause()

        async with asyncio.timeout(0.01):
            await Slices(Clock(), Turns()).run(endless(), "a")

    with pytest.raises(TimeoutError):
        run(main())


def test_variables_of_the_context_are_those_of_the_task() -> None:
    async def main() -> tuple[str, str]:
        async def paint() -> str:
            before = COLOUR.get()
            long_sum(1000)
            COLOUR.set("red")
            return before

        COLOUR.set("blue")
        before = await Slices(Clock(), Turns()).run(paint(), "a")
        return before, COLOUR.get()

    assert run(main()) == ("blue", "red")


def test_a_step_finds_nothing_of_the_one_before() -> None:
    """Stacks are used again; what a request answered must not be kept by them."""

    async def main() -> list[Any]:
        slices = Slices(Clock(), Turns())

        async def give(value: Any) -> Any:
            return value

        async def fail() -> None:
            raise LookupError

        found = [await slices.run(give("x"), "a")]
        with pytest.raises(LookupError):
            await slices.run(fail(), "a")
        found.append(await slices.run(give(None), "a"))
        return found

    assert run(main()) == ["x", None]


def test_outside_of_slices_a_pause_is_nothing() -> None:
    pause()
    assert list(pausing([1, 2])) == [1, 2]
    assert list(pausing(range(100))) == list(range(100))
