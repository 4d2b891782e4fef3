"""What the benchmarks of the API server share: a server on a fresh store, who asks it, and what they ask for.

A server of its own process on a durable SQLite store; TLS, bearer token, RBAC by a binding (not system:masters).
`wrk` is the client whose own work does not count; `Client`, in this process, does what wrk cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from kybern import pki
from kybern.client.clock import RealClock

TOKEN = "bench-token"
CONNECTIONS = 32
SECONDS = 4
PODS = 3000


def pod(name: str, namespace: str = "bench", shard: str = "") -> bytes:
    """A pod of usual size; its shard is the last digit of its name unless told."""
    container = {
        "name": "web",
        "image": "registry.example/web:1.0",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": f"KEY_{i}", "value": f"value-{i}"} for i in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
    }
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "web", "shard": shard or name[-1]}}
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Peer:
    """A server under load: where it is, and its process; its store, where that is another."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], store: Peer | None = None) -> None:
        self.port = port
        self.process = process
        self.store = store

    @property
    def rss_mib(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024  # type: ignore[union-attr]


def launch(command: list[str]) -> subprocess.Popen[bytes]:
    """A server, with its modules compiled as those of an installation are."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, env=environment)


@contextlib.contextmanager
def kybern(folder: Path, *flags: str) -> Iterator[Peer]:
    """An API server on a fresh store."""
    port = free_port()
    made = pki.ensure(folder, names=["bench"], addresses=["127.0.0.1"], clock=RealClock())
    (folder / "tokens.csv").write_text(
        f"{TOKEN},bench,1,bench-users\nboot,boot,2,system:masters\nnode,system:node:n1,3,system:nodes\n"
    )
    command = [
        *(sys.executable, "-m", "kybern.cli.main", "apiserver", "--store", str(folder / "bench.db")),
        *("--secure-port", str(port), "--bind-address", "127.0.0.1", "--token-auth-file", str(folder / "tokens.csv")),
        *("--tls-cert-file", str(made.certificate("apiserver")), "--tls-private-key-file", str(made.key("apiserver"))),
        *("--client-ca-file", str(made.ca), "--log-level", "error"),
        *("--service-account-key-file", str(folder / "pki/sa.pub")),
        *("--service-account-signing-key-file", str(folder / "pki/sa.key")),
        *flags,
    ]
    with serving(port, launch(command)) as peer:
        yield peer


@contextlib.contextmanager
def serving(port: int, process: subprocess.Popen[bytes]) -> Iterator[Peer]:
    """From when it listens; ends it."""
    try:
        wait_for_port(port, process)
        yield Peer(port, process)
    finally:
        process.terminate()
        process.wait(20)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def wrk(port: int, path: str, seconds: int = SECONDS, *flags: str, arguments: tuple[str, ...] = ()) -> float:
    """Requests a second on `path`, or on what a script among the flags says; `arguments` are the script's."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", f"Authorization: Bearer {TOKEN}"]
    done = subprocess.run(
        [*command, *flags, f"https://127.0.0.1:{port}{path}", "--", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"{path} was refused:\n{done.stdout}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))  # type: ignore[union-attr]


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        self._port = port
        self._token = token

    async def open(self) -> Client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context, limit=1 << 26)
        return self

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        self.start(method, path, body)
        return await self.answer()

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head, re.I)
        if found is not None:
            return int(head[9:12]), await self.reader.readexactly(int(found.group(1)))
        parts = []  # chunked
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return int(head[9:12]), b"".join(parts)

    def start(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n"
        self._writer.write(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    def close(self) -> None:
        self._writer.close()


async def ready(peer: Peer) -> None:
    """Until /readyz says so. Raises RuntimeError when the server ends."""
    while peer.process.poll() is None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            client = await Client(peer.port, "boot").open()
            code, _ = await client.send("GET", "/readyz")
            client.close()
            if code == 200:
                return
        await asyncio.sleep(0.01)
    raise RuntimeError("the server ended")


async def prepare(port: int) -> None:
    """The namespace, its default service account, and the right to work in it."""
    boot = await Client(port, "boot").open()
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": "bench-users", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    for path, obj in (
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}),
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding),
        (
            "/api/v1/namespaces/bench/serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
        ),
    ):
        code, text = await boot.send("POST", path, orjson.dumps(obj))
        if code != 201:
            raise RuntimeError(f"{path}: {code} {text!r}")
    boot.close()


async def create_pods(port: int, count: int, first: int = 0) -> float:
    """Fill the namespace: pod-000000 and on. Gives creates a second, as much the client's doing as the server's."""
    numbers = iter(range(first, first + count))

    async def worker() -> None:
        client = await Client(port).open()
        for number in numbers:
            code, text = await client.send("POST", "/api/v1/namespaces/bench/pods", pod(f"pod-{number:06d}"))
            if code != 201:
                raise RuntimeError(f"create: {code} {text!r}")
        client.close()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(worker())
    return count / (time.perf_counter() - started)
