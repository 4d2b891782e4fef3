"""Answer a request in slices of time: what computes for long is interrupted, and the loop serves everybody else.

Used by pipeline for all that is not answered at once. A handler is a coroutine; each step of it, from one `await` to
the next, runs on a stack of its own (a greenlet), so that `kybern.pausing.pause`, however deep below, can leave it.
Promise: a handler that never pauses behaves as if it were awaited; slices of different requests take turns, one in a
turn of the loop. Why not threads: docs/decisions/0121.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, TypeVar

import greenlet

from kybern.apiserver.flow_control.turns import Turns
from kybern.pausing import Pausable

T = TypeVar("T")

# Seconds. Others wait this long at most, as far as the computation pauses often enough.
SLICE: Final = 0.005
# Turns of the loop between two slices: a request of somebody else takes three or four, which are over in no time where
# nobody has anything to do.
_TURNS: Final = 8
# Stacks that wait for the next step: one is enough where nothing pauses. To make one takes as long as ten steps.
_MOST_KEPT: Final = 16


class Slices:
    """Of one server."""

    def __init__(self, monotonic: Callable[[], float], turns: Turns) -> None:
        self.monotonic = monotonic
        self.turns = turns
        self._idle: list[_Stack] = []

    def run(self, waiting: Awaitable[T], level: str) -> Awaitable[T]:
        """`waiting`, in slices, which take turns with those of other levels."""
        return _Sliced(waiting, self, level)

    def take(self) -> _Stack:
        return self._idle.pop() if self._idle else _Stack(self.monotonic)

    def give_back(self, stack: _Stack) -> None:
        if len(self._idle) < _MOST_KEPT:
            self._idle.append(stack)


class _Stack(Pausable):
    """Where steps of handlers run, one after the other. It is left when a step is over, or pauses."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._until = 0.0
        self._resume: Callable[[Any], Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(self, resume: Callable[[Any], Any], value: Any) -> None:
        """Run a step until it is over or pauses: `is_paused` tells."""
        current = greenlet.getcurrent()
        if self.parent is not current:
            self.parent = current
        self.gr_context = current.gr_context
        self._resume, self._value = resume, value
        self.go_on()

    def go_on(self) -> None:
        self._until = self._monotonic() + SLICE
        self.switch()

    @property
    def is_paused(self) -> bool:
        return self._resume is not None

    def take_outcome(self) -> Any:
        """What the step gave. Raises what it raised: StopIteration too, when the handler has returned."""
        value, error = self._value, self._error
        self._value = self._error = None
        if error is not None:
            raise error
        return value

    def run(self) -> None:
        while True:
            assert self._resume is not None
            try:
                self._value = self._resume(self._value)
            except greenlet.GreenletExit:
                raise
            except BaseException as error:
                self._value, self._error = None, error
            self._resume = None
            self._leave()

    def pause(self) -> None:
        if self._monotonic() >= self._until:
            self._leave()

    def _leave(self) -> None:
        assert self.parent is not None
        self.parent.switch()


class _Sliced(Awaitable[T]):
    def __init__(self, waiting: Awaitable[T], slices: Slices, level: str) -> None:
        self._waiting = waiting
        self._slices = slices
        self._level = level

    def __await__(self) -> Generator[Any, Any, T]:
        """What `yield from` the handler's own iterator does (PEP 380), with each step of it in slices."""
        handler: Any = self._waiting.__await__()
        slices = self._slices
        resume, value = handler.send, None
        while True:
            stack = slices.take()
            stack.begin(resume, value)
            while stack.is_paused:
                yield from self._turn(stack)
            slices.give_back(stack)
            try:
                awaited = stack.take_outcome()
            except StopIteration as done:
                result: T = done.value
                return result
            try:
                value = yield awaited
                resume = handler.send
            except GeneratorExit:
                handler.close()
                raise
            except BaseException as error:
                resume, value = handler.throw, error

    def _turn(self, stack: _Stack) -> Generator[Any, Any, None]:
        """Leave the loop to others, then go on; whoever cancels the request cancels the computation."""
        try:
            for _ in range(_TURNS):
                yield from self._slices.turns.take_next(self._level).__await__()
        except BaseException as error:
            # Raised where the computation paused. It may still have something to say, as any `except` has.
            stack.throw(error)
        else:
            stack.go_on()
