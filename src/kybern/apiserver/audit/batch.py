"""Collect audit events and hand them on together, beside the requests: for the webhook, and for the log if wanted.

A sink of record; `run` lives in the server's TaskGroup. Bounded: what comes while the buffer is full is lost and
counted. Source: "Event batching" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from kybern.apiserver.audit.sinks import Event
from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[Event]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Flags --audit-*-batch-*."""

    buffer: int = 10_000  # events
    size: int = 400  # events of a batch
    bytes: int = 10 << 20  # of a batch
    wait: float = 30.0  # seconds until a batch that is not full goes
    rate: float = 10.0  # batches a second, on average; 0: as many as there are
    burst: int = 15


class Batch:
    """`deliver` gets batches in order, one at a time, and never raises."""

    def __init__(self, name: str, options: BatchOptions, deliver: Deliver, clock: Clock) -> None:
        self._name = name
        self._options = options
        self._deliver = deliver
        self._clock = clock
        self._waiting: collections.deque[Event] = collections.deque()
        self._first_at = 0.0  # when the oldest of them came
        self._news = asyncio.Event()
        self._allowance = float(options.burst)
        self._refilled = clock.monotonic()
        self.lost = 0

    def put(self, event: Event) -> bool:
        if len(self._waiting) >= self._options.buffer:
            self.lost += 1
            if self.lost == 1 or self.lost % 10_000 == 0:
                log.error("audit events are lost: the buffer is full", sink=self._name, lost=self.lost)
            return True
        if not self._waiting:
            self._first_at = self._clock.monotonic()
        self._waiting.append(event)
        if len(self._waiting) == 1 or len(self._waiting) >= self._options.size:
            self._news.set()
        return True

    async def run(self) -> None:
        """Until cancelled; what waits then is handed on once more (`flush`)."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._wait_until_full()
                await self._wait_for_allowance()
                await self._deliver(self._take())

    async def flush(self) -> None:
        """Hand on all that waits, now."""
        while self._waiting:
            await self._deliver(self._take())

    def _take(self) -> list[Event]:
        batch: list[Event] = []
        size = 0
        while self._waiting and len(batch) < self._options.size:
            size += len(self._waiting[0].data)
            if batch and size > self._options.bytes:
                break
            batch.append(self._waiting.popleft())
        self._first_at = self._clock.monotonic()
        return batch

    async def _wait_until_full(self) -> None:
        while len(self._waiting) < self._options.size:
            left = self._first_at + self._options.wait - self._clock.monotonic()
            if left <= 0:
                return
            # In slices: a batch that fills up goes at once, and a virtual clock has only sleep.
            await self._clock.sleep(min(left, 0.25))

    async def _wait_for_allowance(self) -> None:
        if not self._options.rate:
            return
        while True:
            now = self._clock.monotonic()
            gained = (now - self._refilled) * self._options.rate
            self._allowance = min(float(self._options.burst), self._allowance + gained)
            self._refilled = now
            if self._allowance >= 1:
                self._allowance -= 1
                return
            await self._clock.sleep((1 - self._allowance) / self._options.rate)
