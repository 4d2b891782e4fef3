"""The client's side of one exchange, by bytes."""

from __future__ import annotations

import asyncio

import pytest

from kybern.testing.streams import connect
from kybern.wire.http1.exchange import BadAnswer, Exchange, render_request


def exchange_of(*pieces: bytes, is_head: bool = False) -> Exchange:
    near, far = connect()
    for piece in pieces:
        asyncio.get_running_loop().call_soon(far._outbox.feed, piece)
    asyncio.get_running_loop().call_soon(far.close)
    return Exchange(near, is_head=is_head)


async def read(exchange: Exchange) -> bytes:
    return await exchange.read_all(1 << 20)


def test_a_request_is_rendered_with_its_length() -> None:
    assert render_request("GET", "/x", [("Host", "h")]) == b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
    assert render_request("POST", "/x", [("Host", "h")], b"ab").endswith(b"Content-Length: 2\r\n\r\nab")
    assert b"Content-Length: 0" in render_request("PUT", "/x", [])


@pytest.mark.parametrize("target", ["/a\r\nX: y", "/a\0"])
def test_a_forged_request_line_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        render_request("GET", target, [])


def test_heads_keep_order_and_repetition() -> None:
    async def main() -> None:
        exchange = exchange_of(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX: 1\r\nset-cookie: b\r\nContent-Length: 2\r\n\r\nok"
        )
        head = await exchange.read_head()
        assert head.status == 200
        assert head.headers[:3] == (("set-cookie", "a"), ("x", "1"), ("set-cookie", "b"))
        assert await read(exchange) == b"ok"

    asyncio.run(main())


def test_bodies_end_by_chunks_by_close_or_not_at_all() -> None:
    async def main() -> None:
        chunked = exchange_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"c\r\n0\r\n\r\n")
        closing = exchange_of(b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end")
        cut = exchange_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
        headless = exchange_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", is_head=True)
        for each in (chunked, closing, cut, headless):
            await each.read_head()
        assert await read(chunked) == b"abc"
        assert await read(closing) == b"until the end"
        assert await read(headless) == b""
        with pytest.raises(BadAnswer):
            await read(cut)

    asyncio.run(main())


def test_announcements_before_the_answer_are_passed_over() -> None:
    async def main() -> None:
        exchange = exchange_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n")
        head = await exchange.read_head()
        assert (head.status, head.get("x")) == (204, "y")

    asyncio.run(main())


def test_an_upgrade_gives_the_connection_with_what_came_behind() -> None:
    async def main() -> None:
        exchange = exchange_of(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nfir", b"st")
        assert (await exchange.read_head()).get("upgrade") == "SPDY/3.1"
        raw = exchange.take_raw()
        found = b""
        while data := await raw.read():
            found += data
        assert found == b"first"

    asyncio.run(main())


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"])
def test_what_is_no_answer_is_a_fault(answer: bytes) -> None:
    async def main() -> None:
        with pytest.raises(BadAnswer):
            await exchange_of(answer).read_head()

    asyncio.run(main())
