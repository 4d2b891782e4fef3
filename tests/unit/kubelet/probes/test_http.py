"""HTTP requests to containers, against a server of bytes."""

import asyncio

import pytest

from kybern.api.core_v1 import Container, ContainerPort, HTTPGetAction, HTTPHeader
from kybern.kubelet.probes import http


def ask(answer, *, path="/", headers=(), timeout=5.0):
    """(answer, request) of one GET to a server that says `answer(port)`."""

    async def main():
        requests = []

        async def serve(reader, writer):
            requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            data = answer(server.sockets[0].getsockname()[1])
            if data is None:
                await asyncio.sleep(60)
            writer.write(data)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            got = await http.get(http.Target("http", "127.0.0.1", port, path), headers, timeout)
        finally:
            server.close()
        return got, requests

    return asyncio.run(main())


def reply(status, body="", **headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def test_status_and_body_are_read_and_the_kubelet_says_who_it_is():
    got, requests = ask(lambda _: reply(200, "fine"), path="/healthz?x=1")
    assert (got.status, got.body) == (200, "fine")
    assert requests[0].startswith("GET /healthz?x=1 HTTP/1.1\r\n")
    assert "User-Agent: kube-probe/" in requests[0]
    assert "Host: 127.0.0.1:" in requests[0]


def test_headers_of_the_probe_win_and_an_empty_one_removes():
    headers = [
        HTTPHeader(name="host", value="me"),
        HTTPHeader(name="User-Agent", value=""),
        HTTPHeader(name="X", value="1"),
    ]
    _, requests = ask(lambda _: reply(200), headers=headers)
    assert "host: me\r\n" in requests[0]
    assert "User-Agent" not in requests[0]
    assert "X: 1\r\n" in requests[0]


def test_a_body_without_length_ends_with_the_connection_and_is_cut():
    got, _ = ask(lambda _: b"HTTP/1.0 500 No\r\n\r\n" + b"x" * 50_000)
    assert (got.status, len(got.body)) == (500, http.BODY_LIMIT)


def test_redirects_are_followed_on_the_same_host_only():
    state = []

    def twice(port):
        state.append(1)
        return reply(302, Location="/next") if len(state) == 1 else reply(204)

    got, requests = ask(twice)
    assert got.status == 204
    assert requests[1].startswith("GET /next ")
    got, requests = ask(lambda _: reply(302, Location="http://203.0.113.1/steal"))
    assert (got.status, got.elsewhere) == (302, "http://203.0.113.1/steal")
    assert len(requests) == 1


@pytest.mark.parametrize("data", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_a_failure(data):
    with pytest.raises(http.HttpFailed):
        ask(lambda _: data)


def test_endless_redirects_and_silence_are_failures():
    with pytest.raises(http.HttpFailed, match="stopped after 10 redirects"):
        ask(lambda _: reply(302, Location="/"))
    with pytest.raises(http.HttpFailed, match="context deadline exceeded"):
        ask(lambda _: None, timeout=0.1)


def test_a_refused_connection_is_a_failure():
    async def main():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(http.HttpFailed, match="connection refused"):
            await http.get(http.Target("http", "127.0.0.1", port, "/"), [], 5.0)

    asyncio.run(main())


def test_ports_are_numbers_or_names_of_the_container():
    container = Container(name="c", ports=[ContainerPort(name="web", containerPort=8080)])
    action = HTTPGetAction(port="web", path="healthz", scheme="HTTPS")
    assert http.target_of(action, container, "10.0.0.1") == http.Target("https", "10.0.0.1", 8080, "/healthz")
    assert http.resolve_port("81", container) == 81
    for bad in ("nope", 0, 70000, ""):
        with pytest.raises(ValueError, match="port"):
            http.resolve_port(bad, container)


def test_a_line_break_in_a_header_cannot_make_a_second_request():
    with pytest.raises(http.HttpFailed, match="line break"):
        ask(lambda _: reply(200), headers=[HTTPHeader(name="X", value="1\r\nEvil: 2")])
