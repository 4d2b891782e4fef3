"""The kubelet's API from request to answer, with a fake runtime behind it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kybern.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.cri import contract as cri
from kybern.kubelet.cri.contract import ContainerId, CriError, SandboxId
from kybern.kubelet.server.application import KubeletServer, Setting
from kybern.kubelet.server.contract import Ask, Caller
from kybern.kubelet.server.sampler import Sampler
from kybern.machinery.status import ApiError
from kybern.pki.certificates import Profile, generate_key, issue
from kybern.testing.clock import FakeClock
from kybern.testing.streams import connect
from kybern.wire import message
from kybern.wire.http1 import serve
from kybern.wire.message import Answer, Request, Response, StreamResponse, UpgradeResponse
from kybern.wire.portforward.protocol import stream_headers
from kybern.wire.remotecommand import protocol
from kybern.wire.remotecommand import server as remote
from kybern.wire.remotecommand.client import RemoteCommand
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.spdy.connection import SpdyConnection
from kybern.wire.websocket.connection import MessageStream, WebSocket

LABELS = {
    "io.kubernetes.pod.uid": "u",
    "io.kubernetes.pod.name": "web",
    "io.kubernetes.pod.namespace": "ns",
    "io.kubernetes.container.name": "c",
}
POD = Pod(
    metadata=ObjectMeta(namespace="ns", name="web", uid="u"),
    spec=PodSpec(containers=[Container(name="c")]),
    status=PodStatus(
        containerStatuses=[
            ContainerStatus(name="c", containerID="fake://id", state=ContainerState(running=ContainerStateRunning()))
        ]
    ),
)


class OnePod:
    def list(self) -> Sequence[Pod]:
        return [POD]

    def find(self, namespace: str, name: str) -> Pod | None:
        return POD if (namespace, name) == ("ns", "web") else None


class FakeRuntime:
    """The calls of `Cri` that the server makes. Its streaming server speaks SPDY, as containerd's."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self.log = log
        self.commands: list[list[str]] = []

    async def exec_url(self, container: ContainerId, command: Sequence[str], **_: bool) -> str:
        if command[0] == "refused":
            raise CriError("Exec", "Unknown", "no such thing")
        self.commands.append(list(command))
        return f"http://127.0.0.1:{self.port}/exec"

    async def attach_url(self, container: ContainerId, **_: bool) -> str:
        return f"http://127.0.0.1:{self.port}/exec"

    async def port_forward_url(self, sandbox: SandboxId, ports: Sequence[int]) -> str:
        return f"http://127.0.0.1:{self.port}/forward"

    async def exec_sync(self, container: ContainerId, command: Sequence[str], timeout: float) -> cri.ExecResult:
        return cri.ExecResult(" ".join(command).encode(), b"!", 0)

    async def container_status(self, container: ContainerId) -> cri.ContainerStatus:
        if container != "id":
            raise CriError("ContainerStatus", "NotFound", "no such container")
        return cri.ContainerStatus(
            container, "c", 0, cri.ContainerState.RUNNING, 0, 0, 0, 0, "", "", log_path=str(self.log)
        )

    async def list_containers(self, uid: str = "") -> Sequence[cri.Container]:
        running = cri.ContainerState.RUNNING
        return [cri.Container(ContainerId("id"), SandboxId("s"), "c", 0, running, 0, "", "", LABELS)]

    async def list_sandboxes(self, uid: str = "") -> Sequence[cri.Sandbox]:
        return [cri.Sandbox(SandboxId("s"), "web", "u", "ns", 0, cri.SandboxState.READY, 0)]

    async def container_usage(self) -> Sequence[cri.ContainerUsage]:
        return [cri.ContainerUsage(ContainerId("id"), "c", LABELS, 10**18, 5 * 10**9, 4096)]

    def streaming(self, request: message.Request) -> Answer:
        """Its streaming server."""
        if request.path == "/forward":

            async def forward(raw: message.RawStream) -> None:
                connection = SpdyConnection(raw, is_server=True)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(connection.run())
                    while (stream := await connection.accept()) is not None:
                        if stream.headers["streamtype"] == "data":
                            await stream.write(f"port {stream.headers['port']}".encode())
                            await stream.close()

            return UpgradeResponse(forward, "SPDY/3.1", ((protocol.PROTOCOL_HEADER, "portforward.k8s.io"),))
        return remote.upgrade(request, protocol.Options(stdin=True, stdout=True, stderr=True), self._run)

    async def _run(self, streams: CommandStreams) -> None:
        while data := await streams.read_stdin():
            await streams.write(protocol.STDOUT, data.upper())
        await streams.finish(protocol.exited(4))


class Allow:
    """Tokens are names; everybody but `guest` may do everything."""

    async def authenticate_token(self, token: str) -> Caller | None:
        return Caller(token) if token != "wrong" else None

    async def is_allowed(self, caller: Caller, ask: Ask) -> bool:
        return caller.name != "guest"


