"""What controllers ask of a server that holds many objects while nothing changes: watches stand, nothing is listed.

Used by curves. The controllers chosen follow all pods and leave these alone (their owners and nodes do not exist).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.apiserver import Client, Peer
from bench.peer import cpu_seconds
from kybern import pki
from kybern.client.clock import RealClock

_NAMES = ("deployment", "replicaset", "statefulset", "daemonset", "job", "endpointslice", "resourcequota", "disruption")
CONTROLLERS = ",".join(f"{name}-controller" for name in _NAMES)
QUIET = 3.0  # seconds without a LIST in which they are less than BUSY: all of them are in step
BUSY = 0.1
SECONDS = 10.0
DEADLINE = 120.0
_LISTS = re.compile(rb'^apiserver_request_total\{[^}]*verb="LIST"[^}]*\} (\S+)$', re.M)


@dataclass(frozen=True, slots=True)
class Told:
    """Of the seconds in which nothing changed."""

    lists: float
    server_cpu: float  # seconds a second
    controllers_cpu: float


def quiet(peer: Peer) -> Told:
    args = peer.process.args
    assert isinstance(args, list)
    folder = Path(args[args.index("--client-ca-file") + 1]).parent.parent
    with _controllers(folder, peer.port) as controllers:
        asyncio.run(_in_step(peer.port, controllers))
        synced = cpu_seconds(controllers)
        lists, before = asyncio.run(count_lists(peer.port)), cpu_seconds(peer)
        time.sleep(SECONDS)
        server, own = cpu_seconds(peer) - before, cpu_seconds(controllers) - synced
        if controllers.process.poll() is not None:
            raise RuntimeError("the controllers ended")
        told = asyncio.run(count_lists(peer.port)) - lists
        return Told(told, server / SECONDS, own / SECONDS)


async def count_lists(port: int) -> float:
    """LISTs that the server has answered."""
    client = await Client(port, "boot").open()
    code, text = await client.send("GET", "/metrics")
    client.close()
    if code != 200:
        raise RuntimeError(f"metrics: {code}")
    return sum(map(float, _LISTS.findall(text)))


async def _in_step(port: int, controllers: Peer) -> None:
    """Until they have listed, and are done with what they heard."""
    first = last = await count_lists(port)
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        before, now = cpu_seconds(controllers), await count_lists(port)
        await asyncio.sleep(QUIET)
        last = await count_lists(port)
        if first < now == last and cpu_seconds(controllers) - before < BUSY * QUIET:
            return
    raise TimeoutError(f"controllers are not in step: {last - first} lists")


@contextlib.contextmanager
def _controllers(folder: Path, port: int) -> Iterator[Peer]:
    cluster = pki.Cluster(server=f"https://127.0.0.1:{port}")
    made = pki.ensure(folder, names=["bench"], addresses=["127.0.0.1"], clock=RealClock(), cluster=cluster)
    command = [sys.executable, "-m", "kybern.cli.main", "controller-manager", "--log-level", "error"]
    command += ["--no-leader-elect", "--kubeconfig", str(made.kubeconfig("controller-manager")), "--secure-port", "0"]
    process = subprocess.Popen([*command, "--controllers", CONTROLLERS])
    try:
        yield Peer(0, process)
    finally:
        process.terminate()
        process.wait(20)
