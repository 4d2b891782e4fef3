"""The real clock. Built by process/, handed to everything that needs time."""

from __future__ import annotations

import asyncio
import datetime
import time

from kybern.machinery.clock import Clock


class RealClock:
    """`machinery.clock.Clock` on the system's clocks."""

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_for_event(clock: Clock, event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, for at most `seconds` of this clock (None: for ever). Returns whether it is."""
    if seconds is None:
        await event.wait()
    elif not event.is_set():
        async with asyncio.TaskGroup() as tasks:
            racers = [
                tasks.create_task(_wait(event), name="event"),
                tasks.create_task(clock.sleep(seconds), name="timer"),
            ]
            try:
                await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for racer in racers:
                    racer.cancel()
    return event.is_set()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
