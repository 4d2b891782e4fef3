"""Kybern's API server beside kube-apiserver with etcd: the same objects, clients and certificates, in alternating runs.

`KYBERN_PEER_APISERVER` names the kube-apiserver binary; etcd must be installed, wrk too. Each figure is the best of
the rounds, and a ratio: how many times better Kybern is (rates: ours by theirs; times, memory, CPU: theirs by ours).
`KYBERN_BENCH_ROUNDS` (2) and `KYBERN_BENCH_PODS` (3000) size it; `KYBERN_BENCH_PEER=watch` leaves out all but watches,
`KYBERN_BENCH_PEER=requests` the watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench import apiserver as base
from bench import listing, watch, watchers, writes
from bench.apiserver import TOKEN, Client, Peer
from kybern import pki
from kybern.client.clock import RealClock

ROUNDS = int(os.environ.get("KYBERN_BENCH_ROUNDS", "2"))
PODS = int(os.environ.get("KYBERN_BENCH_PODS", "3000"))
FAN_OUT = f"WATCH CPU an event, {watch.WATCHERS} watchers"
SOME = f"{FAN_OUT}, 100 changes a second"  # what either server has time for
FEW = "WATCH CPU an event, 100 watchers, 100 changes a second"
IDLE = 2000
ONLY = os.environ.get("KYBERN_BENCH_PEER", "")
PODS_PATH = "/api/v1/namespaces/bench/pods"
LISTS = (
    (f"LIST {PODS} pods", f"?limit={PODS}", PODS, listing.JSON),
    (f"LIST {PODS} pods, gzip", f"?limit={PODS}", PODS, listing.GZIP),
    (f"LIST {PODS} pods, protobuf", f"?limit={PODS}", PODS, listing.PROTOBUF),
    ("LIST one in ten by label", "?labelSelector=shard%3D3", PODS // 11, listing.JSON),
)


@dataclass
class Row:
    """One figure of both, and whether more is better."""

    unit: str
    more_is_better: bool
    goal: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def best(self) -> tuple[float, float]:
        choose = max if self.more_is_better else min
        return choose(self.ours), choose(self.theirs)

    @property
    def ratio(self) -> float:
        ours, theirs = self.best
        return ours / theirs if self.more_is_better else theirs / ours


@contextlib.contextmanager
def upstream(folder: Path, binary: str) -> Iterator[Peer]:
    """kube-apiserver on an etcd of its own, on the same disk, with the certificates and tokens of the other."""
    etcd_port, etcd_peer, port = base.free_port(), base.free_port(), base.free_port()
    made = pki.ensure(folder, names=["bench"], addresses=["127.0.0.1"], clock=RealClock())
    (folder / "tokens.csv").write_text(f"{TOKEN},bench,1,bench-users\nboot,boot,2,system:masters\n")
    url, here = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{etcd_peer}"
    etcd = subprocess.Popen(
        [
            *("etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", here, "--initial-advertise-peer-urls", here, "--log-level", "error"),
            *("--name", "bench", "--initial-cluster", f"bench={here}", "--quota-backend-bytes", str(8 << 30)),
        ],
        stderr=subprocess.DEVNULL,
    )
    server = None
    try:
        base.wait_for_port(etcd_port, etcd)
        server = subprocess.Popen(
            [
                *(binary, "--etcd-servers", url, "--secure-port", str(port), "--bind-address", "127.0.0.1"),
                *("--advertise-address", "192.0.2.1", "--token-auth-file", str(folder / "tokens.csv")),
                *("--tls-cert-file", str(made.certificate("apiserver")), "--client-ca-file", str(made.ca)),
                *("--tls-private-key-file", str(made.key("apiserver")), "--authorization-mode", "Node,RBAC"),
                *("--service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
                *("--service-account-key-file", str(folder / "pki/sa.pub")),
                *("--service-account-signing-key-file", str(folder / "pki/sa.key")),
                *("--service-cluster-ip-range", "10.96.0.0/12"),
            ],
            stderr=subprocess.DEVNULL,
        )
        base.wait_for_port(port, server)
        yield Peer(port, server, store=Peer(etcd_port, etcd))
    finally:
        for process in (server, etcd):
            if process is not None:
                process.terminate()
                process.wait(60)


def cpu_seconds(peer: Peer) -> float:
    fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def expect(client: Client, wanted: int, method: str, path: str, body: object = None, kind: str = "") -> bytes:
    data = orjson.dumps(body) if body is not None else b""
    if kind:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        client.raw(f"{head}Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        code, text = await client.answer()
    else:
        code, text = await client.send(method, path, data)
    if code != wanted:
        raise RuntimeError(f"{method} {path}: {code} {text[:300]!r}")
    return text


def idle_watchers(peer: Peer) -> float:
    """KiB of the server's memory for each connection that watches and hears nothing."""
    before = peer.rss_mib
    path = f"/api/v1/namespaces/bench/secrets?watch=true&resourceVersion={asyncio.run(watch.present(peer.port))}"
    with watchers.holding(peer.port, TOKEN, IDLE, path):
        time.sleep(1)
        return max(peer.rss_mib - before, 0.001) * 1024 / IDLE


