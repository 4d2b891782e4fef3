"""WebSocket messages and handshakes."""

from __future__ import annotations

import asyncio

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from kybern.machinery.status import ApiError
from kybern.testing.streams import connect
from kybern.wire.websocket import handshake
from kybern.wire.websocket.connection import MessageStream, WebSocket


def test_the_accept_key_is_the_rfcs() -> None:
    assert handshake.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_tokens_offered_as_subprotocols_are_never_agreed_on() -> None:
    headers = {"sec-websocket-protocol": "base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io"}
    assert handshake.offered_protocols(headers) == ["v4.channel.k8s.io"]


def test_the_clients_order_decides() -> None:
    assert handshake.choose_protocol(["x", "b", "a"], ["a", "b", ""]) == "b"
    assert handshake.choose_protocol([], ["a", ""]) == ""
    for offered, supported in ((["x"], ["a", ""]), ([], ["a"])):
        with pytest.raises(ApiError):
            handshake.choose_protocol(offered, supported)


def test_messages_arrive_whole_and_pings_are_answered() -> None:
    async def main() -> None:
        near, far = connect()
        server, client = WebSocket(near, is_server=True), WebSocket(far, is_server=False)
        await client.ping()
        await client.send(b"binary")
        await client.send("täxt".encode(), is_text=True)
        assert await server.receive() == b"binary"
        assert await server.receive() == "täxt".encode()
        await server.close()
        assert await client.receive() is None
        assert await server.receive() is None
        with pytest.raises(ConnectionError):
            await server.send(b"late")

    asyncio.run(main())


def test_fragments_are_put_together() -> None:
    async def main() -> None:
        near, far = connect()
        frames = FrameProtocol(client=True, extensions=[])
        await far.write(frames.send_data(b"one ", fin=False) + frames.send_data(b"two", fin=True))
        assert await WebSocket(near, is_server=True).receive() == b"one two"

    asyncio.run(main())


def test_a_message_without_end_is_refused() -> None:
    async def main() -> None:
        near, far = connect()
        server, client = WebSocket(near, is_server=True), WebSocket(far, is_server=False)
        frames = FrameProtocol(client=True, extensions=[])

        async def flood() -> None:
            for _ in range(50):
                await far.write(frames.send_data(b"x" * 100_000, fin=False))

        async with asyncio.TaskGroup() as tasks:
            flooding = tasks.create_task(flood())
            assert await server.receive() is None
            flooding.cancel()
        assert await client.receive() is None

    asyncio.run(main())


def test_unmasked_frames_of_a_client_end_the_connection() -> None:
    async def main() -> None:
        near, far = connect()
        await far.write(bytes((0x80 | Opcode.BINARY, 2)) + b"hi")
        assert await WebSocket(near, is_server=True).receive() is None

    asyncio.run(main())


def test_a_tunnel_is_a_plain_stream() -> None:
    async def main() -> None:
        near, far = connect()
        server = MessageStream(WebSocket(near, is_server=True))
        client = MessageStream(WebSocket(far, is_server=False))
        await client.write(b"one")
        await client.write(b"two")
        assert [await server.read(), await server.read()] == [b"one", b"two"]
        server.close()
        assert await client.read() == b""

    asyncio.run(main())
