"""The connection by bytes: what a client sends, what it gets back."""

from __future__ import annotations

import asyncio
import datetime
import gzip
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery.status import ApiError
from kybern.wire.http1.body import frame_chunk
from kybern.wire.http1.connection import Connection
from kybern.wire.http1.server import Limits, Server
from kybern.wire.message import RawStream, Request, Response, Sink, StreamResponse, UpgradeResponse


class StillClock:
    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class FakeTransport(asyncio.Transport):
    """Keeps what is written; tells the protocol when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False
        self.aborted = False
        self.reading = True
        self.writes = 0
        self.written = asyncio.Event()
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += bytes(data)
        self.written.set()
        self.writes += 1

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 4711) if name == "peername" else default


class Client:
    """The far end of one connection."""

    def __init__(self, tasks: asyncio.TaskGroup, application: Any, limits: Limits | None = None) -> None:
        self.server = Server(application, Request, tasks, StillClock(), limits or Limits())
        self.connection = Connection(self.server, asyncio.get_running_loop())
        self.transport = FakeTransport()
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    async def send(self, data: bytes) -> bytes:
        """What came back for these bytes."""
        before = len(self.transport.sent)
        self.connection.data_received(data)
        await self.settle()
        return self.transport.sent[before:]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        self.transport.close()


def run(scenario: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            await scenario(tasks)

    asyncio.run(main())


def echo(request: Request) -> Response:
    return Response(200, f"{request.method} {request.path} ".encode() + request.body, "text/plain")


def answers(application: Any, data: bytes, limits: Limits | None = None) -> tuple[bytes, FakeTransport]:
    """What `application` sends back for `data`, and the transport afterwards."""
    seen: list[tuple[bytes, FakeTransport]] = []

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, application, limits)
        seen.append((await client.send(data), client.transport))

    run(scenario)
    return seen[0]


def status_of(sent: bytes) -> int:
    return int(sent.split(b" ", 2)[1])


def test_a_request_is_answered_byte_for_byte() -> None:
    sent, transport = answers(echo, b"GET /a%20b?x=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert sent == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
        b"Content-Length: 9\r\n\r\nGET /a b "
    )
    assert not transport.closed


def test_a_request_may_arrive_byte_by_byte() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, echo)
        for byte in b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /q HTTP/1.1\r\nHost: h\r\n\r\n":
            client.connection.data_received(bytes([byte]))
        assert client.transport.sent.count(b"200 OK") == 2
        assert b"POST /p abc" in client.transport.sent
        assert client.transport.sent.endswith(b"GET /q ")

    run(scenario)


def test_pipelined_answers_are_joined_into_one_write() -> None:
    sent, transport = answers(echo, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
    assert sent.count(b"HTTP/1.1 200 OK") == 3
    assert transport.writes == 1


def test_more_pipelined_requests_than_a_turn_takes_are_all_answered() -> None:
    sent, _ = answers(echo, b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(100)))
    order = [int(part.split(b" ")[0]) for part in sent.split(b"GET /")[1:]]
    assert order == list(range(100))


def test_a_slow_answer_is_not_overtaken() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        release = asyncio.Event()

        async def slow() -> Response:
            await release.wait()
            return Response(200, b"slow", "text/plain")

        client = Client(tasks, lambda r: slow() if r.path == "/slow" else echo(r))
        assert await client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /fast HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        release.set()
        await client.settle()
        assert client.transport.sent.index(b"slow") < client.transport.sent.index(b"GET /fast")

    run(scenario)


def test_what_is_read_ahead_of_a_slow_answer_is_bounded() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        release = asyncio.Event()

        async def slow() -> Response:
            await release.wait()
            return Response()

        client = Client(tasks, lambda r: slow())
        one = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        await client.send(one * 4000)
        assert client.transport.reading
        await client.send(one)
        assert not client.transport.reading
        release.set()
        while len(client.transport.sent.split(b"200 OK")) < 4000:
            await client.settle()
        await client.settle()
        assert client.transport.reading

    run(scenario)


def test_nothing_is_read_while_the_client_does_not_take_its_answers() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, echo)
        client.connection.pause_writing()
        assert not client.transport.reading
        assert await client.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        client.connection.resume_writing()
        assert client.transport.sent.endswith(b"GET /late ")
        assert client.transport.reading

    run(scenario)


def test_a_chunked_body_is_read() -> None:
    sent, _ = answers(
        echo,
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n",
    )
    assert sent.endswith(b"POST / abcde")


def test_a_client_that_waits_is_told_to_continue() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, echo)
        first = await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.send(b"ok")).endswith(b"POST / ok")

    run(scenario)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),  # obs-fold
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / \r\nHost: h\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 400),
        (b"GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /?a=%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 20 + b"1\r\na\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3145729\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n300001\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415),
        (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 1001 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * (1 << 21), 431),
        (b"\x16\x03\x01\x02\x00\x01\n", 400),  # a TLS hello on a plain port
    ],
)
def test_what_is_malformed_gets_a_status_and_ends_the_connection(data: bytes, status: int) -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, echo)
        sent = await client.send(data + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        assert status_of(sent) == status
        assert b"Connection: close" in sent
        assert b'"kind":"Status"' in sent
        assert b"smuggled" not in sent
        assert await client.send(b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        client.server.expire(client.connection.deadline + 1)
        await client.settle()
        assert client.transport.closed

    run(scenario)


def test_an_encoded_slash_stays_in_its_segment() -> None:
    assert answers(echo, b"GET /a%2Fb%2fc%41 HTTP/1.1\r\nHost: h\r\n\r\n")[0].endswith(b"GET /a%2Fb%2FcA ")


def test_a_header_once_seen_does_not_hide_a_later_difference() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        def tell(request: Request) -> Response:
            found = request.headers.get("x", "none")
            request.headers = {"x": "given another set by the handler"}
            return Response(200, found.encode(), "text/plain")

        client = Client(tasks, tell)
        for value in (b"1", b"1", b"2"):
            assert (await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % value)).endswith(value)

    run(scenario)


def test_head_gets_the_length_and_no_body() -> None:
    sent, _ = answers(lambda r: Response(200, b"12345"), b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"Content-Length: 5\r\n" in sent
    assert sent.endswith(b"\r\n\r\n")


def test_no_content_has_neither_length_nor_body() -> None:
    sent, _ = answers(lambda r: Response(204, b"oops"), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"Content-Length" not in sent
    assert sent.endswith(b"\r\n\r\n")


def test_http10_and_connection_close_end_the_connection() -> None:
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n"):
        sent, transport = answers(echo, data)
        assert b"Connection: close\r\n" in sent
        assert transport.closed


def test_a_line_end_in_a_header_value_starts_no_header() -> None:
    response = Response(200, b"", headers=(("Warning", "a\r\nSet-Cookie: b"), ("X", "ümlaut 中")))
    sent, _ = answers(lambda r: response, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"Warning: a  Set-Cookie: b\r\n" in sent


def test_errors_of_handlers_become_statuses() -> None:
    def application(request: Request) -> Any:
        async def later() -> Response:
            raise ApiError.not_found("", "pods", "x")

        if request.path == "/later":
            return later()
        if request.path == "/bug":
            raise ValueError("not for the client's eyes")
        raise ApiError.unavailable("not now")

    for path, status in ((b"/", 503), (b"/later", 404), (b"/bug", 500)):
        sent, transport = answers(application, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
        assert status_of(sent) == status
        assert b"eyes" not in sent
        assert not transport.closed


def test_large_answers_are_compressed_for_those_who_accept_it() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        payload = b"0123456789" * 20_000
        client = Client(tasks, lambda r: Response(200, payload))
        plain = await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip;q=0\r\n\r\n")
        assert plain.endswith(payload)
        before = len(client.transport.sent)
        client.transport.written.clear()
        client.connection.data_received(b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
        await client.transport.written.wait()
        head, _, packed = client.transport.sent[before:].partition(b"\r\n\r\n")
        assert b"Content-Encoding: gzip" in head
        assert gzip.decompress(packed) == payload

    run(scenario)


def test_compressed_answers_keep_their_fields() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, lambda r: Response(200, b"x" * 200_000, fields=b"Audit-Id: 7\r\n"))
        sent = await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
        assert b"Audit-Id: 7\r\n" in sent.partition(b"\r\n\r\n")[0]

    run(scenario)


@pytest.mark.parametrize("accepts", [b"", b"Accept-Encoding: gzip\r\n"])
def test_a_long_document_is_told_in_parts_and_compressed_for_those_who_accept_it(accepts: bytes) -> None:
    async def tell(sink: Sink) -> None:
        for number in range(50):
            sink.write(b"%d," % number * 1000)
            await sink.drain()

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, lambda r: StreamResponse(tell, is_document=True))
        sent = await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + accepts + b"\r\n")
        head, _, body = sent.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert (b"Content-Encoding: gzip" in head) == bool(accepts)
        assert body.endswith(b"0\r\n\r\n")
        whole = unchunked(body)
        if accepts:
            assert len(whole) < 5_000
            whole = gzip.decompress(whole)
        assert whole == b"".join(b"%d," % number * 1000 for number in range(50))
        assert await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")  # the connection goes on

    run(scenario)


def unchunked(body: bytes) -> bytes:
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        found.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(found)


def test_a_long_document_is_finished_when_the_server_stops_and_a_stream_is_not() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        for is_document in (True, False):
            goes_on = asyncio.Event()

            async def tell(sink: Sink, goes_on: asyncio.Event = goes_on) -> None:
                sink.write(b"first")
                await goes_on.wait()
                sink.write(b"last")

            answered = StreamResponse(tell, is_document=is_document)
            client = Client(tasks, lambda r, answered=answered: answered)
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.connection.is_answering == is_document
            client.connection.end_stream()
            await client.settle()
            goes_on.set()
            await client.settle()
            assert (b"last" in client.transport.sent) == is_document

    run(scenario)


def test_a_stream_is_chunked_and_the_connection_goes_on() -> None:
    async def count(sink: Sink) -> None:
        sink.write(b"one")
        sink.write(b"")
        sink.write_framed(frame_chunk(b"two") + frame_chunk(b"three"))
        await sink.drain()

    one = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    sent, transport = answers(lambda r: StreamResponse(count), one + one)
    expected = b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
    assert sent.count(expected) == 2
    assert sent.count(b"Transfer-Encoding: chunked") == 2
    assert not transport.closed


def test_a_stream_to_http10_is_plain_until_the_end() -> None:
    async def count(sink: Sink) -> None:
        sink.write(b"one")
        sink.write_framed(frame_chunk(b"two") + frame_chunk(b"three"))

    sent, transport = answers(lambda r: StreamResponse(count), b"GET / HTTP/1.0\r\n\r\n")
    assert sent.endswith(b"\r\n\r\nonetwothree")
    assert b"chunked" not in sent
    assert transport.closed


def test_a_stream_learns_that_its_client_has_gone() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        ended: list[str] = []

        async def watched(sink: Sink) -> None:
            await sink.wait_closed()
            sink.write(b"into the void")
            ended.append("told")

        async def deaf(sink: Sink) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        for handler in (watched, deaf):
            client = Client(tasks, lambda r, handler=handler: StreamResponse(handler))
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            client.hang_up()
            await client.settle()
        assert ended == ["told", "cancelled"]

    run(scenario)


def test_a_stream_that_fails_ends_without_its_last_chunk() -> None:
    async def fail(sink: Sink) -> None:
        sink.write(b"half")
        raise RuntimeError("broken")

    sent, transport = answers(lambda r: StreamResponse(fail), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert sent.endswith(b"4\r\nhalf\r\n")
    assert transport.aborted


def test_an_upgraded_connection_carries_raw_bytes() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        async def shout(raw: RawStream) -> None:
            while data := await raw.read():
                await raw.write(data.upper())

        client = Client(tasks, lambda r: UpgradeResponse(shout, "websocket", (("Sec-WebSocket-Accept", "x"),)))
        sent = await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        head, _, rest = sent.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x" in head
        assert rest == b"EARLY"
        assert await client.send(b"later GET / HTTP/1.1\r\n\r\n") == b"LATER GET / HTTP/1.1\r\n\r\n"
        client.connection.eof_received()
        await client.settle()
        assert client.transport.closed

    run(scenario)


def test_an_upgraded_connection_reads_no_further_than_its_bound() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        go = asyncio.Event()
        got: list[int] = []

        async def later(raw: RawStream) -> None:
            await go.wait()
            while data := await raw.read():
                got.append(len(data))

        client = Client(tasks, lambda r: UpgradeResponse(later, "SPDY/3.1"))
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(5):
            await client.send(b"x" * 65536)
        assert not client.transport.reading
        go.set()
        await client.settle()
        assert client.transport.reading
        assert sum(got) == 5 * 65536
        client.hang_up()

    run(scenario)


def test_the_handler_of_a_client_that_has_gone_is_cancelled() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        ended: list[str] = []

        async def forever() -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            return Response()

        client = Client(tasks, lambda r: forever())
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        client.hang_up()
        await client.settle()
        assert ended == ["cancelled"]

    run(scenario)


def test_deadlines_end_the_idle_and_refuse_the_slow() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        for data, status in (
            (b"", 0),
            (b"GET / HT", 408),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab", 408),
        ):
            client = Client(tasks, echo)
            if data:
                await client.send(data)
            client.server.expire(client.connection.deadline - 1)
            assert not client.transport.sent
            client.server.expire(client.connection.deadline + 1)
            await client.settle()
            assert (status_of(client.transport.sent) if status else client.transport.closed and 0) == status
            client.server.expire(float("inf"))
            await client.settle()
            assert client.transport.closed

    run(scenario)


def test_a_closing_server_finishes_requests_and_ends_streams_well() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        release = asyncio.Event()

        async def slow() -> Response:
            await release.wait()
            return Response(200, b"done")

        async def forever(sink: Sink) -> None:
            sink.write(b"event")
            await asyncio.Event().wait()

        request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        idle = Client(tasks, echo)
        busy = Client(tasks, lambda r: slow())
        stream = Client(tasks, lambda r: StreamResponse(forever))
        for client in (idle, busy, stream):
            await client.send(request)
            client.server.is_closing = True
            client.connection.shut_down()
            await client.settle()
        assert idle.transport.closed
        assert not busy.transport.closed
        assert busy.connection.is_answering
        assert not stream.transport.closed
        assert not stream.connection.is_answering
        stream.connection.end_stream()
        await stream.settle()
        assert stream.transport.closed
        assert stream.transport.sent.endswith(b"5\r\nevent\r\n0\r\n\r\n")
        release.set()
        await busy.settle()
        assert b"Connection: close" in busy.transport.sent
        assert busy.transport.closed

    run(scenario)


def test_types_of_requests_are_the_servers_choice() -> None:
    class Mine(Request):
        pass

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        seen: list[Request] = []

        def application(request: Request) -> Response:
            seen.append(request)
            return Response()

        client = Client(tasks, application)
        client.server.request_type = cast("type[Request]", Mine)
        await client.send(b"GET /?a=1&b=%20&a=+&c HTTP/1.1\r\nHost: h\r\nX: 1\r\nx: 2\r\n\r\n")
        assert type(seen[0]) is Mine
        assert seen[0].query == {"a": ["1", " "], "b": [" "], "c": [""]}
        assert seen[0].headers == {"host": "h", "x": "1, 2"}
        assert seen[0].peer == "192.0.2.1"

    run(scenario)


def test_connections_beyond_the_limit_are_cut() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, echo, Limits(connections=1))
        second = Connection(client.server, asyncio.get_running_loop())
        transport = FakeTransport()
        transport.protocol = second
        second.connection_made(transport)
        await client.settle()
        assert transport.aborted
        assert not client.transport.aborted

    run(scenario)


REQUESTS = (
    b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n\r\n\r\nx",
    b"PUT /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HEAD /4 HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n",
    b"POST /5 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nz",
    b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n",
)


def mixed(request: Request) -> Any:
    async def later() -> Response:
        await asyncio.sleep(0)
        return echo(request)

    return later() if request.path == "/slow" else echo(request)


@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6), st.lists(st.integers(1, 60), max_size=20))
def test_answers_do_not_depend_on_how_requests_are_cut(requests: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(requests)

    async def scenario(tasks: asyncio.TaskGroup) -> None:
        whole, cut = Client(tasks, mixed), Client(tasks, mixed)
        await whole.send(wire)
        position = 0
        for size in [*cuts, len(wire)]:
            await cut.send(wire[position : position + size])
            position += size
        for client in (whole, cut):
            for _ in range(len(requests)):
                await client.settle()
        told = cut.transport.sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert told == whole.transport.sent
        assert told.count(b"200 OK") == len(requests)

    run(scenario)


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([*REQUESTS, b"\r\n", b"\n", b"\0", b": "])), max_size=12)
)
def test_no_bytes_make_the_server_fail(pieces: list[bytes]) -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client = Client(tasks, mixed)
        for piece in pieces:
            await client.send(piece)
        client.server.expire(float("inf"))
        client.server.expire(float("inf"))
        await client.settle()
        assert client.transport.closed
        assert b" 500 " not in client.transport.sent

    run(scenario)


def test_an_answer_is_sent_once_the_kernel_has_taken_it() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        told: list[str] = []
        client = Client(tasks, lambda r: Response(200, b"x", on_sent=lambda: told.append(r.path)))
        await client.send(b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n")
        assert told == ["/quick"]

        write = client.transport.write

        def full(data: bytes) -> None:
            write(data)
            client.connection.pause_writing()

        client.transport.write = full  # type: ignore[method-assign]
        await client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        assert told == ["/quick"]
        client.transport.write = write  # type: ignore[method-assign]
        client.connection.resume_writing()
        assert told == ["/quick", "/slow"]

    run(scenario)


def test_an_answer_counts_as_sent_when_its_client_goes_away() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        told: list[str] = []
        payload = b"0123456789" * 200_000  # so much that a thread compresses it
        client = Client(tasks, lambda r: Response(200, payload, on_sent=lambda: told.append(r.path)))
        client.connection.data_received(b"GET /packed HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
        client.hang_up()
        await client.settle()
        assert told == ["/packed"]

    run(scenario)
