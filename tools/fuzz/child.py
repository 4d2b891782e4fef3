"""The server under fire: a whole API server on a memory store, on one port without TLS. Run as a process of its own.

`--longest`: measure how long the loop is held, and tell it on SIGUSR1.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
import time

import uvloop

from kybern.apiserver.options import ServerOptions
from kybern.apiserver.request import Request
from kybern.apiserver.server import ApiServer
from kybern.client.clock import RealClock
from kybern.process import log
from kybern.storage.memory import MemoryStore
from kybern.wire.http1.server import Limits, serve

TOKENS = (
    'admin,admin,1,"system:masters"\n'
    "jane,jane,2,devs\n"
    'node,system:node:n1,3,"system:nodes"\n'
    'robot,system:serviceaccount:default:robot,4,"system:serviceaccounts"\n'
)


class Longest:
    """The most processor time that the loop has spent before it came back to a timer of a millisecond."""

    def __init__(self) -> None:
        self._seconds = 0.0

    async def watch(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._tell)
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self._seconds = max(self._seconds, time.thread_time() - before)

    def _tell(self) -> None:
        """Say it on the standard output, and begin anew."""
        print(f"{self._seconds:.6f}", flush=True)
        self._seconds = 0.0


async def main(port: int) -> None:
    clock = RealClock()
    options = ServerOptions(static_tokens=TOKENS, runtime_config="api/all=true")
    server = ApiServer(options, MemoryStore(), clock, random.Random(1))
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        # A request that is never finished is cut soon: there are many.
        limits = Limits(header_timeout=5.0, body_timeout=5.0)
        await serve(
            server.application,
            request_type=Request,
            tasks=tasks,
            clock=clock,
            host="127.0.0.1",
            port=port,
            limits=limits,
        )
        if "--longest" in sys.argv:
            tasks.create_task(Longest().watch(), name="longest")
        gc.collect()  # as process/apiserver does
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    log.configure("error", True)
    uvloop.run(main(int(sys.argv[1])))
