"""The API server's rates beside nginx serving the same bytes over TLS: the practical limit of this machine.

Reads and writes are driven by wrk, lists and watches by asyncio clients of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from bench import writes
from bench.apiserver import PODS, Client, Peer, create_pods, free_port, kybern, prepare, serving, wrk


@contextlib.contextmanager
def nginx(folder: Path, body: bytes) -> Iterator[Peer | None]:
    """nginx with the same certificate, serving `body`; None where it is not installed."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if binary is None:
        yield None
        return
    port = free_port()
    (folder / "www").mkdir()
    (folder / "www/pod").write_bytes(body)
    configuration = folder / "nginx.conf"
    configuration.write_text(f"""
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; types {{}} default_type application/json; open_file_cache max=10;
  server {{ listen 127.0.0.1:{port} ssl; root {folder}/www; ssl_session_tickets off;
    ssl_certificate {folder}/pki/apiserver.crt; ssl_certificate_key {folder}/pki/apiserver.key; }} }}
""")
    process = subprocess.Popen([binary, "-c", str(configuration), "-p", str(folder)], stderr=subprocess.DEVNULL)
    with serving(port, process) as peer:
        yield peer


async def admission_microseconds(port: int) -> float:
    """What admission of one create took, both halves, by the server's own account; webhooks and policies: none."""
    client = await Client(port, "boot").open()
    _, text = await client.send("GET", "/metrics")
    client.close()
    name = rb"apiserver_admission_step_admission_duration_seconds_%b"
    labels = rb"\{operation=\"CREATE\",rejected=\"false\",type=\"(\w+)\"\} (\S+)"
    seconds, counts = (dict(re.findall(name % part + labels, text)) for part in (b"sum", b"count"))
    return sum(float(seconds[half]) / float(counts[half]) for half in counts) * 1e6


async def list_pods(port: int) -> float:
    """Milliseconds for all pods, the best of five."""
    client = await Client(port).open()
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        code, text = await client.send("GET", "/api/v1/namespaces/bench/pods")
        best = min(best, time.perf_counter() - started)
        if code != 200 or text.count(b'"containers":[') < PODS:
            raise RuntimeError(f"list: {code}, {len(text)} bytes")
    client.close()
    return best * 1000


async def watch_fan_out(port: int, watchers: int = 100, changes: int = 300) -> float:
    """Events a second delivered over all watchers."""
    clients = [await Client(port).open() for _ in range(watchers)]
    for client in clients:
        client.start("GET", "/api/v1/namespaces/bench/configmaps?watch=true")
        await client.reader.readuntil(b"\r\n\r\n")

    async def follow(client: Client) -> None:
        seen, tail = 0, b""
        while seen < changes:
            data = await client.reader.read(1 << 16)
            if not data:
                raise RuntimeError(f"a watch ended after {seen} events")
            window = tail + data
            seen += window.count(b'{"type":"ADDED"')
            tail = window[-14:]

    writer = await Client(port).open()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(follow(client))
        for number in range(changes):
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"c{number}"},
                "data": {"a": "b" * 500},
            }
            code, text = await writer.send("POST", "/api/v1/namespaces/bench/configmaps", orjson.dumps(config))
            if code != 201:
                raise RuntimeError(f"create: {code} {text!r}")
    elapsed = time.perf_counter() - started
    for client in [*clients, writer]:
        client.close()
    return watchers * changes / elapsed


def run() -> dict[str, float | str]:
    """All figures, by their names."""
    rows: dict[str, float | str] = {}
    if shutil.which("wrk") is None:
        return {"apiserver": "wrk is not installed (apt-get install wrk nginx-light)"}
    with tempfile.TemporaryDirectory() as name, kybern(Path(name)) as server:
        folder = Path(name)
        rows["memory at start, MiB"] = server.rss_mib
        asyncio.run(prepare(server.port))
        asyncio.run(create_pods(server.port, PODS))
        rows["admission of one CREATE, microseconds"] = asyncio.run(admission_microseconds(server.port))
        rows[f"LIST {PODS} pods, milliseconds"] = asyncio.run(list_pods(server.port))
        rows["WATCH 100 watchers, events delivered per second"] = asyncio.run(watch_fan_out(server.port))
        rows[f"memory with {PODS} pods, MiB"] = server.rss_mib
        rows["CREATE pods, durable, 32 connections, per second"] = writes.rate(server.port, writes.CREATE)
        path = "/api/v1/namespaces/bench/pods/pod-000001"

        async def body() -> bytes:
            return (await (await Client(server.port).open()).send("GET", path))[1]

        with nginx(folder, asyncio.run(body())) as peer:
            ours, theirs = [], []
            for _ in range(2):
                ours.append(wrk(server.port, path))
                if peer is not None:
                    theirs.append(wrk(peer.port, "/pod"))
            rows["GET one pod, 32 connections, per second"] = max(ours)
            if theirs:
                rows["nginx, the same bytes, per second"] = max(theirs)
                rows["GET, ratio to nginx"] = f"{max(ours) / max(theirs):.2f}"
    return rows
