"""Answers that only another server knows, asked for by code that does not wait.

Raised by authenticators and authorizers that call webhooks or fetch keys, so that everything that asks them stays
synchronous (and costs nothing where no webhook is configured). The pipeline catches it, gets the answer and runs the
step or handler that asked again; questions are asked before anything is written.
Promise: within one `settle` each question is asked once, and its answer holds for the whole of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# One piece of code asks so many servers so many things at most; more is a loop.
_MOST_ASKED = 64

_settled: ContextVar[dict[Hashable, Any] | None] = ContextVar("kybern_settled", default=None)


class Pending(Exception):
    """Not an error: the answer to `key` must be awaited first. `ask` never fails; failures are answers, too."""

    def __init__(self, key: Hashable, ask: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(key)
        self.key = key
        self.ask = ask


def answer(key: Hashable, ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, if it is known in this context. Raises Pending otherwise."""
    known = _settled.get()
    if known is None or key not in known:
        raise Pending(key, ask)
    return known[key]


async def settle(first: Pending, work: Callable[[], T | Awaitable[T]]) -> T:
    """Run `work`, which has just raised `first`, with all the answers it needs. `work` may be run many times."""
    answers = dict(_settled.get() or {})
    waiting = first
    for _ in range(_MOST_ASKED):
        answers[waiting.key] = await waiting.ask()
        token = _settled.set(answers)
        try:
            result = work()
            return await result if isinstance(result, Awaitable) else result
        except Pending as more:
            waiting = more
        finally:
            _settled.reset(token)
    raise RuntimeError("one request asks other servers without end")
