"""The rules of a work queue, without a clock or a loop: time comes in as a number.

Wrapped by queue.WorkQueue. Promises: a key waiting is there once; a key being processed is not handed out again
until `done`, and then runs again if it was added meanwhile; of several delays of a key the earliest wins.
"""

from __future__ import annotations

import collections
import heapq
from dataclasses import dataclass, field

from kybern.machinery.metrics import Series, exponential


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Pause of a key's n-th failure: `first * 2**n`, at most `longest` seconds (client-go: 5 ms to 1000 s)."""

    first: float = 0.005
    longest: float = 1000.0

    def pause(self, failures: int) -> float:
        return min(self.longest, self.first * 2.0 ** min(failures, 64))


# kube-controller-manager: the buckets of workqueue_*_duration_seconds
SECONDS = exponential(1e-8, 10, 10)


@dataclass(slots=True)
class Metrics:
    """What /metrics tells of a queue; times in seconds."""

    adds: int = 0
    retries: int = 0
    processed: int = 0
    waited: Series = field(default_factory=lambda: Series(SECONDS))
    worked: Series = field(default_factory=lambda: Series(SECONDS))
    depth: int = 0
    processing: int = 0
    unfinished: float = 0.0  # of the keys being processed, together
    longest: float = 0.0


class Core:
    """Keys waiting, delayed and being processed."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._ready: collections.deque[str] = collections.deque()
        self._dirty: dict[str, float] = {}  # in _ready, or to be again after `done`; since when
        self._processing: dict[str, float] = {}
        self._delayed: list[tuple[float, int, str]] = []
        self._due: dict[str, float] = {}  # the valid entry of each delayed key; others in the heap are dead
        self._failures: dict[str, int] = {}
        self._serial = 0
        self.metrics = Metrics()

    def add(self, key: str, now: float) -> None:
        if key in self._dirty:
            return
        self.metrics.adds += 1
        self._dirty[key] = now
        if key not in self._processing:
            self._ready.append(key)

    def add_at(self, key: str, due: float, now: float) -> None:
        """Add it when `due` has come, unless an earlier moment is set already."""
        if due <= now:
            self.add(key, now)
            return
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._serial += 1
            heapq.heappush(self._delayed, (due, self._serial, key))

    def add_rate_limited(self, key: str, now: float) -> float:
        """Add it after its next pause, which is returned."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.metrics.retries += 1
        pause = self._limit.pause(failures)
        self.add_at(key, now + pause, now)
        return pause

    def forget(self, key: str) -> None:
        """It succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def advance(self, now: float) -> float | None:
        """Add what is due. Returns when the next one will be, or None."""
        while self._delayed:
            due, _, key = self._delayed[0]
            if self._due.get(key) != due:
                heapq.heappop(self._delayed)
            elif due <= now:
                heapq.heappop(self._delayed)
                del self._due[key]
                self.add(key, now)
            else:
                return due
        return None

    def take(self, now: float) -> str | None:
        """The next key, now being processed; None if nothing is ready."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        self.metrics.waited.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: str, now: float) -> None:
        """Processing ended, well or not."""
        self.metrics.worked.observe(now - self._processing.pop(key))
        self.metrics.processed += 1
        if key in self._dirty:
            self._ready.append(key)

    def snapshot(self, now: float) -> Metrics:
        self.metrics.depth = len(self._ready)
        self.metrics.processing = len(self._processing)
        taken = [now - since for since in self._processing.values()]
        self.metrics.unfinished = sum(taken)
        self.metrics.longest = max(taken, default=0.0)
        return self.metrics

    @property
    def is_idle(self) -> bool:
        """Nothing ready, nothing being processed (something may be delayed)."""
        return not self._dirty and not self._processing

    def __len__(self) -> int:
        return len(self._ready)
