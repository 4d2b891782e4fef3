"""Many watchers: memory of each while nothing happens, the cost of a change, and a change told to all.

`KYBERN_BENCH_WATCHERS` (10,000) sizes the first part. A file limit (`ulimit -n`) below that makes it smaller.
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench import apiserver as base
from bench import watchers
from bench.apiserver import TOKEN, Client, Peer

IDLE = int(os.environ.get("KYBERN_BENCH_WATCHERS", "10000"))
IDLE_PROCESSES = 4
WATCHERS = 500
CHANGES = 1000  # a second
SECONDS = 5.0
WRITERS = 16
CONFIGS = "/api/v1/namespaces/bench/configmaps"
# Seconds after the last change for the last event to arrive; a server that has lost it is not waited for longer.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class FanOut:
    """What a server did with changes that many follow."""

    events: int  # delivered
    expected: int
    changes_a_second: float
    cpu: float  # microseconds of the server for each event delivered, the writes of the changes among them
    delay: float  # milliseconds from the request that changed something to the event, 99th percentile
    cut: int  # watches that the server has ended

    def __str__(self) -> str:
        lost = f", {self.expected - self.events} not delivered, {self.cut} watches cut" if self.cut else ""
        return f"{self.cpu:.1f} us, {self.delay:.1f} ms, {self.changes_a_second:.0f} changes a second{lost}"


def cpu_seconds(peer: Peer) -> float:
    fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def change(client: Client, path: str, name: str, labels: dict[str, str], size: int = 400) -> None:
    body = {
        "metadata": {"name": name, "labels": labels},
        "data": {"text": "x" * size, "sent": f"{time.monotonic_ns():0{watchers.DIGITS}d}"},
    }
    code, text = await client.send("POST", path, orjson.dumps(body))
    if code != 201:
        raise RuntimeError(f"create: {code} {text[:300]!r}")


async def changes(port: int, run: str, a_second: float, seconds: float) -> int:
    """Make changes at a rate, or as quickly as the server takes them; returns how many."""
    made = 0
    began = time.perf_counter()

    async def writer() -> None:
        nonlocal made
        client = await Client(port).open()
        while (passed := time.perf_counter() - began) < seconds:
            ahead = made / a_second - passed
            if ahead > 0:
                await asyncio.sleep(ahead)
                continue
            made += 1
            await change(client, CONFIGS, f"c-{run}-{made:06d}", {"run": run})
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(writer())
    return made


async def present(port: int) -> str:
    """A resourceVersion to watch from: kube-apiserver asks etcd for one where it is given none, and waits."""
    client = await Client(port).open()
    code, text = await client.send("GET", f"{CONFIGS}?limit=1")
    client.close()
    if code != 200:
        raise RuntimeError(f"list: {code} {text[:300]!r}")
    return str(orjson.loads(text)["metadata"]["resourceVersion"])


def fan_out(peer: Peer, count: int = WATCHERS, a_second: float = CHANGES, seconds: float = SECONDS) -> FanOut:
    """`count` watchers of every change; bounded in time, whatever the server does."""
    run = f"r{time.time_ns() % 10**9:09d}"
    path = f"{CONFIGS}?watch=true&labelSelector=run%3D{run}&resourceVersion={asyncio.run(present(peer.port))}"
    with watchers.holding(peer.port, TOKEN, count, path) as (holder,):
        time.sleep(0.5)
        before, began = cpu_seconds(peer), time.perf_counter()
        made = asyncio.run(changes(peer.port, run, a_second, seconds))
        rate = made / (time.perf_counter() - began)
        until = time.perf_counter() + _PATIENCE
        heard = holder.heard()
        while heard.least < made and time.perf_counter() < until:
            time.sleep(0.2)
            last, heard = heard.events, holder.heard()
            if heard.ended and heard.events == last:
                break
        used = cpu_seconds(peer) - before
    delay = heard.delays[int(len(heard.delays) * 0.99)] if heard.delays else float("inf")
    return FanOut(heard.events, made * count, rate, used / max(heard.events, 1) * 1e6, delay, heard.ended)


def room() -> int:
    """How many watchers the file limit allows a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, min(IDLE, hard - 200) // IDLE_PROCESSES * IDLE_PROCESSES)


async def per_change(peer: Peer, namespace: str, labels: dict[str, str], count: int) -> float:
    """Microseconds of the server's CPU for each change of a sort."""
    client = await Client(peer.port).open()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = cpu_seconds(peer)
    for number in range(count):
        await change(client, path, f"p-{time.time_ns()}-{number}", labels)
    client.close()
    return (cpu_seconds(peer) - before) / count * 1e6


async def get_delay(port: int, seconds: float) -> float:
    """Milliseconds of GETs one after the other, 99th percentile."""
    client = await Client(port).open()
    taken = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        code, _ = await client.send("GET", "/api/v1/namespaces/bench")
        if code != 200:
            raise RuntimeError(f"get: {code}")
        taken.append(time.perf_counter() - start)
        await asyncio.sleep(0.002)
    client.close()
    return sorted(taken)[int(len(taken) * 0.99)] * 1000


def run() -> dict[str, float | str]:
    rows: dict[str, float | str] = {}
    count = room()
    # A server that has done little yet: memory that was used and freed before would be used again, and not be seen.
    with tempfile.TemporaryDirectory() as name, base.kybern(Path(name)) as server:
        asyncio.run(base.prepare(server.port))
        alone = asyncio.run(per_change(server, "bench", {"app": "none"}, 500))
        before, spent = server.rss_mib, cpu_seconds(server)
        # Every second watches its own label, the others a namespace in which nothing happens until the end.
        own = [f"/api/v1/configmaps?watch=true&labelSelector=app%3Da{n}" for n in range(64)]
        paths = [p for path in own for p in (path, "/api/v1/namespaces/default/configmaps?watch=true")]
        with watchers.holding(server.port, TOKEN, count, *paths, processes=IDLE_PROCESSES) as holders:
            spent = (cpu_seconds(server) - spent) / count * 1e6
            time.sleep(1)
            rows[f"{count} idle watchers, KiB each (goal 30)"] = (server.rss_mib - before) * 1024 / count
            rows["  opened a second"] = count / max(holder.seconds for holder in holders)
            rows["  us of CPU to open one"] = spent
            rows["  GET delay beside them, 99th percentile, milliseconds"] = asyncio.run(get_delay(server.port, 2))
            rows["  us of CPU a change without watchers"] = alone
            none = asyncio.run(per_change(server, "bench", {"app": "none"}, 500))
            rows["  us of CPU a change that concerns none"] = none
            some = asyncio.run(per_change(server, "bench", {"app": "a1"}, 100))
            rows[f"  us of CPU a change that concerns {count // 128}"] = some
            rows[f"  us of CPU a change that concerns {count // 2}"] = asyncio.run(
                per_change(server, "default", {}, 20)
            )
    with tempfile.TemporaryDirectory() as name, base.kybern(Path(name)) as server:
        asyncio.run(base.prepare(server.port))
        told = fan_out(server)
        rows[f"WATCH {WATCHERS} watchers, us of CPU an event"] = told.cpu
        rows["  delay, 99th percentile, milliseconds (goal 50)"] = told.delay
        rows["  changes a second (goal 1,000)"] = told.changes_a_second
        rows["  events delivered a second"] = told.changes_a_second * told.events / max(told.expected, 1) * WATCHERS
        rows["  events missed"] = float(told.expected - told.events)
    return rows
