"""exec, port-forward, logs and proxying against a fake kubelet and backend on real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kybern.api.core_v1 import (
    Container,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeDaemonEndpoints,
    NodeStatus,
    Pod,
    PodSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.proxy import forward, pods
from kybern.apiserver.proxy.kubelet import DialerOptions, KubeletDialer
from kybern.apiserver.proxy.targets import Target
from kybern.apiserver.request import Answer, Request, RequestInfo, Response, StreamResponse, UpgradeResponse
from kybern.machinery.status import ApiError
from kybern.testing.clock import FakeClock
from kybern.testing.objects import ObjectTable
from kybern.testing.streams import connect
from kybern.wire import message, tcp
from kybern.wire.http1 import serve
from kybern.wire.message import RawStream
from kybern.wire.remotecommand import protocol
from kybern.wire.remotecommand import server as remote
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.websocket.connection import WebSocket

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": base64.b64encode(b"0" * 16).decode(),
}


class PlainDialer(KubeletDialer):
    """Without TLS: the fake kubelet has no certificate."""

    async def dial(self, target: Target) -> RawStream:
        try:
            return await tcp.dial(target.host, target.port)
        except OSError:
            raise ApiError.unavailable("error trying to reach service: refused") from None


class Sunk:
    """A Sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.buffered = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.data += data

    write_framed = write

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def request(
    subresource: str, query: dict[str, list[str]] | None = None, headers: dict[str, str] | None = None, name: str = "p"
) -> Request:
    info = RequestInfo("get", "", True, "", "v1", "pods", subresource, "ns", name)
    return Request("GET", "/x", "/x", query or {}, headers or {}, info=info)


def scene(*containers: str, node: str | None = "n", port: int = 1) -> ObjectTable:
    spec = PodSpec(containers=[Container(name=c) for c in containers or ("main",)], nodeName=node)
    status = NodeStatus(
        addresses=[NodeAddress(type="InternalIP", address="127.0.0.1")],
        daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=port)),
    )
    return ObjectTable(
        Pod(metadata=ObjectMeta(namespace="ns", name="p"), spec=spec),
        Node(metadata=ObjectMeta(name="n"), status=status),
    )


def with_kubelet(
    application: Callable[[message.Request], Any], scenario: Callable[[ObjectTable, KubeletDialer], Awaitable[None]]
) -> None:
    """Run a scenario whose node's kubelet is `application`."""

    async def main() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            kubelet = await serve(
                application, request_type=message.Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1"
            )
            await scenario(scene(port=kubelet.port), PlainDialer(DialerOptions()))
            await kubelet.close(0)

    asyncio.run(main())


async def shown(answer: Answer) -> tuple[int, bytes]:
    if isinstance(answer, StreamResponse):
        sink = Sunk()
        await answer.run(sink)
        return answer.status, sink.data
    assert isinstance(answer, Response)
    return answer.status, answer.body


def test_containers_are_chosen_or_asked_for() -> None:
    pod = scene("a", "b").get("pods", "ns", "p")
    assert pods.choose_container(scene("only").get("pods", "ns", "p"), "") == "only"
    assert pods.choose_container(pod, "b") == "b"
    with pytest.raises(ApiError, match=r"a container name must be specified for pod p, choose one of: \[a b\]"):
        pods.choose_container(pod, "")
    with pytest.raises(ApiError, match="container c is not valid for pod p"):
        pods.choose_container(pod, "c")


def test_logs_are_streamed_with_the_options_passed_on() -> None:
    seen: list[str] = []

    def kubelet(asked: message.Request) -> Response:
        seen.append(asked.target)
        return Response(200, b"line\n", "text/plain")

    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        query = {"tailLines": ["1"], "follow": ["true"], "insecureSkipTLSVerifyBackend": ["true"]}
        answer = await pods.read_log(request("log", query), reader, dialer, FakeClock())
        assert await shown(answer) == (200, b"line\n")
        assert seen == ["/containerLogs/ns/p/main?follow=true&tailLines=1"]

    with_kubelet(kubelet, scenario)


