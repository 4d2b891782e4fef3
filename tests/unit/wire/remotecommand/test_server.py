"""exec by both protocols, from a client's bytes to the handler's streams, and through the bridge."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from kybern.api import codec
from kybern.api.meta_v1 import Status
from kybern.machinery.status import ApiError
from kybern.testing.streams import MemoryStream, connect
from kybern.wire.message import Request
from kybern.wire.remotecommand import bridge, protocol, server
from kybern.wire.remotecommand.client import RemoteCommand
from kybern.wire.remotecommand.protocol import ERROR, STDERR, STDIN, STDOUT, Options
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.spdy.connection import SpdyConnection, SpdyStream
from kybern.wire.websocket.connection import WebSocket

ALL = Options(stdin=True, stdout=True, stderr=True)


def request_of(**headers: str) -> Request:
    return Request(
        "GET", "/exec", "/exec", {}, {"connection": "Upgrade", **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def websocket_request(subprotocol: str) -> Request:
    offered = {"sec_websocket_protocol": subprotocol} if subprotocol else {}
    return request_of(
        upgrade="websocket",
        sec_websocket_version="13",
        sec_websocket_key=base64.b64encode(b"0" * 16).decode(),
        **offered,
    )


def spdy_request(versions: str = "v4.channel.k8s.io, v1.channel.k8s.io") -> Request:
    return request_of(upgrade="SPDY/3.1", x_stream_protocol_version=versions)


async def shout(streams: CommandStreams) -> None:
    """A command: what comes in goes out in capitals; it then complains and ends with 3."""
    while data := await streams.read_stdin():
        await streams.write(STDOUT, data.upper())
    await streams.write(STDERR, b"done")
    await streams.finish(protocol.exited(3))


def run(scenario: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            await scenario(tasks)

    asyncio.run(main())


def serve(tasks: asyncio.TaskGroup, request: Request, options: Options, handler: server.Handler) -> MemoryStream:
    """The client's end of an upgraded connection."""
    near, far = connect()
    answer = server.upgrade(request, options, handler)

    async def serve_one() -> None:
        await answer.run(far)

    tasks.create_task(serve_one())
    return near


async def messages_of(socket: WebSocket) -> list[bytes]:
    found = []
    while (message := await socket.receive()) is not None:
        found.append(message)
    return found


def test_a_v5_websocket_client_closes_stdin_and_gets_the_exit_code() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        socket = WebSocket(serve(tasks, websocket_request("v5.channel.k8s.io"), ALL, shout), is_server=False)
        await socket.send(b"\0hello")
        await socket.send(b"\xff\0")
        messages = await messages_of(socket)
        assert messages[:4] == [b"\1", b"\2", b"\1HELLO", b"\2done"]
        status = codec.decode(Status, messages[4][1:])
        assert messages[4][0] == ERROR
        assert (status.status, status.reason) == ("Failure", "NonZeroExitCode")
        assert status.details is not None
        assert (status.details.causes[0].reason, status.details.causes[0].message) == ("ExitCode", "3")

    run(scenario)


def test_a_base64_websocket_client_gets_text() -> None:
    async def greet(streams: CommandStreams) -> None:
        await streams.write(STDOUT, await streams.read_stdin())
        await streams.finish(protocol.failed("no luck"))

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        socket = WebSocket(serve(tasks, websocket_request("base64.channel.k8s.io"), ALL, greet), is_server=False)
        await socket.send(b"0" + base64.b64encode(b"hi"), is_text=True)
        assert await messages_of(socket) == [
            b"1",
            b"2",
            b"1" + base64.b64encode(b"hi"),
            b"3" + base64.b64encode(b"no luck"),
        ]

    run(scenario)


def test_success_before_v4_is_silent_on_the_error_channel() -> None:
    async def succeed(streams: CommandStreams) -> None:
        await streams.write(STDOUT, b"ok")
        await streams.finish(protocol.success())

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        only_out = Options(stdout=True)
        socket = WebSocket(serve(tasks, websocket_request("channel.k8s.io"), only_out, succeed), is_server=False)
        assert await messages_of(socket) == [b"\1", b"\1ok"]

    run(scenario)


def test_a_websocket_client_that_goes_ends_stdin_with_a_fault() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        told = asyncio.Event()

        async def wait(streams: CommandStreams) -> None:
            try:
                await streams.read_stdin()
            except ConnectionError:
                told.set()

        near = serve(tasks, websocket_request("v4.channel.k8s.io"), ALL, wait)
        assert await WebSocket(near, is_server=False).receive() == b"\1"
        near.close()
        await told.wait()

    run(scenario)


async def read_all(stream: SpdyStream) -> bytes:
    found = b""
    while data := await stream.read():
        found += data
    return found


