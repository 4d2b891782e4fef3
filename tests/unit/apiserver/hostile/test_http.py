"""Smuggled and malformed HTTP, slow bodies, huge headers, abused upgrades: against a whole server, in bytes."""

from __future__ import annotations

import pytest

from kybern.testing import live_server
from kybern.testing.live_server import Live
from kybern.wire.http1.server import Limits

pytestmark = pytest.mark.thorough

CONFIGS = b"/api/v1/namespaces/default/configmaps"
AUTH = b"Host: h\r\nAuthorization: Bearer admin\r\n"
BODY = b'{"metadata":{"name":"smuggled"}}'
# A whole request that nobody has sent: if it is answered, it was smuggled in.
INNER = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    CONFIGS,
    AUTH,
    len(BODY),
    BODY,
)
GET = b"GET /version HTTP/1.1\r\n" + AUTH


def post(fields: bytes, body: bytes) -> bytes:
    return b"POST " + CONFIGS + b" HTTP/1.1\r\n" + AUTH + fields + b"\r\n" + body


CHUNKED_INNER = b"0\r\n\r\n" + INNER
SMUGGLED = {
    "length and chunks": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKED_INNER),
    "chunks and length": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKED_INNER),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(INNER), INNER),
    "two lengths in one": post(b"Content-Length: 0, %d\r\n" % len(INNER), INNER),
    "a signed length": post(b"Content-Length: +0\r\n", INNER),
    "a negative length": post(b"Content-Length: -1\r\n", INNER),
    "a length in hexadecimal": post(b"Content-Length: 0x0\r\n", INNER),
    "a length with a space": post(b"Content-Length: 0 0\r\n", INNER),
    "an unknown coding": post(b"Transfer-Encoding: xchunked\r\n", CHUNKED_INNER),
    "chunked, then another": post(b"Transfer-Encoding: chunked, identity\r\n", CHUNKED_INNER),
    "a space before the colon": post(b"Transfer-Encoding : chunked\r\n", CHUNKED_INNER),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n", CHUNKED_INNER),
    "a tab before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKED_INNER),
    "an unending chunk size": post(b"Transfer-Encoding: chunked\r\n", b"f" * 40 + b"\r\n" + INNER),
    "a chunk size with a sign": post(b"Transfer-Encoding: chunked\r\n", b"-1\r\n" + INNER),
    "a chunk without its end": post(b"Transfer-Encoding: chunked\r\n", b"1\r\nab\r\n" + CHUNKED_INNER),
    "line feeds alone": GET.replace(b"\r\n", b"\n") + b"\n" + INNER.replace(b"\r\n", b"\n"),
    "a carriage return alone": GET + b"X: a\rContent-Length: 0\r\n\r\n" + INNER[:0],
    "a NUL in a field": GET + b"X: a\x00b\r\n\r\n",
    "a space in a name": GET + b"X Y: a\r\n\r\n",
    "no colon": GET + b"nothing\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "no host": b"GET /version HTTP/1.1\r\nAuthorization: Bearer admin\r\n\r\n",
    "two tokens": GET + b"Authorization: Bearer jane\r\n\r\n",
    "HTTP/2 by guess": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /version\r\n\r\n",
    "a version of its own": b"GET /version HTTP/1.7\r\n" + AUTH + b"\r\n",
    "a space in the target": b"GET /version /x HTTP/1.1\r\n" + AUTH + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
}


def test_an_ambiguous_request_is_refused_and_hides_no_other() -> None:
    async def scenario(live: Live) -> None:
        for name, data in SMUGGLED.items():
            answer = await live.say(data)
            assert live.server.registry.objects.get("configmaps", "default", "smuggled") is None, name
            assert answer[9:12] in (b"400", b"413", b"415", b"417", b"501", b"505"), (name, answer[:200])
            assert answer.count(b"\r\nDate: ") == 1, name
            assert b'"kind":"Status"' in answer, name

    live_server.run(scenario)


def test_a_head_without_end_is_cut_off_at_its_limit() -> None:
    async def scenario(live: Live) -> None:
        assert (await live.say(b"GET / HTTP/1.1\r\nX: " + b"a" * (2 << 20)))[9:12] == b"431"
        assert (await live.say(GET + b"X: y\r\n" * 5000 + b"\r\n"))[9:12] == b"431"

    live_server.run(scenario)


def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    async def scenario(live: Live) -> None:
        assert (await live.say(post(b"Content-Length: 99999999999\r\n", b"")))[9:12] == b"413"
        assert (await live.say(post(b"Content-Length: " + b"9" * 400 + b"\r\n", b"")))[9:12] in (b"400", b"413")
        assert (await live.say(post(b"Transfer-Encoding: chunked\r\n", b"fffffff\r\n")))[9:12] == b"413"

    live_server.run(scenario)


def test_slow_heads_and_bodies_are_ended() -> None:
    async def scenario(live: Live) -> None:
        assert (await live.say(b"GET / HTTP/1.1\r\nX: a", then_close=False))[9:12] == b"408"
        answer = await live.say(post(b"Content-Length: 10\r\n", b"{"), then_close=False)
        assert answer[9:12] == b"408"

    live_server.run(scenario, Limits(header_timeout=0.1, body_timeout=0.1))


