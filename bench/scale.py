"""Many nodes and pods against one API server, judged by upstream's latency objectives.

A control plane of its own (API server, controllers, scheduler) and simulated nodes, each with a watch and a client
certificate of its own, as processes on private ports. First the cluster fills; then it is judged at full size, while
pods come and go and people list. Figures are those the components tell of themselves at /metrics.

    python -m bench scale --nodes 100 --pods-per-node 10

Objectives: https://github.com/kubernetes/community/blob/master/sig-scalability/slos/slos.md
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kybern import pki
from kybern.api.apps_v1 import Deployment
from kybern.api.core_v1 import Namespace, Node, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.cli.plan import plan_cluster, plan_node_ranges
from kybern.cli.settings import Settings
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery.status import ApiError
from kybern.simulated import workload

COMPONENTS = ("apiserver", "controller-manager", "scheduler", "simulated-nodes")
TICKS = os.sysconf("SC_CLK_TCK")
CHURN = 50  # pods of the group that comes and goes while the cluster is judged


@dataclass(slots=True)
class Daemon:
    """One process of the cluster."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu(self) -> float:
        """Seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def rss(self) -> float:
        """MiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) / 1024  # type: ignore[union-attr]


@dataclass(slots=True)
class Plane:
    """The cluster under judgement."""

    folder: Path
    settings: Settings
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def client(self) -> RestClient:
        return RestClient.from_kubeconfig(self.folder / "kubeconfig/admin.conf", RealClock(), user_agent="bench")

    def cpu(self) -> dict[str, float]:
        return {name: daemon.cpu for name, daemon in self.daemons.items()}


