"""Time that a test owns: a clock moved by hand, and a loop whose time jumps to the next thing that is due.

`FakeClock` is for code that asks for the time, or sleeps a little: the test calls `advance`. `run` is for whole
components: under its loop a day passes as fast as the code runs, in an order that is always the same.
"""

from __future__ import annotations

import asyncio
import datetime
import heapq
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kybern.machinery.clock import Clock

T = TypeVar("T")
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class FakeClock:
    """`machinery.clock.Clock` that stands still until `advance`."""

    def __init__(self, start: datetime.datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._serial = 0

    def now(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._serial += 1
        heapq.heappush(self._sleepers, (self._elapsed + seconds, self._serial, future))
        await future

    def move(self, seconds: float) -> None:
        """Let time pass without letting anything run: for code that never sleeps."""
        self._elapsed += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking sleepers in order, each at its own moment, and let what they start run."""
        end = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self._elapsed = end
        await settle()


async def settle(turns: int = 50) -> None:
    """Let everything run that can run now."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Stuck(AssertionError):
    """Every task waits for something that nothing will bring."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("all tasks wait, and no timer is set")
        self.loop.elapsed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: with nothing to run, its time jumps to the next timer."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Blocking work is done on the spot: a thread would take real time, which does not pass here."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class VirtualClock:
    """`machinery.clock.Clock` on a VirtualLoop."""

    def __init__(self, loop: VirtualLoop, start: datetime.datetime = START) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self._loop.elapsed)

    def monotonic(self) -> float:
        return self._loop.elapsed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class LoopClock:
    """`VirtualClock` on whatever loop is running: for servers that are made before their loop is known."""

    def __init__(self, start: datetime.datetime = START) -> None:
        self._start = start

    def now(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def run(main: Callable[[Clock], Coroutine[Any, Any, T]], start: datetime.datetime = START) -> T:
    """Run `main(clock)` to its end on a virtual loop."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(VirtualClock(loop, start)))
