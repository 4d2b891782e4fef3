"""What an object costs when there are many: GET, CREATE, selective LIST, memory and start at growing numbers of pods.

`KYBERN_BENCH_SIZES` (1000,10000,100000) are the numbers of pods, written straight into the store before the server
starts (bench/stock). Each curve that should be flat says how much dearer the last size is than the first. CPU seconds
are the server's own, which other work on the machine hardly changes. Where `KYBERN_PEER_APISERVER` names a
kube-apiserver, it is measured beside, on etcd, up to `KYBERN_BENCH_PEER_MOST` (30000) pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import apiserver as base
from bench import listing, plot, resync, stock
from bench import peer as beside
from bench.apiserver import Peer
from kybern.storage.etcd import Endpoints, EtcdStore
from kybern.storage.sqlite import SqliteStore

SIZES = tuple(int(text) for text in os.environ.get("KYBERN_BENCH_SIZES", "1000,10000,100000").split(","))
PEER_MOST = int(os.environ.get("KYBERN_BENCH_PEER_MOST", "30000"))
ROUNDS = 3
CREATES = 800
SECONDS = 2


LISTED = {"LIST all": listing.JSON, "LIST all, gzip": listing.GZIP, "LIST all, protobuf": listing.PROTOBUF}


@dataclass
class Curve:
    """One figure at each size, for one or two servers."""

    unit: str
    is_flat: bool  # it should not depend on the number of objects
    ours: dict[int, float] = field(default_factory=dict)
    theirs: dict[int, float] = field(default_factory=dict)

    @property
    def growth(self) -> float:
        """How many times dearer it is at the last size than at the first; nothing stays nothing."""
        sizes = sorted(self.ours)
        first, last = self.ours[sizes[0]], self.ours[sizes[-1]]
        return last / first if first else math.inf if last else 1.0


def table() -> dict[str, Curve]:
    return {
        "GET, server's CPU": Curve("us", True),
        "GET, time at 32 connections": Curve("us", True),
        "CREATE, server's CPU": Curve("us", True),
        "CREATE, time at 32 connections": Curve("us", True),
        "LIST 500 by label": Curve("ms", True),
        "LIST a page of 500": Curve("ms", True),
        "LIST a namespace of 100": Curve("ms", True),
        "LIST all": Curve("ms", False),
        "LIST all, server's CPU": Curve("ms", False),
        "LIST all, gzip": Curve("ms", False),
        "LIST all, gzip, server's CPU": Curve("ms", False),
        "LIST all, protobuf": Curve("ms", False),
        "LIST all, protobuf, server's CPU": Curve("ms", False),
        "LIST all in pages of 500, gzip": Curve("ms", False),
        "GET while all is listed, 99th percentile": Curve("ms", True),
        "controllers at rest, LISTs in 10 s": Curve("", False),
        "controllers at rest, server's CPU": Curve("ms/s", True),
        "controllers at rest, their CPU": Curve("ms/s", True),
        "memory, empty": Curve("MiB", False),
        "memory": Curve("MiB", False),
        "memory of a pod, above an empty server": Curve("KiB", True),
        "memory after the lists": Curve("MiB", False),
        "start to /readyz": Curve("s", False),
        "start to /readyz, server's CPU": Curve("s", False),
    }


def measure(rows: dict[str, Curve], size: int, peer: Peer, note: Callable[[str, float], None]) -> None:
    """One server that holds `size` pods."""
    port = peer.port
    each("GET", peer, note, lambda _: (rate := wrk_any(port, size), round(rate * SECONDS)))
    path = stock.PODS_PATH
    note("LIST 500 by label", listing.milliseconds(port, f"{path}?labelSelector=group%3Dgroup-0001", 500))
    note("LIST a page of 500", listing.milliseconds(port, f"{path}?limit=500", 500))
    note("LIST a namespace of 100", listing.milliseconds(port, f"{stock.SMALL_PATH}?resourceVersion=0", stock.SMALL))
    for row, asked in LISTED.items():
        before = beside.cpu_seconds(peer)
        note(row, listing.milliseconds(port, f"{path}?resourceVersion=0", size, asked))
        note(f"{row}, server's CPU", (beside.cpu_seconds(peer) - before) / (listing.TIMES + 1) * 1000)
    note("LIST all in pages of 500, gzip", listing.in_pages(port, path, 500, size))
    note("GET while all is listed, 99th percentile", get_beside_lists(port, size))
    note("memory after the lists", peer.rss_mib)
    each("CREATE", peer, note, lambda n: (asyncio.run(base.create_pods(port, CREATES, n * CREATES)), CREATES))


def rest(peer: Peer, note: Callable[[str, float], None]) -> None:
    told = resync.quiet(peer)
    note("controllers at rest, LISTs in 10 s", told.lists)
    note("controllers at rest, server's CPU", told.server_cpu * 1000)
    note("controllers at rest, their CPU", told.controllers_cpu * 1000)


def of_a_pod(rows: dict[str, Curve]) -> None:
    row, whole, empty = rows["memory of a pod, above an empty server"], rows["memory"], rows["memory, empty"]
    row.ours = {size: (mib - empty.ours[size]) * 1024 / size for size, mib in whole.ours.items()}
    row.theirs = {size: (mib - empty.theirs[size]) * 1024 / size for size, mib in whole.theirs.items()}


def each(verb: str, peer: Peer, note: Callable[[str, float], None], work: Callable[[int], tuple[float, int]]) -> None:
    """What one request costs, the best of the rounds; `work` does many and gives (requests a second, requests)."""
    rates: list[float] = []
    costs: list[float] = []
    for number in range(ROUNDS):
        before = beside.cpu_seconds(peer)
        rate, count = work(number)
        rates.append(rate)
        costs.append((beside.cpu_seconds(peer) - before) / count * 1e6)
    note(f"{verb}, time at 32 connections", 1e6 / max(rates))
    note(f"{verb}, server's CPU", min(costs))


def wrk_any(port: int, size: int) -> float:
    """GETs a second, each of another pod."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"""
            request = function()
              local n = math.random(1, {size} - 1)
              local name = string.format("app-%04d-7d4b9c8f6d-%06d", n % {stock.APPS}, n)
              return wrk.format("GET", "{stock.PODS_PATH}/" .. name)
            end
            """
        )
        script.flush()
        return base.wrk(port, stock.PODS_PATH, SECONDS, "-s", script.name)


def get_beside_lists(port: int, size: int) -> float:
    """The 99th percentile of GETs, milliseconds, while two other processes list everything again and again."""
    command = ["curl", "-sk", "-H", f"Authorization: Bearer {base.TOKEN}"]
    url = f"https://127.0.0.1:{port}{stock.PODS_PATH}?resourceVersion=0"
    listing = [subprocess.Popen([*command, *[url] * 50], stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        time.sleep(0.3)
        times = asyncio.run(get_one_by_one(port, size))
    finally:
        for process in listing:
            process.terminate()
            process.wait()
    return sorted(times)[int(len(times) * 0.99)] * 1000


async def get_one_by_one(port: int, size: int) -> list[float]:
    """Seconds of each GET, for some seconds."""
    client = await base.Client(port).open()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(times) < 100:
        began = time.perf_counter()
        code, _ = await client.send("GET", f"{stock.PODS_PATH}/{stock.name_of(len(times) % size or 1)}")
        times.append(time.perf_counter() - began)
        if code != 200:
            raise RuntimeError(f"GET: {code}")
        await asyncio.sleep(0.002)
    client.close()
    return times


def start(begin: Callable[[], Peer], note: Callable[[str, float], None]) -> Peer:
    """A server from its start until it is ready, twice: the second one is kept."""
    times: list[tuple[float, float]] = []
    while True:
        began = time.perf_counter()
        peer = begin()
        asyncio.run(base.ready(peer))
        times.append((time.perf_counter() - began, beside.cpu_seconds(peer)))
        if len(times) == 2:
            break
        peer.process.terminate()
        peer.process.wait(60)
    note("start to /readyz", min(times)[0])
    note("start to /readyz, server's CPU", min(cpu for _, cpu in times))
    time.sleep(2)
    note("memory", peer.rss_mib)
    return peer


@contextlib.contextmanager
def ours(size: int, note: Callable[[str, float], None]) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with base.kybern(folder) as peer:  # also leaves compiled modules behind, as an installation does
            asyncio.run(base.ready(peer))
            asyncio.run(base.prepare(peer.port))
            asyncio.run(stock.make_model(peer.port))
            note("memory, empty", peer.rss_mib)
            command = peer.process.args

        async def fill() -> None:
            store = await SqliteStore.open(folder / "bench.db")
            model = await stock.read_model(store)
            await stock.fill(store, model, 0, size)
            await stock.fill_small(store, model)
            await store.compact(store.revision)  # what a server that ran for some minutes has done
            await store.close()

        asyncio.run(fill())
        assert isinstance(command, list)
        yield from ended(start(lambda: Peer(peer.port, base.launch(command)), note))


@contextlib.contextmanager
def theirs(size: int, note: Callable[[str, float], None]) -> Iterator[Peer]:
    binary = os.environ["KYBERN_PEER_APISERVER"]
    with tempfile.TemporaryDirectory() as name, beside.upstream(Path(name), binary) as peer:
        asyncio.run(base.ready(peer))
        asyncio.run(base.prepare(peer.port))
        asyncio.run(stock.make_model(peer.port))
        note("memory, empty", peer.rss_mib)
        command = peer.process.args
        assert isinstance(command, list)
        url = command[command.index("--etcd-servers") + 1]

        async def fill() -> None:
            store = await EtcdStore.open(Endpoints.parse(url))
            model = await stock.read_model(store)
            await stock.fill(store, model, 0, size)
            await stock.fill_small(store, model)
            await store.close()

        asyncio.run(fill())
        peer.process.terminate()
        peer.process.wait(60)
        yield from ended(start(lambda: Peer(peer.port, subprocess.Popen(command, stderr=subprocess.DEVNULL)), note))


def ended(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.process.terminate()
        peer.process.wait(60)


def run() -> dict[str, float | str]:
    if shutil.which("wrk") is None or shutil.which("curl") is None:
        return {"curves": "wrk or curl is not installed (apt-get install wrk curl)"}
    rows = table()
    servers: list[tuple[str, Callable[..., contextlib.AbstractContextManager[Peer]]]] = [("kybern", ours)]
    if os.environ.get("KYBERN_PEER_APISERVER") and shutil.which("etcd"):
        servers.append(("upstream", theirs))
    for size in SIZES:
        for name, server in servers:
            if name == "upstream" and size > PEER_MOST:
                continue

            def note(row: str, value: float, name: str = name, size: int = size) -> None:
                (rows[row].ours if name == "kybern" else rows[row].theirs)[size] = value
                print(f"  {name:8} {size:7,} pods  {row}: {value:,.2f} {rows[row].unit}", flush=True)

            with server(size, note) as peer:
                measure(rows, size, peer, note)
                if name == "kybern":
                    rest(peer, note)
    of_a_pod(rows)
    plot.curves({name: (row.unit, row.ours, row.theirs) for name, row in rows.items()}, Path("build/bench-curves.png"))
    shown: dict[str, float | str] = {"pods": "  ".join(f"{size:>9,}" for size in SIZES)}
    for name, row in rows.items():
        told = "  ".join(f"{row.ours[size]:>9,.2f}" for size in SIZES)
        told += f" {row.unit:3}" + (f"  {row.growth:.2f} times the first" if row.is_flat else "")
        if row.theirs:
            told += "   upstream: " + "  ".join(f"{value:,.2f}" for _, value in sorted(row.theirs.items()))
        shown[name] = told
    return shown
