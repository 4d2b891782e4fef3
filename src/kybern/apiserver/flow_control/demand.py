"""How many seats a priority level could have used: its mean, deviation and peak over time. Pure.

Told of every change by level, read by shares each period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """Of one period, in seats."""

    average: float = 0.0
    deviation: float = 0.0
    peak: float = 0.0


class Demand:
    """The integral of a step function."""

    __slots__ = ("_area", "_from", "_last", "_peak", "_squares", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self._from = self._last = now
        self._area = self._squares = self._peak = 0.0

    def set(self, value: float, now: float) -> None:
        """From now on it is `value`."""
        passed = now - self._last
        if passed > 0:
            self._area += self.value * passed
            self._squares += self.value * self.value * passed
            self._last = now
        self.value = value
        self._peak = max(self._peak, value)

    def take(self, now: float) -> Observed:
        """What was seen since the last take; a new period begins."""
        self.set(self.value, now)
        passed = now - self._from
        peak, self._peak = self._peak, self.value
        area, squares = self._area, self._squares
        self._area = self._squares = 0.0
        self._from = now
        if passed <= 0:
            return Observed(self.value, 0.0, peak)
        average = area / passed
        return Observed(average, math.sqrt(max(0.0, squares / passed - average * average)), peak)
