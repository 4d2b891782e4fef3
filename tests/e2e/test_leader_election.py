"""Two controller managers and two schedulers over two API servers: who leads dies, and nothing is done twice."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kybern.testing import etcd
from kybern.testing.api_server_process import ApiServerProcess
from tests.e2e.conftest import eventually
from tests.e2e.several_servers import World, running

LEASE, RENEW, RETRY = 8.0, 7.0, 0.5
# A candidate asks every RETRY seconds and a little (2.2 times at most); the rest is for a busy machine.
TAKEOVER = LEASE + 2.2 * RETRY + 4.0
REPLICAS = 3
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"


@dataclass
class Daemon:
    """One candidate, at one of the servers."""

    component: str
    server: ApiServerProcess
    folder: Path
    number: int
    process: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)

    @property
    def lease(self) -> str:
        return f"kube-{self.component}"

    def start(self) -> None:
        """One process at a time: one that runs already is left as it is."""
        if self.process is not None and self.process.poll() is None:
            return
        kubeconfig = self.folder / f"{self.component}-{self.number}.conf"
        made = (self.server.pki.kubeconfigs / f"{self.component}.conf").read_text()
        kubeconfig.write_text(made.replace("https://127.0.0.1:6443", self.server.url))
        (port,) = etcd.free_ports(1)
        command = [
            *(sys.executable, "-m", "kybern.cli.main", self.component, "--kubeconfig", str(kubeconfig)),
            *("--secure-port", str(port), "--leader-elect-lease-duration", str(LEASE)),
            *("--leader-elect-renew-deadline", str(RENEW), "--leader-elect-retry-period", str(RETRY)),
        ]
        self.logs.append(self.folder / f"{self.component}-{self.number}-{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def leads(self, identity: str) -> bool:
        return f'"{identity}"' in self.logs[-1].read_text()


@dataclass
class Plane:
    world: World
    daemons: list[Daemon]
    deployments: int = 0

    def get(self, path: str) -> Any:
        answer = self.world.servers[0].call("GET", path)
        return answer.json() if answer.status_code == 200 else None

    def holder(self, component: str) -> str:
        lease = self.get(f"{LEASES}/kube-{component}")
        return (lease or {}).get("spec", {}).get("holderIdentity") or ""

    def leader(self, component: str) -> Daemon:
        """The daemon that holds the lease."""

        def found() -> Daemon | None:
            holder = self.holder(component)
            mine = [d for d in self.daemons if d.component == component]
            return next((d for d in mine if holder and d.logs and d.leads(holder)), None)

        leading: Daemon = eventually(found, 20, f"nobody leads as {component}")
        return leading

    def deploy(self, count: int) -> None:
        for _ in range(count):
            labels = {"app": f"d{self.deployments}"}
            pod = {"containers": [{"name": "c", "image": "none"}]}
            body = {
                "metadata": {"name": labels["app"]},
                "spec": {
                    "replicas": REPLICAS,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            }
            made = self.world.servers[self.deployments % 2].call("POST", DEPLOYMENTS, body)
            assert made.status_code == 201, made.text
            self.deployments += 1

    def bound(self) -> int:
        return sum("nodeName" in pod["spec"] for pod in self.get(PODS)["items"])

    def all_is_done(self) -> bool:
        """Also starts daemons that lost their lease to a busy machine, as a supervisor would."""
        for daemon in self.daemons:
            if daemon.process is not None and daemon.process.poll() is not None:
                daemon.start()
        return self.bound() >= self.deployments * REPLICAS


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with running(tmp_path) as world:
        daemons = [
            Daemon(component, world.servers[number], tmp_path, number)
            for component in ("controller-manager", "scheduler")
            for number in range(2)
        ]
        try:
            for daemon in daemons:
                daemon.start()
            for name in ("n1", "n2"):
                join(world, name)
            yield Plane(world, daemons)
        finally:
            for daemon in daemons:
                if daemon.process is not None:
                    daemon.signal(signal.SIGCONT)
                    daemon.signal(signal.SIGKILL)


def join(world: World, name: str) -> None:
    """A node that says it is ready, and runs nothing."""
    made = world.servers[0].call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    assert made.status_code == 201, made.text
    room = {"cpu": "64", "memory": "64Gi", "pods": "500"}
    status = {
        "capacity": room,
        "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}],
    }
    body = {"status": status}
    answer = world.servers[0].call("PATCH", f"/api/v1/nodes/{name}/status", body, content_type="merge-patch+json")
    assert answer.status_code == 200, answer.text


def test_another_takes_over_within_the_lease_time_and_nothing_is_done_twice(plane: Plane) -> None:
    began = plane.get(PODS)["metadata"]["resourceVersion"]
    plane.deploy(3)
    eventually(plane.all_is_done, 30, "the first pods are not placed")
    for blow in (signal.SIGKILL, signal.SIGSTOP):
        leaders = {component: plane.leader(component) for component in ("controller-manager", "scheduler")}
        before = {component: plane.holder(component) for component in leaders}
        plane.deploy(2)  # work under way
        for daemon in leaders.values():
            daemon.signal(blow)
        struck = time.monotonic()
        plane.deploy(2)
        for component in leaders:
            wait_for_another(plane, component, before[component])
        assert time.monotonic() - struck < TAKEOVER
        eventually(plane.all_is_done, 20, f"pods are not placed after {blow.name}")
        for daemon in leaders.values():
            if blow == signal.SIGKILL:
                daemon.start()
            else:  # it finds that it leads no more, and ends
                old = daemon.process
                daemon.signal(signal.SIGCONT)
                assert old is not None
                assert old.wait(15) != 0
    check_once(plane, began)


def wait_for_another(plane: Plane, component: str, before: str) -> None:
    eventually(lambda: plane.holder(component) not in ("", before), TAKEOVER, f"nobody takes over as {component}")


def check_once(plane: Plane, since: str) -> None:
    """Over all of history, not only what is left: each pod was made once and placed once."""
    path = f"{PODS}?watch=1&resourceVersion={since}&timeoutSeconds=1"
    lines = plane.world.servers[1].call("GET", path).text.splitlines()
    assert lines
    made: collections.Counter[str] = collections.Counter()
    places: dict[str, set[str]] = collections.defaultdict(set)
    for event in map(json.loads, lines):
        pod = event["object"]
        assert event["type"] in ("ADDED", "MODIFIED"), f"{event['type']} {pod['metadata']['name']}"
        if event["type"] == "ADDED":
            made[pod["metadata"]["labels"]["app"]] += 1
        if "nodeName" in pod["spec"]:
            places[pod["metadata"]["name"]].add(pod["spec"]["nodeName"])
    assert made == {f"d{n}": REPLICAS for n in range(plane.deployments)}
    assert len(places) == plane.deployments * REPLICAS
    assert all(len(where) == 1 for where in places.values())
    sets = plane.get("/apis/apps/v1/namespaces/default/replicasets")["items"]
    assert len(sets) == plane.deployments
    told = plane.get("/api/v1/namespaces/default/events?fieldSelector=reason=Scheduled")["items"]
    counts = collections.Counter(event["involvedObject"]["name"] for event in told)
    assert counts
    assert set(counts.values()) == {1}
