"""How long work in small steps rests between them, so that others hardly notice it and it is done in time.

Used by sqlite for compaction: a write waits for the step that is under way, so steps should seldom be. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

RESTS = 9.0  # times as long as a step
WITHIN = 10.0  # seconds in which all of it should be done: the next comes after 15


class Pace:
    """Of one piece of work, from now on."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ends = now() + WITHIN
        self._step = now()  # when this one began

    @property
    def is_late(self) -> bool:
        return self._now() >= self._ends

    def rest(self, left: float) -> float:
        """Seconds to rest after a step, with about so many `left`: none where they would not end in time."""
        now = self._now()
        took = now - self._step
        spare = (self._ends - now) / max(left, 1.0) - took
        rest = max(0.0, min(took * RESTS, spare))
        self._step = now + rest
        return rest

    def skip(self) -> None:
        """No rest is needed."""
        self._step = self._now()
