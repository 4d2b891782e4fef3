"""A whole API server on a real socket (no TLS), for tests about bytes: `run(scenario)` gives the scenario a `Live`.

Beside testing/api_server, which has no sockets. The loop and its time are real; limits of the test's own keep it short.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kybern.apiserver.options import ServerOptions
from kybern.apiserver.request import Request
from kybern.apiserver.server import ApiServer
from kybern.client.clock import RealClock
from kybern.storage.memory import MemoryStore
from kybern.wire.http1.limits import Limits
from kybern.wire.http1.server import Server as Listener
from kybern.wire.http1.server import serve

T = TypeVar("T")
TOKENS = 'admin,admin,1,"system:masters"\njane,jane,2,devs\n'
PATIENCE = 30.0  # seconds, on however busy a machine


class Live:
    """A server that listens on `port`."""

    def __init__(self, server: ApiServer, port: int) -> None:
        self.server = server
        self.port = port

    async def say(self, data: bytes, *, then_close: bool = True) -> bytes:
        """All that comes back for these bytes, until the server closes (or has nothing to say after our end)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    while part := await self._part(reader, bool(answer) and then_close):
                        answer += part
            return answer
        finally:
            writer.close()

    async def _part(self, reader: asyncio.StreamReader, has_some: bool) -> bytes:
        """What comes next; once something came, silence is the end."""
        if not has_some:
            return await reader.read(65536)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                return await reader.read(65536)
        return b""


def run(scenario: Callable[[Live], Awaitable[T]], limits: Limits | None = None) -> T:
    """What the scenario returns."""

    async def main() -> T:
        clock = RealClock()
        server = ApiServer(
            ServerOptions(static_tokens=TOKENS, advertise_address="192.0.2.10"), MemoryStore(), clock, random.Random(1)
        )
        listening: asyncio.Future[Listener[Request]] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            upkeep = tasks.create_task(_serve(server, clock, limits, listening), name="api server")
            try:
                return await scenario(Live(server, (await listening).port))
            finally:
                upkeep.cancel()

    return asyncio.run(main())


async def _serve(
    server: ApiServer, clock: RealClock, limits: Limits | None, listening: asyncio.Future[Listener[Request]]
) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        listener = await serve(
            server.application, request_type=Request, tasks=tasks, clock=clock, host="127.0.0.1", limits=limits
        )
        listening.set_result(listener)
        try:
            await asyncio.Event().wait()
        finally:
            await listener.close()