def test_logs_are_sent_as_websocket_messages_to_those_who_ask() -> None:
    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        for offered, expected in (("binary.k8s.io", b"line\n"), ("base64.binary.k8s.io", base64.b64encode(b"line\n"))):
            asked = request("log", headers={**UPGRADE, "sec-websocket-protocol": offered})
            answer = await pods.read_log(asked, reader, dialer, FakeClock())
            assert isinstance(answer, UpgradeResponse)
            assert ("Sec-WebSocket-Protocol", offered) in answer.headers
            near, far = connect()
            await answer.run(near)
            assert await WebSocket(far, is_server=False).receive() == expected

    with_kubelet(lambda _: Response(200, b"line\n", "text/plain"), scenario)


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (400, b"container not ready", 400, "container not ready"),
        (400, b'{"kind":"Status","apiVersion":"v1","metadata":{},"message":"from a Status"}', 400, "from a Status"),
        (404, b"gone", 404, "the server could not find the requested resource"),
        (500, b"broken", 500, "broken"),
    ],
)
def test_a_kubelets_refusal_of_logs_becomes_an_error(status: int, body: bytes, code: int, text: str) -> None:
    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        with pytest.raises(ApiError, match=text) as caught:
            await pods.read_log(request("log"), reader, dialer, FakeClock())
        assert caught.value.code == code

    with_kubelet(lambda _: Response(status, body, "text/plain"), scenario)


def test_logs_of_a_pod_without_node_are_empty_and_nonsense_is_refused() -> None:
    async def main() -> None:
        dialer = PlainDialer(DialerOptions())
        empty = await pods.read_log(request("log"), scene(node=None), dialer, FakeClock())
        assert await shown(empty) == (204, b"")
        for query, code in (({"tailLines": ["-1"]}, 422), ({"limitBytes": ["0"]}, 422), ({"sinceTime": ["x"]}, 400)):
            with pytest.raises(ApiError) as caught:
                await pods.read_log(request("log", query), scene(), dialer, FakeClock())
            assert caught.value.code == code
        with pytest.raises(ApiError, match="not found"):
            await pods.read_log(request("log", name="nobody"), scene(), dialer, FakeClock())
        with pytest.raises(ApiError, match=r'Get "https://127\.0\.0\.1:1/containerLogs/ns/p/main": refused'):
            await pods.read_log(request("log"), scene(), dialer, FakeClock())

    asyncio.run(main())


async def shout(streams: CommandStreams) -> None:
    while data := await streams.read_stdin():
        await streams.write(protocol.STDOUT, data.upper())
    await streams.finish(protocol.exited(2))


