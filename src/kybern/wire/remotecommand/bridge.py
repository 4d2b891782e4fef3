"""Join a client's streams with those of a running command, until the command ends.

`near` is the client of the API (server.py), `far` the container runtime or kubelet (client.py). Used by kubelet/server
and apiserver/proxy for clients whose protocol the far side does not know.
"""

from __future__ import annotations

import asyncio

from kybern.wire.message import RawStream
from kybern.wire.remotecommand import protocol
from kybern.wire.remotecommand.client import RemoteCommand
from kybern.wire.remotecommand.protocol import STDERR, STDOUT, Options
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.spdy.connection import SpdyConnection


async def relay(near: CommandStreams, raw: RawStream, options: Options) -> None:
    """Run `near`'s command over the upgraded SPDY connection `raw`, which is closed at the end."""
    connection = SpdyConnection(raw, is_server=False)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.run(), name="remote command: far frames")
            try:
                await join(near, await RemoteCommand.start(connection, options))
            finally:
                connection.close()
    finally:
        raw.close()


async def join(near: CommandStreams, far: RemoteCommand) -> None:
    """Copy until `far` has ended, then report its status. Raises ConnectionError when `near` goes first."""
    async with asyncio.TaskGroup() as tasks:
        inputs = [
            tasks.create_task(_copy_stdin(near, far), name="remote command: stdin"),
            tasks.create_task(_copy_resize(near, far), name="remote command: resize"),
        ]
        outputs = [
            tasks.create_task(_copy_output(far, near, channel), name=f"remote command: output {channel}")
            for channel in (STDOUT, STDERR)
        ]
        gone = False
        try:
            status = protocol.parse_status(await far.read_error())
            await asyncio.wait(outputs)
            gone = any(task.result() for task in outputs)
        except ConnectionError:
            status = protocol.failed("the connection to the container runtime broke")
        finally:
            for task in (*inputs, *outputs):
                task.cancel()
    if gone:
        raise ConnectionResetError("the client has gone")
    await near.finish(status)


async def _copy_stdin(near: CommandStreams, far: RemoteCommand) -> None:
    try:
        while data := await near.read_stdin():
            await far.write_stdin(data)
        await far.close_stdin()
    except ConnectionError:
        far.close()  # one side is gone: the other must not wait for it


async def _copy_resize(near: CommandStreams, far: RemoteCommand) -> None:
    try:
        while data := await near.read_resize():
            await far.write_resize(data)
    except ConnectionError:
        return


async def _copy_output(far: RemoteCommand, near: CommandStreams, channel: int) -> bool:
    """True when it was the client that went."""
    while True:
        try:
            data = await far.read_output(channel)
        except ConnectionError:
            return False
        if not data:
            return False
        try:
            await near.write(channel, data)
        except ConnectionError:
            far.close()
            return True
