"""TLS on real sockets: what is written arrives, however slowly it is read, and whoever misbehaves harms nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from kybern.pki.certificates import Profile, generate_key, issue
from kybern.wire import tls
from kybern.wire.secure import SecureListener, SecureTransport

BODY = bytes(range(256)) * 20_000  # 5 MB: more than the kernel takes at once


class Echo(asyncio.Protocol):
    """Keeps what it is told; does what the test says with each piece."""

    def __init__(self, on_data: Callable[[Echo, bytes], None]) -> None:
        self.on_data = on_data
        self.transport = cast("SecureTransport", None)
        self.told: list[str] = []
        self.received = 0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("SecureTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.on_data(self, data)

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)


class Server:
    """A listener whose protocols are kept."""

    def __init__(self, context: ssl.SSLContext, on_data: Callable[[Echo, bytes], None], *, most_waiting: int) -> None:
        self.made: list[Echo] = []
        self._on_data = on_data
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(listening.getsockname()[1])
        self.listener = SecureListener(
            (listening,), context, self._make, most_waiting=most_waiting, handshake_timeout=10.0
        )

    def _make(self) -> Echo:
        self.made.append(Echo(self._on_data))
        return self.made[-1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("pki")
    made = issue(
        Profile("server", addresses=("127.0.0.1",), server=True),
        None,
        datetime.datetime.now(datetime.UTC),
        generate_key(),
    )
    pair = tls.KeyPair(folder / "tls.crt", folder / "tls.key")
    pair.certificate.write_bytes(made.certificate_pem)
    pair.key.write_bytes(made.key_pem)
    return tls.server_context(pair)


def run(
    context: ssl.SSLContext,
    scenario: Callable[[Server], Awaitable[None]],
    on_data: Callable[[Echo, bytes], None] = lambda echo, data: echo.transport.write(data),
    most_waiting: int = 100,
) -> None:
    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[Server]:
        server = Server(context, on_data, most_waiting=most_waiting)
        try:
            yield server
        finally:
            server.listener.close()
            for echo in server.made:
                echo.transport.abort()

    async def main() -> None:
        async with asyncio.timeout(30), serving() as server:
            await scenario(server)

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


def send_body(echo: Echo, _: bytes) -> None:
    echo.transport.write(BODY)


def test_what_is_said_comes_back(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        for text in (b"a", b"b" * 16_384, b"c" * 16_385, b"d" * 300_000):
            writer.write(text)
            assert await reader.readexactly(len(text)) == text
        writer.close()
        assert await server.made[0].lost is None
        assert server.made[0].told[-2:] == ["eof", "lost"]

    run(context, scenario)


def test_a_reader_that_is_slow_gets_every_byte_and_the_writer_is_told_to_pause(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"go")
        await until(lambda: bool(server.made and server.made[0].told))
        echo = server.made[0]
        assert echo.told == ["pause"]
        assert 0 < echo.transport.get_write_buffer_size() < len(BODY)
        echo.transport.write(b"and more")
        got = await reader.readexactly(len(BODY) + 8)
        assert got == BODY + b"and more"
        assert echo.told == ["pause", "resume"]
        assert echo.transport.get_write_buffer_size() == 0
        writer.close()

    run(context, scenario, send_body)


def test_closing_sends_what_was_written_and_then_the_end(context: ssl.SSLContext) -> None:
    def answer(echo: Echo, _: bytes) -> None:
        echo.transport.write(BODY)
        echo.transport.close()
        echo.transport.write(b"too late")

    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"go")
        assert await reader.read(-1) == BODY
        assert writer.get_extra_info("ssl_object") is not None  # it ended with a goodbye, not with a reset
        writer.close()
        assert await server.made[0].lost is None

    run(context, scenario, answer)


def test_a_client_that_is_still_sending_sees_the_last_answer(context: ssl.SSLContext) -> None:
    def refuse(echo: Echo, _: bytes) -> None:
        echo.transport.write(b"no")
        echo.transport.close()

    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(BODY)
        assert await reader.read(-1) == b"no"
        writer.close()

    run(context, scenario, refuse)


def test_reading_pauses_and_goes_on(context: ssl.SSLContext) -> None:
    def first_only(echo: Echo, _: bytes) -> None:
        echo.transport.pause_reading()

    async def scenario(server: Server) -> None:
        _, writer = await server.connect()
        writer.write(b"x" * 200_000)
        await until(lambda: bool(server.made and server.made[0].received))
        echo = server.made[0]
        for _ in range(20):
            await asyncio.sleep(0)
        assert echo.received == 16_384
        echo.on_data = lambda _echo, _data: None
        echo.transport.resume_reading()
        await until(lambda: echo.received == 200_000)
        writer.close()

    run(context, scenario, first_only)


def test_who_does_not_speak_tls_is_cut_and_others_are_served(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)  # an alert, or nothing
        writer.close()
        assert not server.made
        assert not server.listener.handshaking
        reader, writer = await server.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    run(context, scenario)


def test_who_says_nothing_is_cut_when_the_time_is_up(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: bool(server.listener.handshaking))
        server.listener.expire(asyncio.get_running_loop().time())
        assert len(server.listener.handshaking) == 1
        server.listener.expire(asyncio.get_running_loop().time() + 11)
        assert await reader.read() == b""
        assert not server.listener.handshaking
        writer.close()

    run(context, scenario)


def test_those_in_their_handshake_are_bounded(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        for reader, _ in clients[2:]:
            assert await reader.read() == b""
        assert len(server.listener.handshaking) == 2
        for _, writer in clients:
            writer.close()

    run(context, scenario, most_waiting=2)


def hello() -> bytes:
    """What a client says first."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(heard, said).do_handshake()
    return said.read()


