"""The server on real sockets: TLS, client certificates, renewal, closing."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509

from kybern.pki.certificates import KeyPair, Profile, generate_key, issue
from kybern.testing.clock import FakeClock
from kybern.wire import tcp, tls
from kybern.wire.http1 import serve
from kybern.wire.http1.exchange import Exchange, render_request
from kybern.wire.message import RawStream, Request, Response

NOW = datetime.datetime.now(datetime.UTC)
GET = render_request("GET", "/", [("Host", "h")])


class Authority:
    """A CA and what it signs, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._pair = issue(Profile(name, is_ca=True), None, NOW, generate_key())
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(self._pair.certificate_pem)

    def sign(self, name: str, *, days_ahead: int = 0) -> tls.KeyPair:
        profile = Profile(name, ("group",), addresses=("127.0.0.1",), server=True, client=True)
        return self.write(name, issue(profile, self._pair, NOW + datetime.timedelta(days=days_ahead), generate_key()))

    def write(self, name: str, pair: KeyPair) -> tls.KeyPair:
        found = tls.KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        found.certificate.write_bytes(pair.certificate_pem)
        found.key.write_bytes(pair.key_pem)
        return found


def name_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def who(request: Request) -> Response:
    return Response(200, name_of(request.certificates[0]).encode() if request.certificates else b"nobody")


async def ask(raw: RawStream) -> bytes:
    await raw.write(GET)
    exchange = Exchange(raw)
    await exchange.read_head()
    return await exchange.read_all(1 << 20)


def run(scenario: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            await scenario(tasks)

    asyncio.run(main())


def test_a_client_certificate_is_shown_to_the_application(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    server_pair, client_pair = authority.sign("server"), authority.sign("client")

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        context = tls.server_context(server_pair, (authority.path,))
        server = await serve(
            who, request_type=Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1", ssl_context=context
        )
        for pair, expected in ((client_pair, b"CN=client,O=group"), (None, b"nobody")):
            raw = await tcp.dial("127.0.0.1", server.port, context=tls.client_context(authority.path, pair))
            assert await ask(raw) == expected
            raw.close()
        await server.close(0)

    run(scenario)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    server_pair, client_pair = authority.sign("server"), stranger.sign("client")

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        context = tls.server_context(server_pair, (authority.path,))
        server = await serve(
            who, request_type=Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1", ssl_context=context
        )
        with pytest.raises(OSError):  # which one depends on when TLS 1.3 tells
            raw = await tcp.dial("127.0.0.1", server.port, context=tls.client_context(authority.path, client_pair))
            await ask(raw)
        with pytest.raises(OSError, match="certificate verify failed"):
            await tcp.dial("127.0.0.1", server.port, context=tls.client_context(stranger.path, None))
        await server.close(0)

    run(scenario)


def test_a_renewed_certificate_is_served_to_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.sign("server")
    context = tls.server_context(pair)
    renewal = tls.Renewal(context, pair)
    assert not renewal.reload_if_changed()
    renewed = authority.sign("server")
    assert renewed == pair
    assert renewal.reload_if_changed()
    assert not renewal.reload_if_changed()


def test_closing_finishes_the_request_under_way_and_accepts_no_more() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def slow() -> Response:
            started.set()
            await release.wait()
            return Response(200, b"done")

        server = await serve(lambda _: slow(), request_type=Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1")
        port = server.port
        raw = await tcp.dial("127.0.0.1", port)
        answer = tasks.create_task(ask(raw))
        await started.wait()
        closing = tasks.create_task(server.close())
        await asyncio.sleep(0)
        release.set()
        assert await answer == b"done"
        assert await raw.read() == b""
        with pytest.raises(OSError):
            await tcp.dial("127.0.0.1", port)
        closing.cancel()  # its clock stands still

    run(scenario)


def test_a_large_answer_reaches_a_client_that_reads_slowly() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        body = b"0123456789abcdef" * 500_000
        server = await serve(
            lambda _: Response(200, body), request_type=Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1"
        )
        raw = await tcp.dial("127.0.0.1", server.port)
        await raw.write(GET * 3)
        exchange = Exchange(raw)
        await exchange.read_head()
        assert await exchange.read_all(len(body)) == body
        raw.close()
        await server.close(0)

    run(scenario)


def test_a_server_that_ends_may_go_on_listening_until_what_is_under_way_is_done() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def slow() -> Response:
            started.set()
            await release.wait()
            return Response(200, b"done")

        calls = iter([True, False])
        clock = FakeClock()
        server = await serve(
            lambda _: slow() if next(calls) else Response(429, b"late"),
            request_type=Request,
            tasks=tasks,
            clock=clock,
            host="127.0.0.1",
        )
        port = server.port
        first = await tcp.dial("127.0.0.1", port)
        answer = tasks.create_task(ask(first))
        await started.wait()
        closing = tasks.create_task(server.close(60, listen=True))
        await asyncio.sleep(0)
        late = await tcp.dial("127.0.0.1", port)
        await late.write(GET)
        exchange = Exchange(late)
        head = await exchange.read_head()
        assert (head.status, head.get("connection")) == (429, "close")
        release.set()
        assert await answer == b"done"
        await clock.advance(1)
        await closing
        with pytest.raises(OSError):
            await tcp.dial("127.0.0.1", port)

    run(scenario)