def measure(rows: dict[str, Row], peer: Peer, *, is_ours: bool, turn: int) -> None:
    """One round on one server."""

    def note(name: str, value: float) -> None:
        (rows[name].ours if is_ours else rows[name].theirs).append(value)
        print(f"  {'kybern  ' if is_ours else 'upstream'} {name}: {value:,.1f} {rows[name].unit}", flush=True)

    if ONLY == "watch":
        measure_watches(note, peer, turn)
        return
    if turn == 0:
        asyncio.run(base.create_pods(peer.port, PODS))
        note(f"memory with {PODS} pods", peer.rss_mib)
    note("GET one pod", base.wrk(peer.port, f"{PODS_PATH}/pod-000001"))
    for name, query, least, asked in LISTS:
        note(name, listing.milliseconds(peer.port, PODS_PATH + query, least, asked))
    note("CREATE pods, durable", writes.rate(peer.port, writes.CREATE))
    note("PATCH status", writes.rate(peer.port, writes.patch_status(PODS)))
    note("UPDATE leases", writes.rate(peer.port, writes.update_lease()))
    if ONLY != "requests":
        measure_watches(note, peer, turn)


def measure_watches(note: Callable[[str, float], None], peer: Peer, turn: int) -> None:
    """As the goal asks, or as many changes as a server can tell all of its watchers; and what either has time for."""
    told = watch.most_followed(peer)
    note(FAN_OUT, told.cpu)
    note("  changes a second, all of them told", told.rate)
    for name, (count, a_second) in ((SOME, (watch.WATCHERS, 100)), (FEW, (100, 100))):
        told = watch.fan_out(peer, count, a_second)
        print(f"    {told}", flush=True)
        note(name, told.cpu)
        note(f"  delay of {name}, 99%", told.delay())
    if turn == 0:
        note("an idle watcher", idle_watchers(peer))


def table() -> dict[str, Row]:
    return {
        "GET one pod": Row("a second", True, 6),
        **{name: Row("ms", False, 3) for name, *_ in LISTS},
        "CREATE pods, durable": Row("a second", True, 1.5),
        "PATCH status": Row("a second", True, 2),
        "UPDATE leases": Row("a second", True, 2),
        FAN_OUT: Row("us", False, 3),
        "  changes a second, all of them told": Row("a second", True, 1),
        SOME: Row("us", False, 3),
        f"  delay of {SOME}, 99%": Row("ms", False, 1),
        FEW: Row("us", False, 3),
        f"  delay of {FEW}, 99%": Row("ms", False, 1),
        f"memory with {PODS} pods": Row("MiB", False, 3),
        "an idle watcher": Row("KiB", False, 1),
    }


def run() -> dict[str, float | str]:
    binary = os.environ.get("KYBERN_PEER_APISERVER", "")
    for needed in ("etcd", "wrk", "curl"):
        if shutil.which(needed) is None:
            return {"peer": f"{needed} is not installed (apt-get install etcd-server wrk curl)"}
    if not binary:
        return {"peer": "KYBERN_PEER_APISERVER names no kube-apiserver: nothing to compare with"}
    rows = table()
    with contextlib.ExitStack() as stack:
        servers: list[tuple[Peer, bool]] = []
        for is_ours in (True, False):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = base.kybern(folder) if is_ours else upstream(folder, binary)
            peer = stack.enter_context(server)
            asyncio.run(base.ready(peer))
            asyncio.run(base.prepare(peer.port))
            servers.append((peer, is_ours))
        for turn in range(ROUNDS):
            for peer, is_ours in servers if turn % 2 == 0 else servers[::-1]:
                measure(rows, peer, is_ours=is_ours, turn=turn)
    shown: dict[str, float | str] = {}
    rows = {name: row for name, row in rows.items() if row.ours and row.theirs}
    for name, row in rows.items():
        ours, theirs = row.best
        shown[name] = f"{ours:>10,.1f} {theirs:>10,.1f} {row.unit:9} {row.ratio:5.1f} times (goal {row.goal:g})"
    from bench import plot

    plot.ratios({name: (row.ratio, row.goal) for name, row in rows.items()}, Path("build/bench-peer.png"))
    return shown


if __name__ == "__main__":
    for label, value in run().items():
        print(f"{label:40} {value}", file=sys.stdout)
