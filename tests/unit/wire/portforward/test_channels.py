"""Port-forward for WebSocket channel clients, over a SPDY session to a fake runtime."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from kybern.machinery.status import ApiError
from kybern.testing.streams import connect
from kybern.wire.portforward import protocol
from kybern.wire.portforward.channels import ChannelForward
from kybern.wire.spdy.connection import SpdyConnection
from kybern.wire.websocket.connection import WebSocket


async def runtime(connection: SpdyConnection) -> None:
    """Echoes in capitals on port 80; refuses every other."""
    errors = {}
    while (stream := await connection.accept()) is not None:
        number = stream.headers["requestid"]
        if stream.headers["streamtype"] == "error":
            errors[number] = stream
            continue
        if stream.headers["port"] == "80":
            await stream.write((await stream.read()).upper())
        else:
            await errors[number].write(b"refused")
        await errors[number].close()
        await stream.close()


@contextlib.asynccontextmanager
async def forwarding_to(runtime: Callable[[SpdyConnection], Coroutine[Any, Any, None]]) -> AsyncIterator[WebSocket]:
    """The client of a bridge of two ports before a `runtime`; the bridge has ended when this is left."""
    near, client_end = connect()
    ours, theirs = connect()
    client = WebSocket(client_end, is_server=False)
    far, fake = SpdyConnection(ours, is_server=False), SpdyConnection(theirs, is_server=True)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(c.run()) for c in (far, fake)]
        running.append(tasks.create_task(runtime(fake)))
        forwarding = ChannelForward(WebSocket(near, is_server=True), [80, 81], is_base64=False)
        done = tasks.create_task(forwarding.run(far))
        yield client
        await done
        for task in running:
            task.cancel()


def test_each_port_has_two_channels_that_start_with_its_number() -> None:
    async def main() -> None:
        async with forwarding_to(runtime) as client:
            started = [await client.receive() for _ in range(4)]
            assert started == [b"\0P\0", b"\1P\0", b"\2Q\0", b"\3Q\0"]
            await client.send(b"\0hello")
            assert sorted([await client.receive(), await client.receive()], key=repr) == [b"\0HELLO", b"\3refused"]
            assert await client.receive() is None

    asyncio.run(main())


def test_a_client_that_goes_ends_every_port_and_leaves_no_fault_behind() -> None:
    faults: list[dict[str, Any]] = []

    async def silent(connection: SpdyConnection) -> None:
        while await connection.accept() is not None:
            pass

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        async with forwarding_to(silent) as client:
            for _ in range(4):
                await client.receive()
            await client.close()
        gc.collect()  # a task whose end nobody looked at says so when it is collected

    asyncio.run(main())
    assert faults == []


def test_ports_are_read_strictly() -> None:
    assert protocol.parse_ports(["80", "81,82"]) == [80, 81, 82]
    for bad in ("", "x", "0", "65536", "80,", "+80", "٨٠", ",".join(["80"] * 65)):
        with pytest.raises(ApiError):
            protocol.parse_ports([bad])
