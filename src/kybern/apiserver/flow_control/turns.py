"""Heavy reads take turns: one of them in each turn of the loop.

Used by control and slices. A list is joined and sent without a pause; five hundred of them, all ready at once, would
keep every other client from the loop until the last is done. Here the first runs at once, the others wait for the turns
to come, between which the loop serves everybody else. Levels take turns as well, so that a level with few heavy reads
does not wait behind those of a level with many.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """One loop's turns."""

    def __init__(self) -> None:
        self._is_taken = False  # in this turn of the loop
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def take_now(self) -> bool:
        """Take this turn, if nobody has and nobody waits."""
        if self._is_taken or self._waiting:
            return False
        self._begin()
        return True

    async def take(self, level: str) -> None:
        """Return in a turn that is the caller's alone."""
        if not self.take_now():
            await self._wait(level)

    async def take_next(self, level: str) -> None:
        """Return in a turn that is the caller's alone, and not this one: who works in slices leaves others the loop."""
        if not self._is_taken:
            self._begin()
        await self._wait(level)

    async def _wait(self, level: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(level, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                raise  # its turn passes unused; the next comes by itself
            mine = self._waiting.get(level)
            if mine is not None and turn in mine:
                mine.remove(turn)
                if not mine:
                    del self._waiting[level]
            raise

    def _begin(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """A new turn of the loop: the next level's first."""
        self._is_taken = False
        while self._waiting:
            level, line = next(iter(self._waiting.items()))
            del self._waiting[level]
            turn = line.popleft()
            if line:
                self._waiting[level] = line  # behind the other levels
            if not turn.done():
                turn.set_result(None)
                self._begin()
                return
