"""Wait for an event, but not forever: on the Clock, so that a test's time counts."""

from __future__ import annotations

import asyncio

from kybern.machinery.clock import Clock


async def wait_for(event: asyncio.Event, seconds: float | None, clock: Clock) -> bool:
    """Whether the event came within `seconds` (None: wait as long as it takes)."""
    if seconds is None or event.is_set():
        await event.wait()
        return True
    if seconds <= 0:
        return False
    async with asyncio.TaskGroup() as tasks:
        waiter = tasks.create_task(event.wait(), name="wait for an event")
        sleeper = tasks.create_task(clock.sleep(seconds), name="wait for time")
        await asyncio.wait((waiter, sleeper), return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        sleeper.cancel()
    return event.is_set()
