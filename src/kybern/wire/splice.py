"""Tie two connections together: what one says the other hears, until either hangs up.

Used by apiserver/proxy (client and kubelet) and kubelet/server (client and container runtime) for upgraded connections.
"""

from __future__ import annotations

import asyncio

from kybern.wire.message import RawStream


async def splice(one: RawStream, other: RawStream) -> None:
    """Return when both are closed. What was read before a hang-up is still delivered."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_pour(one, other), name="splice there")
        tasks.create_task(_pour(other, one), name="splice back")


async def _pour(source: RawStream, target: RawStream) -> None:
    try:
        while data := await source.read():
            await target.write(data)
    except ConnectionError:
        pass  # either side has gone, which ends both
    finally:
        target.close()
        source.close()