def test_a_spdy_client_gets_streams_and_status() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        connection = SpdyConnection(serve(tasks, spdy_request(), ALL, shout), is_server=False)
        reader = tasks.create_task(connection.run())
        command = await RemoteCommand.start(connection, ALL)
        await command.write_stdin(b"x" * 100_000)
        await command.close_stdin()
        status = protocol.parse_status(await command.read_error())
        assert status == protocol.exited(3)
        out = b""
        while data := await command.read_output(STDOUT):
            out += data
        assert out == b"X" * 100_000
        assert await command.read_output(STDERR) == b"done"
        command.close()
        await reader

    run(scenario)


def test_a_spdy_client_that_opens_too_little_is_dropped_when_it_goes() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        near = serve(tasks, spdy_request(), ALL, shout)
        connection = SpdyConnection(near, is_server=False)
        reader = tasks.create_task(connection.run())
        await connection.open({"streamtype": "error"})
        near.close()
        await reader

    run(scenario)


def test_the_bridge_joins_a_websocket_client_and_a_spdy_runtime() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        far = serve(tasks, spdy_request(), ALL, shout)

        async def relay(streams: CommandStreams) -> None:
            connection = SpdyConnection(far, is_server=False)
            async with asyncio.TaskGroup() as inner:
                inner.create_task(connection.run())
                await bridge.join(streams, await RemoteCommand.start(connection, ALL))
                connection.close()

        socket = WebSocket(serve(tasks, websocket_request("v5.channel.k8s.io"), ALL, relay), is_server=False)
        await socket.send(bytes((STDIN,)) + b"through both")
        await socket.send(b"\xff\0")
        messages = await messages_of(socket)
        assert b"\1THROUGH BOTH" in messages
        assert b"\2done" in messages
        assert messages[-1] == bytes((ERROR,)) + codec.encode(protocol.exited(3))

    run(scenario)


def test_the_bridge_reports_a_runtime_that_breaks_off() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        far_near, far = connect()

        async def relay(streams: CommandStreams) -> None:
            connection = SpdyConnection(far_near, is_server=False)
            async with asyncio.TaskGroup() as inner:
                inner.create_task(connection.run())
                command = await RemoteCommand.start(connection, ALL)
                far.close()
                await bridge.join(streams, command)

        socket = WebSocket(serve(tasks, websocket_request("v4.channel.k8s.io"), ALL, relay), is_server=False)
        report = codec.decode(Status, (await messages_of(socket))[-1][1:])
        assert report.status == "Failure"

    run(scenario)


def test_the_bridge_lets_go_of_the_runtime_when_the_client_goes() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        told = asyncio.Event()

        async def never(streams: CommandStreams) -> None:
            try:
                await streams.read_stdin()
            except ConnectionError:
                told.set()
                raise

        far = serve(tasks, spdy_request(), ALL, never)

        async def relay(streams: CommandStreams) -> None:
            connection = SpdyConnection(far, is_server=False)
            async with asyncio.TaskGroup() as inner:
                inner.create_task(connection.run())
                await bridge.join(streams, await RemoteCommand.start(connection, ALL))

        near = serve(tasks, websocket_request("v4.channel.k8s.io"), ALL, relay)
        socket = WebSocket(near, is_server=False)
        assert await socket.receive() == b"\1"
        near.close()
        await told.wait()

    run(scenario)


def test_protocols_are_agreed_or_refused() -> None:
    assert server.plan_upgrade(websocket_request("v9.x, v4.channel.k8s.io")).protocol == "v4.channel.k8s.io"
    assert server.plan_upgrade(websocket_request("")).protocol == ""
    assert server.plan_upgrade(spdy_request("")).protocol == "channel.k8s.io"
    assert server.plan_upgrade(spdy_request("v3.channel.k8s.io")).version == 3
    for bad, code in (
        (websocket_request("v9.x"), 400),
        (spdy_request("v9.x"), 403),
        (request_of(upgrade="h2c"), 400),
        (request_of(upgrade="websocket", sec_websocket_version="8"), 426),
        (request_of(upgrade="websocket", sec_websocket_version="13", sec_websocket_key="short"), 400),
    ):
        with pytest.raises(ApiError) as caught:
            server.plan_upgrade(bad)
        assert caught.value.code == code


def test_a_terminal_has_no_stderr_and_asking_for_nothing_is_refused() -> None:
    assert server.expected_streams(Options(stdin=True, stdout=True, tty=True), 4) == {
        "error",
        "stdin",
        "stdout",
        "resize",
    }
    assert server.expected_streams(Options(stdin=True, stdout=True, tty=True), 2) == {"error", "stdin", "stdout"}
    with pytest.raises(ApiError):
        server.upgrade(spdy_request(), Options(), shout)