class Scene:
    def __init__(self, tmp_path: Path) -> None:
        self.runtime = FakeRuntime(tmp_path / "0.log")
        clock = FakeClock()
        self.server = KubeletServer(
            Setting("n", 2, {"kind": "KubeletConfiguration"}, tmp_path),
            OnePod(),
            self.runtime,  # type: ignore[arg-type]
            Allow(),
            Sampler(self.runtime, clock, tmp_path),  # type: ignore[arg-type]
            clock,
            lambda: b"kubelet_up 1\n",
            lambda: "",
        )

    async def ask(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
        token: str = "root",
        **query: str | list[str],
    ) -> Any:
        asked = Request(
            method,
            path,
            path,
            {k: v if isinstance(v, list) else [v] for k, v in query.items()},
            {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})},
        )
        return await self.server.application(asked)


def run(tmp_path: Path, scenario: Any) -> None:
    async def main() -> None:
        scene = Scene(tmp_path)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            fake = await serve(
                scene.runtime.streaming, request_type=Request, tasks=tasks, clock=FakeClock(), host="127.0.0.1"
            )
            scene.runtime.port = fake.port
            await scenario(scene, tasks)
            await fake.close(0)

    asyncio.run(main())


async def code_of(waiting: Any) -> int:
    try:
        answer = await waiting
    except ApiError as fault:
        return fault.code
    return int(answer.status)


def test_nobody_gets_in_unknown_or_unauthorized(tmp_path: Path) -> None:
    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        assert await code_of(scene.ask("/pods", token="")) == 401
        assert await code_of(scene.ask("/pods", token="wrong")) == 401
        assert await code_of(scene.ask("/pods", token="guest")) == 403
        assert await code_of(scene.ask("/pods")) == 200
        pair = issue(Profile("admin", client=True), None, datetime.datetime.now(datetime.UTC), generate_key())
        asked = Request("GET", "/pods", "/pods", {}, {}, certificates=(pair.certificate.public_bytes(Encoding.DER),))
        assert await code_of(scene.server.application(asked)) == 200

    run(tmp_path, scenario)


def test_the_nodes_state_is_told(tmp_path: Path) -> None:
    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        def decoded(answer: Response) -> Any:
            return msgspec.json.decode(answer.body)

        assert (await scene.ask("/healthz")).body == b"ok"
        assert decoded(await scene.ask("/pods"))["items"][0]["metadata"]["name"] == "web"
        assert decoded(await scene.ask("/runningpods/"))["items"][0]["metadata"]["uid"] == "u"
        assert decoded(await scene.ask("/configz")) == {"kubeletconfig": {"kind": "KubeletConfiguration"}}
        told = decoded(await scene.ask("/stats/summary"))
        assert (told["node"]["nodeName"], told["pods"][0]["podRef"]["name"]) == ("n", "web")
        assert set(decoded(await scene.ask("/stats/summary", only_cpu_and_memory="true"))["node"]) == {
            "nodeName",
            "startTime",
            "cpu",
            "memory",
        }
        assert (await scene.ask("/metrics")).body == b"kubelet_up 1\n"
        assert b"node_cpu_usage_seconds_total" in (await scene.ask("/metrics/resource")).body
        assert b"machine_cpu_cores 2" in (await scene.ask("/metrics/cadvisor")).body

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/nope", 404),
        ("GET", "/metrics/nope", 404),
        ("DELETE", "/pods", 405),
        ("GET", "/containerLogs/ns/nobody/c", 404),
        ("GET", "/containerLogs/ns/web/nobody", 404),
        ("POST", "/exec/ns/web/nobody", 404),
        ("POST", "/exec/ns/web/other-uid/c", 404),
        ("POST", "/exec/ns/web/c", 400),  # no streams
        ("POST", "/portForward/ns/web", 400),  # no upgrade
        ("GET", "/logs/../x", 404),
        ("GET", "/logs/nope", 404),
    ],
)
def test_what_is_not_there_is_refused(tmp_path: Path, method: str, path: str, code: int) -> None:
    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        assert await code_of(scene.ask(path, method=method)) == code

    run(tmp_path, scenario)


class Kept:
    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.buffered = 0

    def write(self, data: bytes) -> None:
        self.data += data

    write_framed = write

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def abort(self) -> None: ...


async def streamed(answer: StreamResponse) -> bytes:
    sink = Kept()
    await answer.run(sink)
    return sink.data