def test_many_who_come_at_once_have_their_turns_one_after_the_other(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        listener, speaking = server.listener, server.listener._speaking
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        await until(lambda: len(listener.handshaking) == 40)
        for client in clients[1:]:
            client.sendall(hello())
        left = 39
        while left:
            await asyncio.sleep(0)
            assert len(speaking) >= left - 4 or not speaking
            if speaking:
                left = len(speaking)
                # Whom the server makes wait has all the time; whoever keeps silent has not.
                listener.expire(asyncio.get_running_loop().time() + 11)
                assert len(listener.handshaking) >= left
            elif left < 39:
                break
        assert clients[0].recv(1) == b""
        for client in clients:
            client.close()

    run(context, scenario)


@pytest.mark.parametrize("is_late", [False, True])
def test_the_first_come_first_but_where_all_have_waited_long_the_last(context: ssl.SSLContext, is_late: bool) -> None:
    async def scenario(server: Server) -> None:
        listener = server.listener
        listener.late_seconds = -1.0 if is_late else 60.0
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        await until(lambda: len(listener.handshaking) == 12)
        for client in clients:
            client.sendall(hello())
        for transport in list(listener.handshaking):
            transport._hear()
        before = [transport for transport, _ in listener._speaking]
        assert len(before) == 12
        listener._take_turns()
        assert [transport for transport, _ in listener._speaking] == (before[:-4] if is_late else before[4:])
        await until(lambda: not listener._speaking)
        for client in clients:
            client.settimeout(10)
            assert client.recv(100)
            client.close()

    run(context, scenario)


def test_nobody_waits_for_the_handshake_of_one_who_has_gone(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        client = socket.create_connection(("127.0.0.1", server.port))
        await until(lambda: len(server.listener.handshaking) == 1)
        client.sendall(hello())
        client.shutdown(socket.SHUT_WR)
        await until(lambda: not server.listener.handshaking)
        client.settimeout(10)
        with contextlib.suppress(ConnectionError):  # what it said was not even read
            assert client.recv(1) == b""
        client.close()

    run(context, scenario)


def test_a_reset_ends_the_connection(context: ssl.SSLContext) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        found: Any = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await server.made[0].lost
        server.made[0].transport.write(b"nobody hears this")
        assert server.made[0].transport.get_write_buffer_size() == 0

    run(context, scenario)


def test_a_protocol_that_fails_ends_only_its_own_connection(context: ssl.SSLContext) -> None:
    def fail(echo: Echo, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("no")
        echo.transport.write(data)

    async def scenario(server: Server) -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))
        (bad_reader, bad), (good_reader, good) = await server.connect(), await server.connect()
        bad.write(b"bad")
        assert await bad_reader.read() == b""
        good.write(b"good")
        assert await good_reader.readexactly(4) == b"good"
        assert [about["message"] for about in told] == ["a protocol failed"]
        for writer in (good, bad):
            writer.close()

    run(context, scenario, fail)