EXEC = b"/api/v1/namespaces/default/pods/a/exec?command=x"
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
KEY = b"dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADES = {
    "of nothing that there is": b"GET " + EXEC + b" HTTP/1.1\r\n" + AUTH + SOCKET + KEY,
    "of a plain resource": b"GET " + CONFIGS + b" HTTP/1.1\r\n" + AUTH + SOCKET + KEY,
    "to something unknown": b"GET " + EXEC + b" HTTP/1.1\r\n" + AUTH + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "without a key": b"GET " + EXEC + b" HTTP/1.1\r\n" + AUTH + SOCKET[:-19],
    "with a key that is none": b"GET " + EXEC + b" HTTP/1.1\r\n" + AUTH + SOCKET + b"!\r\n",
    "of an old version": b"GET " + EXEC + b" HTTP/1.1\r\n" + AUTH + SOCKET.replace(b"13", b"0") + KEY,
    "with a token among protocols": b"GET " + EXEC + b" HTTP/1.1\r\nHost: h\r\n" + SOCKET + KEY
    + b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.!!!, v5.channel.k8s.io\r\n",
    "with two tokens": b"GET " + EXEC + b" HTTP/1.1\r\nHost: h\r\n" + SOCKET + KEY
    + b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YWRtaW4, "
    + b"base64url.bearer.authorization.k8s.io.amFuZQ\r\n",
}  # fmt: skip


def test_an_abused_upgrade_is_refused_and_the_connection_goes_on() -> None:
    async def scenario(live: Live) -> None:
        for name, data in UPGRADES.items():
            # What follows is another request, and not the beginning of a stream.
            answer = await live.say(data + b"\r\n" + GET + b"\r\n")
            assert answer[9:10] in (b"2", b"4"), (name, answer[:200])
            assert b"101 Switching" not in answer, name

    live_server.run(scenario)


GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + bytes(20)
VALID = b'{"metadata":{"name":"%b"}}'


def made(name: bytes, fields: bytes = b"", *, length: bool = True) -> bytes:
    """A create of a config map with this name."""
    body = VALID % name
    told = b"Content-Length: %d\r\n" % len(body) if length else b""
    return post(b"Content-Type: application/json\r\n" + told + fields, body if length else b"")


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async def scenario(live: Live) -> None:
        names = [b"p%d" % number for number in range(20)]
        answer = await live.say(b"".join(made(name) for name in names) + GET + b"\r\n")
        assert answer.count(b"HTTP/1.1 201") == len(names)
        places = [answer.index(b'"name":"%b"' % name) for name in names]
        assert places == sorted(places)
        assert answer.rindex(b"gitVersion") > places[-1]

    live_server.run(scenario)


def test_a_flood_of_pipelined_requests_is_held_back_not_stored_up() -> None:
    async def scenario(live: Live) -> None:
        answer = await live.say((GET + b"\r\n") * 3000)
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200")
        assert answer.startswith(b"HTTP/1.1 200")

    live_server.run(scenario)


def test_trailers_change_nothing_of_a_request() -> None:
    body = VALID % b"trailed"
    trailers = b"Authorization: Bearer nobody\r\nContent-Length: 9\r\nImpersonate-User: jane\r\n"

    async def scenario(live: Live) -> None:
        fields = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        data = post(fields, b"%x\r\n%b\r\n0\r\n" % (len(body), body) + trailers + b"\r\n")
        answer = await live.say(data + GET + b"\r\n")
        assert answer[9:12] in (b"201", b"400")  # taken without them, or refused
        made_by = live.server.registry.objects.get("configmaps", "default", "trailed")
        assert (made_by is not None) == (answer[9:12] == b"201")

    live_server.run(scenario)


def test_an_expectation_is_met_or_refused_and_the_body_is_not_another_request() -> None:
    async def scenario(live: Live) -> None:
        answer = await live.say(made(b"expected", b"Expect: 100-continue\r\n") + GET + b"\r\n")
        assert answer.startswith((b"HTTP/1.1 100", b"HTTP/1.1 201"))
        assert b"HTTP/1.1 201" in answer and b"gitVersion" in answer
        answer = await live.say(made(b"odd", b"Expect: 200-ok\r\n"))
        assert answer[9:12] in (b"417", b"201")
        answer = await live.say(post(b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n", b""))
        assert answer[9:12] == b"413"  # said before the body is asked for

    live_server.run(scenario)


def test_a_packed_body_is_not_unpacked() -> None:
    """Content-Encoding of requests is no part of the API: a bomb stays as small as it came."""

    async def scenario(live: Live) -> None:
        for coding in (b"gzip", b"deflate", b"br", b"identity", b"gzip, gzip"):
            fields = b"Content-Type: application/json\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n"
            answer = await live.say(post(fields % (coding, len(GZIP)), GZIP))
            assert answer[9:12] in (b"400", b"415"), coding

    live_server.run(scenario)


def test_an_upgrade_to_http_2_is_passed_over() -> None:
    settings = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"

    async def scenario(live: Live) -> None:
        answer = await live.say(GET + settings + INNER[:0])
        assert answer[9:12] in (b"200", b"400")
        assert b"101" not in answer[9:12]
        answer = await live.say(made(b"h2c", b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n") + INNER)
        assert not answer.startswith(b"HTTP/1.1 101")

    live_server.run(scenario)
