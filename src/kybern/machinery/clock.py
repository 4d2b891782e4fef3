"""Time as a parameter: what code may ask of a clock. Real one: client/clock; virtual one: testing/clock."""

from __future__ import annotations

import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def now(self) -> datetime.datetime:
        """Aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds, never going back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` (at once if not positive, after one turn of the loop)."""
        ...
