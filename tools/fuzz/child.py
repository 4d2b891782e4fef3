"""The server under fire: a whole API server on a memory store, on one port without TLS. Run as a process of its own."""

from __future__ import annotations

import asyncio
import random
import sys

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
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    log.configure("error", True)
    uvloop.run(main(int(sys.argv[1])))
