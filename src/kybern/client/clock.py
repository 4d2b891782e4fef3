"""The real clock. Built by process/, handed to everything that needs time."""

from __future__ import annotations

import asyncio
import datetime
import time


class RealClock:
    """`machinery.clock.Clock` on the system's clocks."""

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
