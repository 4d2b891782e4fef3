"""Two nodes on one machine: pods, services, DNS, logs and exec across them; a node that is drained, and one that fails.

Runs last: it brings up a cluster of its own where the other tests have taken theirs away.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from kybern.cli import settings
from kybern.cli.settings import LocalNode
from tests.e2e import machine
from tests.e2e.conftest import Kubectl, eventually, kybern

DEMO = "localhost/kybern/demo:1"
NODE_PORT = 30123
AGENT = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: agent}}
spec:
  selector: {{matchLabels: {{app: agent}}}}
  template:
    metadata: {{labels: {{app: agent}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {DEMO}
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: agent}}
spec:
  type: NodePort
  selector: {{app: agent}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
"""
# Tolerates the failure of its node for a second, where others are given five minutes.
IMPATIENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: impatient}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: impatient}}}}
  template:
    metadata: {{labels: {{app: impatient}}}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          matchLabelKeys: [pod-template-hash]
          labelSelector: {{matchLabels: {{app: impatient}}}}
      tolerations:
        - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}}
      containers: [{{name: web, image: "{DEMO}"}}]
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[LocalNode, ...]]:
    kybern("reset")
    before = machine.snapshot()
    kybern("up", "--nodes", "2")
    yield settings.require(settings.DATA_DIRECTORY).local_nodes()
    kybern("reset")
    assert before.added(machine.snapshot()) == {}


@pytest.fixture(scope="module")
def kubectl(nodes: tuple[LocalNode, ...]) -> Kubectl:
    return Kubectl()


def pods_of(kubectl: Kubectl, app: str) -> dict[str, tuple[str, str]]:
    """Node -> name and address of the pod that is ready there."""
    found = {}
    for pod in kubectl.json("get", "pods", "-l", f"app={app}")["items"]:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        if ready and "deletionTimestamp" not in pod["metadata"]:
            found[pod["spec"]["nodeName"]] = (pod["metadata"]["name"], pod["status"]["podIP"])
    return found


def fetch(node: LocalNode, url: str) -> bool:
    command = [*node.inside(), "curl", "-sf", "--max-time", "5", url]
    return b"served by" in subprocess.run(command, capture_output=True, check=False).stdout


def test_pods_and_services_are_reached_from_every_node(kubectl: Kubectl, nodes: tuple[LocalNode, ...]) -> None:
    kubectl("apply", "-f", "-", stdin=AGENT)
    pods = eventually(lambda: len(found := pods_of(kubectl, "agent")) == 2 and found, 30, "not one a node")
    assert set(pods) == {node.name for node in nodes}
    service = kubectl.json("get", "service", "agent")["spec"]["clusterIP"]
    page = "/cgi-bin/index.cgi"
    for node in nodes:
        for _, address in pods.values():
            assert fetch(node, f"http://{address}:8080{page}"), f"{node.name} does not reach the pod {address}"
        eventually(lambda here=node: fetch(here, f"http://{service}{page}"), 10, f"{node.name} and the Service")
        for other in nodes:
            url = f"http://{other.address}:{NODE_PORT}{page}"
            eventually(lambda here=node, there=url: fetch(here, there), 10, f"{node.name} and {url}")
    for name, _ in pods.values():
        for url in (*(f"http://{address}:8080{page}" for _, address in pods.values()), f"http://agent{page}"):
            assert "served by" in kubectl("exec", name, "--", "wget", "-q", "-O", "-", url), f"{name} to {url}"


def test_logs_and_ports_are_reached_through_the_api_server(kubectl: Kubectl, nodes: tuple[LocalNode, ...]) -> None:
    for node in nodes:
        name = f"talks-{node.name}"
        container = {"name": "c", "image": DEMO, "command": ["sh", "-c", "echo here; exec sleep 1000"]}
        spec = {"nodeName": node.name, "terminationGracePeriodSeconds": 0, "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        eventually(lambda n=name: kubectl("logs", n, check=False).strip() == "here", 30, f"logs of {name}")
        assert kubectl("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/healthz") == "ok"
        kubectl("delete", "pod", name, "--wait=false")


def test_a_drained_node_gets_no_pods_until_it_is_let_in_again(kubectl: Kubectl, nodes: tuple[LocalNode, ...]) -> None:
    kubectl("apply", "-f", "-", stdin=IMPATIENT)
    eventually(lambda: len(pods_of(kubectl, "impatient")) == 2, 30, "the pods do not spread")
    kubectl("drain", nodes[1].name, "--ignore-daemonsets", "--timeout=40s")
    eventually(lambda: set(pods_of(kubectl, "impatient")) == {nodes[0].name}, 30, "the pods do not move")
    assert set(pods_of(kubectl, "agent")) == {node.name for node in nodes}
    kubectl("uncordon", nodes[1].name)
    kubectl("rollout", "restart", "deployment/impatient")
    kubectl("rollout", "status", "deployment/impatient", "--timeout=40s")


def test_a_failed_node_loses_its_pods_and_comes_back(kubectl: Kubectl, nodes: tuple[LocalNode, ...]) -> None:
    failed = nodes[1].name
    eventually(lambda: len(pods_of(kubectl, "impatient")) == 2, 30, "the pods do not spread")
    kybern("node", "stop", failed)

    def taints() -> set[str]:
        return {taint["key"] for taint in kubectl.json("get", "node", failed)["spec"].get("taints", [])}

    # 40 s without a lease (and 5 s between two looks).
    eventually(lambda: "node.kubernetes.io/unreachable" in taints(), 60, "the node is not taken for failed")
    eventually(lambda: kubectl.json("get", "deployment", "impatient")["status"].get("readyReplicas") == 2, 30, "moved")
    assert set(pods_of(kubectl, "impatient")) == {nodes[0].name}
    report = json.loads(kybern("status", "-o", "json", check=False).stdout)
    assert [node["stopped"] for node in report["nodes"]] == [False, True]
    kybern("node", "start", failed)
    eventually(lambda: not taints(), 30, "the node does not come back")
    kybern("status", "--wait")


def test_down_and_up_keep_the_nodes_and_their_containers(kubectl: Kubectl, nodes: tuple[LocalNode, ...]) -> None:
    eventually(lambda: len(pods_of(kubectl, "agent")) == 2, 30)

    def containers() -> dict[str, str]:
        return {
            pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"]
            for pod in kubectl.json("get", "pods", "-l", "app=agent")["items"]
        }

    before = containers()
    kybern("down")
    refused = kybern("up", "--nodes", "1", check=False)
    assert refused.returncode != 0
    assert "not fewer" in refused.stderr
    kybern("up")
    assert containers() == before
    assert "FAIL" not in kybern("doctor").stdout