def test_logs_of_containers_and_of_the_node_are_streamed(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text("2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stdout F two\n")
    (tmp_path / "out").symlink_to("/etc/hostname")

    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        assert await streamed(await scene.ask("/containerLogs/ns/web/c", tailLines="1")) == b"two\n"
        assert b'<a href="0.log">0.log</a>' in (await scene.ask("/logs/")).body
        assert (await streamed(await scene.ask("/logs/0.log"))).endswith(b"two\n")
        assert await code_of(scene.ask("/logs/out")) == 404

    run(tmp_path, scenario)


UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "SPDY/3.1",
    "x-stream-protocol-version": "v4.channel.k8s.io, portforward.k8s.io",
}
WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "MDAwMDAwMDAwMDAwMDAwMA==",
}


async def talk(answer: Any, tasks: asyncio.TaskGroup) -> message.RawStream:
    """The client's end of an upgrade."""
    assert isinstance(answer, UpgradeResponse)
    near, far = connect()

    async def serve_one() -> None:
        await answer.run(near)

    tasks.create_task(serve_one())
    return far


def test_exec_reaches_the_runtime_over_spdy(tmp_path: Path) -> None:
    async def scenario(scene: Scene, tasks: asyncio.TaskGroup) -> None:
        query: dict[str, Any] = {"input": "1", "output": "1", "error": "1", "command": ["sh", "-c", "x"]}
        answer = await scene.ask("/exec/ns/web/c", UPGRADE, method="POST", **query)
        assert dict(answer.headers) == {protocol.PROTOCOL_HEADER: "v4.channel.k8s.io"}
        connection = SpdyConnection(await talk(answer, tasks), is_server=False)
        tasks.create_task(connection.run())
        command = await RemoteCommand.start(connection, protocol.Options(stdin=True, stdout=True, stderr=True))
        await command.write_stdin(b"hello")
        await command.close_stdin()
        assert await command.read_output(protocol.STDOUT) == b"HELLO"
        assert protocol.parse_status(await command.read_error()) == protocol.exited(4)
        assert scene.runtime.commands == [["sh", "-c", "x"]]
        command.close()

    run(tmp_path, scenario)


def test_exec_and_attach_reach_the_runtime_over_websockets(tmp_path: Path) -> None:
    async def scenario(scene: Scene, tasks: asyncio.TaskGroup) -> None:
        headers = {**WEBSOCKET, "sec-websocket-protocol": "v5.channel.k8s.io"}
        for path, query in (("/exec/ns/web/c", {"command": "x"}), ("/attach/ns/web/u/c", {})):
            answer = await scene.ask(path, headers, input="1", output="1", error="1", **query)
            client = WebSocket(await talk(answer, tasks), is_server=False)
            await client.send(b"\0hello")
            await client.send(b"\xff\0")
            messages = []
            while (got := await client.receive()) is not None:
                messages.append(got)
            assert b"\1HELLO" in messages
            assert messages[-1].startswith(b'\3{"kind":"Status"')
            client.abort()

    run(tmp_path, scenario)


def test_a_runtimes_refusal_is_told_before_the_upgrade(tmp_path: Path) -> None:
    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        with pytest.raises(ApiError, match="no such thing"):
            await scene.ask("/exec/ns/web/c", UPGRADE, method="POST", output="1", command="refused")

    run(tmp_path, scenario)


def test_ports_are_forwarded_by_all_protocols(tmp_path: Path) -> None:
    async def scenario(scene: Scene, tasks: asyncio.TaskGroup) -> None:
        plain = await scene.ask("/portForward/ns/web", UPGRADE, method="POST")
        tunnel_headers = {**WEBSOCKET, "sec-websocket-protocol": "SPDY/3.1+portforward.k8s.io"}
        tunnelled = await scene.ask("/portForward/ns/web", tunnel_headers)
        for raw in (await talk(plain, tasks), MessageStream(WebSocket(await talk(tunnelled, tasks), is_server=False))):
            connection = SpdyConnection(raw, is_server=False)
            tasks.create_task(connection.run())
            await connection.open(stream_headers("error", 80, 0), fin=True)
            data = await connection.open(stream_headers("data", 80, 0))
            assert await data.read() == b"port 80"
            connection.close()
        channels = await scene.ask(
            "/portForward/ns/web", {**WEBSOCKET, "sec-websocket-protocol": "v4.channel.k8s.io"}, port="81"
        )
        client = WebSocket(await talk(channels, tasks), is_server=False)
        assert [await client.receive() for _ in range(3)] == [b"\0Q\0", b"\1Q\0", b"\0port 81"]
        client.abort()
        with pytest.raises(ApiError, match="port"):
            await scene.ask("/portForward/ns/web", {**WEBSOCKET, "sec-websocket-protocol": "v4.channel.k8s.io"})

    run(tmp_path, scenario)


def test_run_gives_the_output(tmp_path: Path) -> None:
    async def scenario(scene: Scene, _: asyncio.TaskGroup) -> None:
        assert (await scene.ask("/run/ns/web/c", method="POST", cmd="ls /")).body == b"ls /!"

    run(tmp_path, scenario)
