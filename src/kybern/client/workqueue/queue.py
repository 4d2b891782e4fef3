"""The work queue that waits: core's rules on a clock and a loop.

Filled by informer handlers and reconcilers, emptied by controllers.runtime. `run` is the task that makes delayed
keys ready; without it only undelayed keys come out.
"""

from __future__ import annotations

import asyncio

from kybern.client import clock as client_clock
from kybern.client.workqueue.core import Core, Metrics, RateLimit
from kybern.machinery.clock import Clock


class WorkQueue:
    """Keys to work on. All methods but `get` and `run` return at once."""

    def __init__(self, clock: Clock, *, limit: RateLimit | None = None) -> None:
        self._clock = clock
        self._core = Core(limit or RateLimit())
        self._ready = asyncio.Semaphore(0)  # one permit a ready key, so that waiters wake in turn
        self._permits = 0
        self._changed = asyncio.Event()  # the earliest delayed key may have changed

    def add(self, key: str) -> None:
        self._core.add(key, self._clock.monotonic())
        self._release()

    def add_after(self, key: str, seconds: float) -> None:
        now = self._clock.monotonic()
        self._core.add_at(key, now + seconds, now)
        self._release()
        self._changed.set()

    def add_rate_limited(self, key: str) -> float:
        """Add it after its next pause (seconds), which is returned."""
        pause = self._core.add_rate_limited(key, self._clock.monotonic())
        self._release()
        self._changed.set()
        return pause

    def forget(self, key: str) -> None:
        self._core.forget(key)

    def failures(self, key: str) -> int:
        return self._core.failures(key)

    async def get(self) -> str:
        """The next key; call `done` with it afterwards."""
        await self._ready.acquire()
        self._permits -= 1
        key = self._core.take(self._clock.monotonic())
        assert key is not None, "one permit a ready key"
        return key

    def done(self, key: str) -> None:
        self._core.done(key, self._clock.monotonic())
        self._release()

    def metrics(self) -> Metrics:
        return self._core.snapshot(self._clock.monotonic())

    @property
    def is_idle(self) -> bool:
        return self._core.is_idle

    def __len__(self) -> int:
        return len(self._core)

    async def run(self) -> None:
        """Make delayed keys ready when their time comes. Runs until cancelled."""
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            due = self._core.advance(now)
            self._release()
            await client_clock.wait_for_event(self._clock, self._changed, None if due is None else due - now)

    def _release(self) -> None:
        while self._permits < len(self._core):
            self._permits += 1
            self._ready.release()