def spdy_kubelet(seen: list[str]) -> Callable[[message.Request], Answer]:
    """Like every kubelet it speaks SPDY; it knows WebSockets up to v4."""

    def application(asked: message.Request) -> Answer:
        seen.append(f"{asked.method} {asked.headers['upgrade']} {asked.target}")
        options = protocol.Options(
            **{k: k2 in asked.query for k, k2 in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"))}
        )
        return remote.upgrade(asked, options, shout)

    return application


@pytest.mark.parametrize(("offered", "is_translated"), [("v5.channel.k8s.io", True), ("v4.channel.k8s.io", False)])
def test_exec_works_for_clients_newer_than_the_kubelet(offered: str, is_translated: bool) -> None:
    seen: list[str] = []

    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        query = {"command": ["sh", "-c", "a&b"], "stdin": ["true"], "stdout": ["1"], "stderr": ["false"]}
        asked = request("exec", query, {**UPGRADE, "sec-websocket-protocol": offered})
        answer = await pods.exec_pod(asked, reader, dialer)
        assert isinstance(answer, UpgradeResponse)
        assert ("Sec-WebSocket-Protocol", offered) in [
            (name.replace("Websocket", "WebSocket"), v) for name, v in answer.headers
        ]
        near, far = connect()
        async with asyncio.TaskGroup() as tasks:

            async def run() -> None:
                await answer.run(near)

            running = tasks.create_task(run())
            client = WebSocket(far, is_server=False)
            await client.send(b"\0hello")
            messages = []
            while (got := await client.receive()) is not None:
                messages.append(got)
                if got == b"\1HELLO":
                    if not is_translated:
                        break
                    await client.send(b"\xff\0")
            far.close()
            await running
        assert b"\1HELLO" in messages
        if is_translated:
            assert b'"reason":"NonZeroExitCode"' in messages[-1]
        how = "POST SPDY/3.1" if is_translated else "GET websocket"
        assert seen == [f"{how} /exec/ns/p/main?input=1&output=1&command=sh&command=-c&command=a%26b"]

    with_kubelet(spdy_kubelet(seen), scenario)


def test_a_kubelets_refusal_of_exec_reaches_the_client() -> None:
    def kubelet(_: message.Request) -> Answer:
        raise ApiError.make(404, "NotFound", 'container not found ("main")')

    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        for offered in ("v5.channel.k8s.io", "v4.channel.k8s.io"):
            asked = request("exec", {"command": ["x"], "stdout": ["1"]}, {**UPGRADE, "sec-websocket-protocol": offered})
            status, body = await shown(await pods.exec_pod(asked, reader, dialer))
            assert status == 404
            assert b"container not found" in body

    with_kubelet(kubelet, scenario)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"command": ["x"], "stdout": ["1"]}, "Upgrade request required"),
        ({"command": ["x"], "stdout": ["1"], "container": ["y"]}, "container y is not valid for pod p"),
    ],
)
def test_exec_requests_that_make_no_sense_are_refused(query: dict[str, list[str]], text: str) -> None:
    async def main() -> None:
        with pytest.raises(ApiError, match=text):
            await pods.exec_pod(request("exec", query), scene(), PlainDialer(DialerOptions()))
        with pytest.raises(ApiError, match="does not have a host assigned"):
            await pods.attach_pod(request("attach", {"stdout": ["1"]}), scene(node=None), PlainDialer(DialerOptions()))

    asyncio.run(main())


def test_a_proxied_request_keeps_method_body_and_query_and_its_answer_keeps_everything() -> None:
    def backend(asked: message.Request) -> Response:
        said = f"{asked.method} {asked.target} {asked.headers.get('x-mine')} {asked.headers.get('authorization')} "
        headers = (("Location", "/elsewhere"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
        return Response(418, said.encode() + asked.body, "text/teapot", headers)

    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        target = Target("http", "127.0.0.1", reader.get("nodes", "", "n").status.daemonEndpoints.kubeletEndpoint.Port)
        asked = Request("PUT", "/x", "/x", {}, {"x-mine": "1", "authorization": "secret"}, b"body")
        answer = await forward.forward(asked, dialer, target, "/prefix/proxy", "/a%2Fb?c=%20d")
        assert await shown(answer) == (418, b"PUT /a%2Fb?c=%20d 1 None body")
        assert isinstance(answer, StreamResponse)
        assert answer.content_type == "text/teapot"
        assert answer.headers == (("Location", "/prefix/proxy/elsewhere"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))

    with_kubelet(backend, scenario)


def test_pages_point_through_the_proxy() -> None:
    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        target = Target("http", "127.0.0.1", reader.get("nodes", "", "n").status.daemonEndpoints.kubeletEndpoint.Port)
        answer = await forward.forward(Request("GET", "/", "/", {}, {}), dialer, target, "/p/proxy", "/")
        assert await shown(answer) == (200, b'<a href="/p/proxy/rewriteme">test</a>')

    with_kubelet(lambda _: Response(200, b'<a href="/rewriteme">test</a>', "text/html; charset=utf-8"), scenario)


def test_an_answer_cut_short_is_not_passed_off_as_whole() -> None:
    cut = asyncio.Event()

    async def half(sink: message.Sink) -> None:
        sink.write(b"half")
        await cut.wait()
        sink.abort()

    async def scenario(reader: ObjectTable, dialer: KubeletDialer) -> None:
        target = Target("http", "127.0.0.1", reader.get("nodes", "", "n").status.daemonEndpoints.kubeletEndpoint.Port)
        answer = await forward.forward(Request("GET", "/", "/", {}, {}), dialer, target, "/p", "/")
        assert isinstance(answer, StreamResponse)
        cut.set()
        sink = Sunk()
        await answer.run(sink)
        assert sink.aborted

    with_kubelet(lambda _: StreamResponse(half), scenario)
