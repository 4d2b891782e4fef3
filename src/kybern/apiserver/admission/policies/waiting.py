"""Evaluate without waiting, as long as nobody must be asked: a generator of what must be waited for.

Used by both plugins. Policies see objects in the versions that their rules name; where a webhook converts to such a
version, it is asked first. Without that nothing is awaited, so that an ordinary write costs no task switch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator

from kybern.machinery.status import ApiError

Steps = Generator[Awaitable[None], None, None]


def run(steps: Steps) -> Awaitable[None] | None:
    """Go through the steps; an awaitable where there is something to wait for. Raises what they raise."""
    for waiting in steps:
        return _go_on(waiting, steps)
    return None


async def _go_on(waiting: Awaitable[None], steps: Steps) -> None:
    try:
        while True:
            try:
                await waiting
            except ApiError as error:
                waiting = steps.throw(error)  # where it is known whose failure that is
            else:
                waiting = next(steps)
    except StopIteration:
        return
