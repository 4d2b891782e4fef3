"""Questions to other servers: asked once, answered to code that does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from kybern.apiserver import pending
from kybern.apiserver.pending import Pending


class Oracle:
    """Another server: says how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, question: str) -> str:
        async def answer() -> str:
            await asyncio.sleep(0)
            self.asked.append(question)
            return question.upper()

        found: str = pending.answer(question, answer)
        return found


def settle(work: object) -> object:
    async def main() -> object:
        assert callable(work)
        try:
            return work()
        except Pending as question:
            return await pending.settle(question, work)

    return asyncio.run(main())


def test_each_question_is_asked_once_and_the_code_runs_again() -> None:
    oracle = Oracle()
    assert settle(lambda: oracle.ask("a") + oracle.ask("b") + oracle.ask("a")) == "ABA"
    assert oracle.asked == ["a", "b"]


def test_code_that_awaits_may_ask_too() -> None:
    oracle = Oracle()

    async def later() -> str:
        await asyncio.sleep(0)
        return oracle.ask("a") + oracle.ask("b")

    def work() -> Awaitable[str]:
        oracle.ask("first")
        return later()

    assert settle(work) == "AB"


def test_answers_do_not_outlive_the_work() -> None:
    oracle = Oracle()
    settle(lambda: oracle.ask("a"))
    with pytest.raises(Pending):
        oracle.ask("a")


def test_questions_without_end_are_given_up() -> None:
    oracle = Oracle()
    numbers = iter(range(10_000))
    with pytest.raises(RuntimeError):
        settle(lambda: oracle.ask(str(next(numbers))))