@contextlib.contextmanager
def plane(folder: Path, nodes: int, pods_per_node: int, *flags: str) -> Iterator[Plane]:
    """Start it, and end it. `flags`: of the simulated nodes."""
    from bench.apiserver import free_port

    cidr, mask = plan_node_ranges(nodes + 1, pods_per_node)
    settings = Settings(
        data_dir=str(folder),
        run_dir=str(folder / "run"),
        node_name="none",
        node_ip="192.0.2.10",  # told in the Endpoints of the API only
        api_port=free_port(),
        cluster_cidr=cidr,
        node_cidr_mask_size=mask,
        simulated_nodes=nodes,
    )
    made = pki.ensure(
        folder,
        names=["bench"],
        addresses=["127.0.0.1"],
        clock=RealClock(),
        cluster=pki.Cluster(server=f"https://127.0.0.1:{settings.api_port}"),
    )
    for name in ("store", "log"):
        (folder / name).mkdir(exist_ok=True)
    found = Plane(folder, settings)
    children = {child.name: child for child in plan_cluster(settings, made).children}
    extra = {"simulated-nodes": flags}
    try:
        for name in COMPONENTS:
            port = settings.api_port if name == "apiserver" else free_port()
            command = [*children[name].command, *(() if name == "apiserver" else ("--secure-port", str(port)))]
            with Path(children[name].log).open("ab") as log:
                process = subprocess.Popen(
                    [*command, *extra.get(name, ())],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            found.daemons[name] = Daemon(name, process, port)
            if name == "apiserver":
                _wait_listening(port, process)
        yield found
    finally:
        for daemon in reversed(found.daemons.values()):
            daemon.process.terminate()
        for daemon in found.daemons.values():
            try:
                daemon.process.wait(30)
            except subprocess.TimeoutExpired:
                daemon.process.kill()


def _wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Others would find nobody there and pause longer and longer. Raises SystemExit."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("the API server does not start")


# Reading what components tell.

Key = tuple[tuple[str, str], ...]


def parse_histograms(text: str, name: str) -> dict[Key, list[tuple[float, float]]]:
    """Labels -> (upper bound, count up to it), ascending."""
    found: dict[Key, list[tuple[float, float]]] = {}
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket"):
            inside, _, value = line.partition("{")[2].rpartition("} ")
            labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
            bound = float(labels.pop("le").replace("+Inf", "inf"))
            found.setdefault(tuple(sorted(labels.items())), []).append((bound, float(value)))
    return found


def less(
    new: dict[Key, list[tuple[float, float]]], old: dict[Key, list[tuple[float, float]]]
) -> dict[Key, list[tuple[float, float]]]:
    """What was counted between two looks."""
    result = {}
    for key, buckets in new.items():
        before = dict(old.get(key, ()))
        result[key] = [(bound, count - before.get(bound, 0.0)) for bound, count in buckets]
    return {key: buckets for key, buckets in result.items() if buckets[-1][1] > 0}


def quantile(buckets: list[tuple[float, float]], part: float) -> float:
    """As Prometheus's histogram_quantile: linear within a bucket."""
    rank = buckets[-1][1] * part
    low, reached = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > reached:
            return low if bound == float("inf") else low + (bound - low) * (rank - reached) / (count - reached)
        low, reached = bound, count
    return low


def merged(all_of: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    return [(rows[0][0], sum(row[1] for row in rows)) for rows in zip(*all_of, strict=True)]


def objective_of(labels: dict[str, str]) -> float | None:
    """Seconds that 99 of 100 such requests may take; None: no objective is set."""
    verb, scope = labels["verb"], labels["scope"]
    if verb in ("WATCH", "CONNECT", "PROXY") or not labels["resource"] or labels["resource"] == "events":
        return None
    return 1.0 if scope == "resource" or verb not in ("GET", "LIST") else 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table."""

    verb: str
    resource: str
    scope: str
    count: int
    p50: float
    p99: float
    objective: float

    @property
    def holds(self) -> bool:
        return self.p99 <= self.objective


def judge(found: dict[Key, list[tuple[float, float]]]) -> list[Verdict]:
    """Every verb, resource and scope that has an objective, slowest first."""
    groups: dict[tuple[str, str, str], list[list[tuple[float, float]]]] = {}
    limits: dict[tuple[str, str, str], float] = {}
    for key, buckets in found.items():
        labels = dict(key)
        limit = objective_of(labels)
        if limit is None:
            continue
        name = labels["resource"] + (f"/{labels['subresource']}" if labels["subresource"] else "")
        where = (labels["verb"], name, labels["scope"])
        groups.setdefault(where, []).append(buckets)
        limits[where] = limit
    lines = []
    for where, parts in groups.items():
        together = merged(parts)
        lines.append(
            Verdict(*where, int(together[-1][1]), quantile(together, 0.5), quantile(together, 0.99), limits[where])
        )
    return sorted(lines, key=lambda line: (-line.p99 / line.objective, -line.count))


# The run.


class Bench:
    """One run on one plane."""

    def __init__(
        self, found: Plane, nodes: int, pods_per_node: int, rate: float, seconds: float, patience: float = 0.0
    ) -> None:
        self.plane = found
        self.nodes = nodes
        self.pods = nodes * pods_per_node
        self.pods_per_node = pods_per_node
        self.rate = rate
        self.seconds = seconds
        self.patience = patience
        self.client = found.client()
        self.context = ssl.create_default_context(cafile=str(found.folder / "pki/ca.crt"))
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f}s] {text}", flush=True)

    async def page(self, name: str) -> str:
        """The metrics of a component."""
        if name == "apiserver":
            return (await self.client.request("GET", "/metrics")).body.decode()
        url = f"http://127.0.0.1:{self.plane.daemons[name].port}/metrics"
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=30) as answer:
            return str(answer.read().decode())

    async def sli(self) -> dict[Key, list[tuple[float, float]]]:
        return parse_histograms(await self.page("apiserver"), "apiserver_request_sli_duration_seconds")

    async def starts(self) -> dict[Key, list[tuple[float, float]]]:
        return parse_histograms(await self.page("simulated-nodes"), "kubelet_pod_start_sli_duration_seconds")

    async def started(self) -> int:
        found = await self.starts()
        return int(sum(buckets[-1][1] for buckets in found.values()))

    async def until(self, what: str, reached, goal: int, patience: float, pause: float = 2.0) -> float:  # type: ignore[no-untyped-def]
        """Seconds until `reached()` is at `goal`; tells how it goes."""
        began = told = time.monotonic()
        last = 0
        while True:
            with contextlib.suppress(ApiError, OSError):
                last = await reached()
            now = time.monotonic()
            if last >= goal:
                self.say(f"{last} {what} after {now - began:.1f} s")
                return now - began
            if now - began > patience:
                raise TimeoutError(
                    f"only {last} of {goal} {what} after {patience:.0f} s; logs: {self.plane.folder}/log"
                )
            if now - told > 15:
                told = now
                self.say(f"{last} of {goal} {what}")
                for daemon in self.plane.daemons.values():
                    if daemon.process.poll() is not None:
                        raise SystemExit(f"the {daemon.name} has ended; logs: {self.plane.folder}/log")
            await asyncio.sleep(pause)

    async def ready_nodes(self) -> int:
        nodes = await self.client.list(Node, resource_version="0")
        return sum(
            any(c.type == "Ready" and c.status == "True" for c in node.status.conditions) for node in nodes.items
        )

    def report_daemons(self, title: str, before: dict[str, float], seconds: float) -> None:
        print(f"\n{title} ({seconds:.0f} s)")
        print(f"  {'daemon':20} {'cpu':>8} {'of a core':>10} {'RSS':>10}")
        for name, daemon in self.plane.daemons.items():
            used = daemon.cpu - before[name]
            print(f"  {name:20} {used:7.1f}s {used / seconds:9.1%} {daemon.rss:7.0f}MiB")

    async def run(self) -> None:
        await self.until("API servers", self._is_up, 1, 60.0, 0.2)
        before, at = self.plane.cpu(), time.monotonic()
        # Counting thousands of nodes is work, too.
        took = await self.until(
            "nodes ready", self.ready_nodes, self.nodes, 120 + self.nodes * 0.2, pause=max(2.0, self.nodes / 1000)
        )
        self.report_daemons(f"{self.nodes} nodes registered, {self.nodes / took:.0f}/s", before, time.monotonic() - at)
        await self._idle("idle with nodes and leases")
        if self.pods:
            await self._fill()
            await self._idle("idle at full size")
        await self._judged()

    async def _is_up(self) -> int:
        return int((await self.client.request("GET", "/readyz")).status == 200)

    async def _idle(self, title: str) -> None:
        await asyncio.sleep(min(20.0, self.seconds / 3))
        before, at = self.plane.cpu(), time.monotonic()
        await asyncio.sleep(min(30.0, self.seconds / 2))
        self.report_daemons(title, before, time.monotonic() - at)

    async def _fill(self) -> None:
        groups = workload.plan_workload(self.nodes, self.pods_per_node)
        before, at, sli, starts = self.plane.cpu(), time.monotonic(), await self.sli(), await self.starts()
        self.say(f"{self.pods} pods are asked for, in {len(groups)} Deployments with Services, at {self.rate:.0f}/s")
        patience = self.patience or 300 + self.pods * 0.05
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(
                workload.apply_workload(self.client, RealClock(), groups, pods_per_second=self.rate), name="workload"
            )
            try:
                await self.until("pods running", self.started, self.pods, patience)
            except TimeoutError as error:
                self.say(f"{error}: judged with what there is")
                asking.cancel()
        seconds, running = time.monotonic() - at, await self.started()
        self.report_daemons(f"{running} pods, {running / seconds:.0f}/s", before, seconds)
        show(judge(less(await self.sli(), sli)), "API latency while filling", most=12)
        show_starts(less(await self.starts(), starts), "pod startup while filling")

    async def _judged(self) -> None:
        """Everything at full size: heartbeats, pods that come and go, people who list."""
        before, at, sli, starts = self.plane.cpu(), time.monotonic(), await self.sli(), await self.starts()
        async with asyncio.TaskGroup() as tasks:
            listing = tasks.create_task(self._list(), name="lists")
            if self.pods:
                await self._churn(at + self.seconds)
            else:
                await asyncio.sleep(self.seconds)
            listing.cancel()
        seconds = time.monotonic() - at
        self.report_daemons("judged at full size", before, seconds)
        verdicts = judge(less(await self.sli(), sli))
        show(verdicts, "API latency at full size")
        holds = show_starts(less(await self.starts(), starts), "pod startup at full size")
        bad = [line for line in verdicts if not line.holds]
        print(f"\nobjectives: {'all hold' if not bad and holds else f'{len(bad) + (not holds)} DO NOT HOLD'}")

    async def _churn(self, until: float) -> None:
        """A Deployment of CHURN pods is made, runs, and goes, again and again."""
        space = "simulated-churn"
        with contextlib.suppress(ApiError):
            await self.client.create(Namespace(metadata=ObjectMeta(name=space)))
        number = 0
        while time.monotonic() < until:
            group = workload.Group(space, f"churn-{number}", CHURN)
            goal = await self.started() + CHURN
            await self.client.create(workload.service_of(group))
            await self.client.create(workload.deployment_of(group))
            await self._wait_started(goal, 60.0)
            await self.client.delete(Deployment, space, group.name, propagation="Background")
            await asyncio.sleep(3.0)
            number += 1

    async def _wait_started(self, goal: int, patience: float) -> None:
        for _ in range(int(patience / 0.5)):
            if await self.started() >= goal:
                return
            await asyncio.sleep(0.5)

    async def _list(self) -> None:
        """What people and tools ask: a namespace, a page, all nodes, everything."""
        while True:
            await self.client.request("GET", "/api/v1/namespaces/simulated-0/pods")
            await self.client.request("GET", "/api/v1/pods", query={"limit": "500"})
            await self.client.request("GET", "/api/v1/nodes")
            await self.client.request("GET", "/api/v1/pods", query={"resourceVersion": "0"})
            await self.client.list(Pod, "simulated-0", label_selector="app=group-0")
            await asyncio.sleep(5.0)


def show(verdicts: list[Verdict], title: str, most: int = 40) -> None:
    print(f"\n{title}: apiserver_request_sli_duration_seconds, p99 against its objective")
    print(f"  {'verb':18} {'resource':34} {'scope':10} {'count':>8} {'p50':>8} {'p99':>8} {'limit':>6}")
    for line in verdicts[:most]:
        mark = "" if line.holds else "  DOES NOT HOLD"
        print(
            f"  {line.verb:18} {line.resource:34} {line.scope:10} {line.count:8} "
            f"{line.p50:7.3f}s {line.p99:7.3f}s {line.objective:5.0f}s{mark}"
        )
    if len(verdicts) > most:
        print(f"  and {len(verdicts) - most} quicker ones")


def show_starts(found: dict[Key, list[tuple[float, float]]], title: str) -> bool:
    """Whether 99 of 100 pods started within 5 s."""
    if not found:
        return True
    buckets = merged(list(found.values()))
    p50, p99 = quantile(buckets, 0.5), quantile(buckets, 0.99)
    mark = "" if p99 <= 5.0 else "  DOES NOT HOLD"
    print(f"\n{title}: kubelet_pod_start_sli_duration_seconds of {buckets[-1][1]:.0f} pods: "
          f"p50 {p50:.2f}s, p99 {p99:.2f}s, limit 5s{mark}")  # fmt: skip
    return p99 <= 5.0


def run(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(prog="python -m bench scale")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--pods-per-node", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.0, help="pods asked for in a second while filling; 0: at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="to judge at full size")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to fill; then what there is is judged")
    parser.add_argument("--shared-watch", action="store_true", help="one watch of all pods instead of one a node")
    parser.add_argument("--no-events", action="store_true", help="nodes write no events")
    parser.add_argument("--folder", default="", help="keep logs and store here")
    options = parser.parse_args(arguments or [])
    flags = []
    if options.shared_watch:
        flags.append("--no-watch-per-node")
    if options.no_events:
        flags.append("--no-events")
    with contextlib.ExitStack() as stack:
        folder = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="kybern-scale-")))
        folder.mkdir(parents=True, exist_ok=True)
        found = stack.enter_context(plane(folder, options.nodes, options.pods_per_node, *flags))
        bench = Bench(found, options.nodes, options.pods_per_node, options.rate, options.seconds, options.patience)
        asyncio.run(bench.run())
    return {}
