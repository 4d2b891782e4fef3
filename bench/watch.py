"""Many watchers: memory of each while nothing happens, the cost of a change, and a change told to all.

`KYBERN_BENCH_WATCHERS` (10,000) sizes the first part. A file limit (`ulimit -n`) below that makes it smaller.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench import apiserver as base
from bench import changes, watchers
from bench.apiserver import TOKEN, Client, Peer

IDLE = int(os.environ.get("KYBERN_BENCH_WATCHERS", "10000"))
IDLE_PROCESSES = 4
WATCHERS = 500
CHANGES = 1000  # a second
SECONDS = 5.0
CONFIGS = "/api/v1/namespaces/bench/configmaps"
# Flow control lets others make fewer changes where many watch: a write holds ten seats for the time of telling them.
WRITER = "boot"
# Seconds after the last change for the last event to arrive; a server that has lost it is not waited for longer.
_PATIENCE = 20.0
_QUIET = 3.0  # seconds without a byte, after which there will be no more
_LEAST = 10.0  # changes a second: what every server can tell 500 watchers


@dataclass(frozen=True, slots=True)
class FanOut:
    """What a server did with changes that many follow."""

    watchers: int
    asked: float  # changes a second
    made: int
    rate: float  # changes a second, as the server took them
    events: int  # delivered
    seconds: float  # from the first change until all events were there, or were no longer waited for
    server: float  # seconds of the server's CPU meanwhile, the writes of the changes among them
    store: float  # of its etcd's, where it has one
    delays: list[float]  # milliseconds from the request that changed something to the event, in order
    writes: list[float]  # milliseconds of the requests themselves
    cut: int  # watchers that were not told everything: kube-apiserver ends a watch that it cannot follow

    @property
    def is_whole(self) -> bool:
        """Everything that happened was told to everybody, and while it happened."""
        is_late = self.seconds > 1.5 * self.made / self.rate
        return not self.cut and not is_late

    @property
    def cpu(self) -> float:
        """Microseconds of the server for each event delivered."""
        return self.server / max(self.events, 1) * 1e6

    @property
    def cpu_with_store(self) -> float:
        return (self.server + self.store) / max(self.events, 1) * 1e6

    def delay(self, share: float = 0.99) -> float:
        return share_of(self.delays, share)

    def __str__(self) -> str:
        missing = self.made * self.watchers - self.events
        lost = f"; {missing} events not delivered, to {self.cut} watchers" if self.cut else ""
        late = "" if self.is_whole or lost else f"; {self.seconds:.1f} s until all were there"
        store = f" (with its store {self.cpu_with_store:.1f})" if self.store else ""
        return (
            f"{self.watchers} watchers, {self.rate:.0f} changes a second (of {self.asked:.0f}): "
            f"{self.cpu:.2f} us of CPU an event{store}, "
            f"delay {self.delay(0.5):.1f} ms, 99% {self.delay():.1f} ms "
            f"(the writes {share_of(self.writes, 0.5):.1f}, {share_of(self.writes, 0.99):.1f}){late}{lost}"
        )


def share_of(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)] if ordered else float("inf")


def cpu_seconds(peer: Peer) -> float:
    fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def store_seconds(peer: Peer) -> float:
    return cpu_seconds(peer.store) if peer.store is not None else 0.0


async def change(client: Client, path: str, name: str, labels: dict[str, str], size: int = 400) -> None:
    body = {
        "metadata": {"name": name, "labels": labels},
        "data": {"text": "x" * size, "sent": f"{time.monotonic_ns():0{watchers.DIGITS}d}"},
    }
    code, text = await client.send("POST", path, orjson.dumps(body))
    if code != 201:
        raise RuntimeError(f"create: {code} {text[:300]!r}")


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
    with (
        watchers.holding(peer.port, TOKEN, count, path) as (holder,),
        changes.maker(peer.port, WRITER, CONFIGS, run) as maker,
    ):
        time.sleep(0.5)
        used, stored, began = cpu_seconds(peer), store_seconds(peer), time.perf_counter()
        made = maker.make(a_second, seconds)
        until = time.perf_counter() + _PATIENCE
        heard, quiet = holder.heard(), time.perf_counter()
        while time.perf_counter() < until and time.perf_counter() - quiet < _QUIET:
            time.sleep(0.05)
            last, heard = heard.size, holder.heard()
            if heard.size != last:
                quiet = time.perf_counter()
            elif heard.events >= made.count * count:
                break
        taken = time.perf_counter() - began
        used, stored = cpu_seconds(peer) - used, store_seconds(peer) - stored
    return FanOut(
        count,
        a_second,
        made.count,
        made.rate,
        heard.events,
        taken,
        used,
        stored,
        heard.delays,
        made.delays,
        sum(told < made.count for told in heard.counts),
    )


def most_followed(peer: Peer, count: int = WATCHERS, most: float = CHANGES, delay: float = float("inf")) -> FanOut:
    """The greatest rate, by halves, at which nobody is cut, left behind, or told later than `delay` milliseconds."""
    while True:
        told = fan_out(peer, count, most)
        print(f"    {told}", flush=True)
        if (told.is_whole and told.delay() <= delay) or most < _LEAST:
            return told
        most /= 2


def room() -> int:
    """How many watchers the file limit allows a server."""
    return max(0, min(IDLE, watchers.raise_limit() - 200) // IDLE_PROCESSES * IDLE_PROCESSES)


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
        rows["  changes a second (goal 1,000)"] = told.rate
        rows["  events delivered a second"] = told.events / told.seconds
        rows["  events missed"] = float(told.made * WATCHERS - told.events)
        rows["  delay, 99th percentile, milliseconds (goal 50)"] = told.delay()
        soon = most_followed(server, delay=50.0)
        rows["  most changes a second told within 50 milliseconds"] = soon.rate
        rows["    us of CPU an event"] = soon.cpu
    return rows
