"""Whether a noisy client starves the others: lease updates of a node while 500 connections list all pods without end.

With priority and fairness and without it, on the same machine. wrk makes the noise in a process of its own (its clients
come again at once when they are refused, as no client-go would); the leases are those of a kubelet, by its own priority
level. The server's CPU time is told as well: it says how much noise there was.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import orjson

from bench import apiserver

NOISY = 500  # connections
SECONDS = 20
PODS = 500
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


async def _update_leases(port: int, seconds: float) -> list[float]:
    """Milliseconds that each update took, one every tenth of a second."""
    client = await apiserver.Client(port, "node").open()
    took = []
    _, text = await client.send("GET", f"{LEASES}/n1")
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        lease = orjson.loads(text)
        lease["spec"] = {"holderIdentity": f"{time.time()}", "leaseDurationSeconds": 40}
        started = time.perf_counter()
        code, text = await client.send("PUT", f"{LEASES}/n1", orjson.dumps(lease))
        took.append((time.perf_counter() - started) * 1000)
        if code != 200:
            raise RuntimeError(f"lease: {code} {text!r}")
        await asyncio.sleep(0.1)
    client.close()
    return sorted(took)


async def _prepare(port: int) -> None:
    await apiserver.prepare(port)
    await apiserver.create_pods(port, PODS)
    client = await apiserver.Client(port, "node").open()
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"}, "spec": {}}
    code, text = await client.send("POST", LEASES, orjson.dumps(lease))
    if code != 201:
        raise RuntimeError(f"lease: {code} {text!r}")
    client.close()


def _quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


def _noisy(port: int) -> subprocess.Popen[str]:
    command = ["wrk", "-t1", f"-c{NOISY}", f"-d{SECONDS}s", "--timeout", "30s"]
    command += ["-H", f"Authorization: Bearer {apiserver.TOKEN}"]
    url = f"https://127.0.0.1:{port}/api/v1/namespaces/bench/pods"
    return subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, *flags: str) -> dict[str, float | str]:
    """The figures of one server."""
    rows: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder, apiserver.kybern(Path(folder), *flags) as server:
        asyncio.run(_prepare(server.port))
        idle = asyncio.run(_update_leases(server.port, 3))
        rows[f"{name}: lease update, alone, median ms"] = _quantile(idle, 0.5)
        noise = _noisy(server.port)
        time.sleep(6)  # until all connections are up
        began = _cpu_seconds(server.process.pid)
        busy = asyncio.run(_update_leases(server.port, SECONDS - 8))
        rows[f"{name}: lease update beside {NOISY} LISTs, median ms"] = _quantile(busy, 0.5)
        rows[f"{name}: lease update beside {NOISY} LISTs, 99 % ms"] = _quantile(busy, 0.99)
        rows[f"{name}: lease update beside {NOISY} LISTs, worst ms"] = busy[-1]
        rows[f"{name}: memory, MiB"] = server.rss_mib
        rows[f"{name}: CPU of the server meanwhile, seconds"] = _cpu_seconds(server.process.pid) - began
        told, _ = noise.communicate(timeout=60)
        counted = re.search(r"(\d+) requests in", told)
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
        rows[f"{name}: LISTs answered"] = counted.group(1) if counted else told
        rows[f"{name}: of these refused"] = refused.group(1) if refused else "0"
    return rows


def run() -> dict[str, float | str]:
    """All figures, by their names."""
    if shutil.which("wrk") is None:
        return {"fairness": "wrk is not installed (apt-get install wrk)"}
    return {
        **measure("with"),
        **measure("without", "--no-enable-priority-and-fairness", "--max-requests-inflight", "0"),
    }
