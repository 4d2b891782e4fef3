"""What people do with kubectl, done with the real kubectl on a real cluster."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.conftest import Kubectl, eventually

DEMO = "localhost/kybern/demo:1"
BUSYBOX = "localhost/kybern/busybox:1"


def node_ip(kubectl: Kubectl) -> str:
    return kubectl(
        "get", "nodes", "-o", 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    ).strip()


def deployment(name: str, replicas: int = 2, image: str = DEMO, **extra: str) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
        - name: web
          image: {image}
          env: [{{name: VERSION, value: "{extra.get("version", "1")}"}}]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
          lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
"""


def pod(name: str, command: str, **spec: str) -> str:
    rest = "".join(f"\n  {key}: {value}" for key, value in spec.items())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1{rest}
  containers:
    - {{name: main, image: {BUSYBOX}, command: ["sh", "-c", "{command}"]}}
"""


@pytest.fixture(scope="module")
def shell(kubectl: Kubectl) -> str:
    """A pod in default to run commands in."""
    kubectl("apply", "-f", "-", stdin=pod("shell", "while true; do sleep 1; done"))
    kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    return "shell"


def test_apply_creates_then_leaves_unchanged_then_configures(kubectl: Kubectl, namespace: str) -> None:
    assert "created" in kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web"))
    assert "unchanged" in kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web"))
    assert "configured" in kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web", replicas=1))
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")


def test_get_prints_tables_yaml_and_json(kubectl: Kubectl) -> None:
    wide = kubectl("get", "pods", "-l", "app=demo", "-o", "wide")
    heads = wide.splitlines()[0].split()
    assert heads[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert heads[7:] == ["NOMINATED", "NODE", "READINESS", "GATES"]
    assert len(re.findall(r"1/1 +Running", wide)) == 3
    assert "kind: Deployment" in kubectl("get", "deployment", "demo", "-o", "yaml")
    assert kubectl.json("get", "service", "demo")["spec"]["type"] == "NodePort"
    assert "Ready" in kubectl("get", "nodes")


def test_describe_tells_spec_status_and_events(kubectl: Kubectl) -> None:
    name = kubectl.json("get", "pods", "-l", "app=demo")["items"][0]["metadata"]["name"]
    text = kubectl("describe", "pod", name)
    assert "Controlled By:  ReplicaSet/demo-" in text
    assert "Started" in text and "Scheduled" in text
    assert "StrategyType:" in kubectl("describe", "deployment", "demo")
    assert "Allocatable:" in kubectl("describe", "nodes")
    assert "Endpoints:" in kubectl("describe", "service", "demo")


def test_logs_follow_what_a_container_prints(kubectl: Kubectl, namespace: str) -> None:
    kubectl(
        "apply",
        "-n",
        namespace,
        "-f",
        "-",
        stdin=pod("talker", "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done", restartPolicy="Never"),
    )
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/talker", "--timeout=60s", check=False)
    assert kubectl("logs", "-f", "talker", "-n", namespace).split("\n")[:5] == [f"line {i}" for i in range(1, 6)]
    assert kubectl("logs", "--tail=1", "talker", "-n", namespace) == "line 5\n"


def test_exec_runs_a_command_and_tells_its_exit_code(kubectl: Kubectl, shell: str) -> None:
    assert kubectl("exec", shell, "--", "echo", "hi there") == "hi there\n"
    assert kubectl("exec", "-i", shell, "--", "cat", stdin="through\n") == "through\n"
    assert kubectl.run("exec", shell, "--", "sh", "-c", "exit 7").returncode == 7


def test_exec_with_a_terminal(kubectl: Kubectl, shell: str) -> None:
    ours, theirs = pty.openpty()
    process = kubectl.start("exec", "-it", shell, "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        os.write(ours, b"echo $((6*7)); tty; exit\n")
        text = b""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    text += os.read(ours, 4096)
                except OSError:
                    break
        assert process.wait(10) == 0
        assert b"42" in text and b"/dev/pts/" in text
    finally:
        process.kill()
        os.close(ours)


def test_port_forward_carries_requests(kubectl: Kubectl) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = kubectl.start("port-forward", "deployment/demo", f"{port}:8080", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and "Forwarding" in process.stdout.readline()
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/cgi-bin/index.cgi", timeout=10) as answer:
                assert b"served by demo-" in answer.read()
    finally:
        process.kill()
        process.wait()


SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


def test_older_clients_exec_and_forward_over_spdy(
    shell: str,
) -> None:
    kubectl = Kubectl(**SPDY)
    assert kubectl("exec", "-i", shell, "--", "cat", stdin="through\n") == "through\n"
    assert kubectl.run("exec", shell, "--", "sh", "-c", "exit 7").returncode == 7
    process = kubectl.start("port-forward", "deployment/demo", ":8080", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = re.search(r":(\d+) ->", process.stdout.readline())
        assert port is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{port.group(1)}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok\n"
    finally:
        process.kill()
        process.wait()


def test_attach_joins_a_running_container(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=pod("ticker", "while true; do echo tick; sleep 0.2; done"))
    kubectl("wait", "--for=condition=Ready", "pod/ticker", "-n", namespace, "--timeout=60s")
    process = kubectl.start("attach", "ticker", "-n", namespace, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None and process.stdout.readline() == "tick\n"
    finally:
        process.kill()
        process.wait()


def test_a_static_pod_runs_and_is_mirrored_until_its_file_goes(kubectl: Kubectl) -> None:
    file = Path("/var/lib/kybern/static-pods/still.yaml")
    file.write_text(pod("still", "while true; do sleep 1; done"))
    try:
        name = "still-" + kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        eventually(lambda: kubectl.run("get", "pod", name).returncode == 0)
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    finally:
        file.unlink()
    eventually(lambda: kubectl.run("get", "pod", name).returncode != 0)


def test_cp_copies_both_ways(kubectl: Kubectl, shell: str, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "there").write_bytes(content)
    kubectl("cp", str(tmp_path / "there"), f"{shell}:/tmp/copied")
    kubectl("cp", f"{shell}:/tmp/copied", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_scale_rollout_and_undo(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web", 1))
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")
    kubectl("scale", "deployment/web", "--replicas=3", "-n", namespace)
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/web", "-n", namespace, "--timeout=60s")
    kubectl("set", "image", "deployment/web", f"web={BUSYBOX}", "-n", namespace)
    kubectl("rollout", "undo", "deployment/web", "-n", namespace)
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=90s")
    image = kubectl(
        "get", "deployment", "web", "-n", namespace, "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    assert image == DEMO
    kubectl("rollout", "restart", "deployment/web", "-n", namespace)
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=90s")
    assert "REVISION" in kubectl("rollout", "history", "deployment/web", "-n", namespace)


def test_label_annotate_wait_and_delete(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "box", "--from-literal=a=b", "-n", namespace)
    kubectl("label", "configmap", "box", "tier=front", "-n", namespace)
    kubectl("annotate", "configmap", "box", "note=hello", "-n", namespace)
    found = kubectl.json("get", "configmap", "-l", "tier=front", "-n", namespace)["items"]
    assert [c["metadata"]["annotations"]["note"] for c in found] == ["hello"]
    kubectl("delete", "configmap", "box", "-n", namespace)
    kubectl("wait", "--for=delete", "configmap/box", "-n", namespace, "--timeout=10s")


def test_explain_reads_the_published_schema(kubectl: Kubectl) -> None:
    assert "FIELDS:" in kubectl("explain", "deployment.spec.strategy")
    assert "containers" in kubectl("explain", "pod.spec", "--recursive")


def test_create_deployment_expose_and_run(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "deployment", "made", f"--image={DEMO}", "--replicas=2", "-n", namespace)
    kubectl("expose", "deployment", "made", "--port=80", "--target-port=8080", "-n", namespace)
    kubectl("wait", "--for=condition=Available", "deployment/made", "-n", namespace, "--timeout=60s")
    text = kubectl(
        "run", "once", f"--image={BUSYBOX}", "--restart=Never", "--rm", "-i", "--quiet", "-n", namespace, "--",
        "wget", "-q", "-O", "-", f"http://made.{namespace}/cgi-bin/index.cgi",
    )  # fmt: skip
    assert "served by made-" in text


def served_by(text: str) -> str:
    found = re.search(r"served by (\S+)", text)
    assert found, text
    return found.group(1)


def test_a_service_balances_by_name_from_a_pod_and_by_address_from_the_node(kubectl: Kubectl, shell: str) -> None:
    loop = "for i in $(seq 40); do wget -q -O - http://demo/cgi-bin/index.cgi | tail -1; done"
    names = set(kubectl("exec", shell, "--", "sh", "-c", loop).split("\n"))
    assert len({n for n in names if n}) == 3, names
    address = kubectl.json("get", "service", "demo")["spec"]["clusterIP"]
    seen = set()
    for target in (f"http://{address}/cgi-bin/index.cgi", f"http://{node_ip(kubectl)}:30080/cgi-bin/index.cgi"):
        for _ in range(20):
            with urllib.request.urlopen(target, timeout=5) as answer:
                seen.add(served_by(answer.read().decode()))
    assert len(seen) == 3


def test_a_rolling_update_under_constant_requests_loses_none(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web", 3))
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080", "-n", namespace)
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")
    address = kubectl.json("get", "service", "web", "-n", namespace)["spec"]["clusterIP"]
    stop = threading.Event()
    answered: list[str] = []
    lost: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                with urllib.request.urlopen(f"http://{address}/cgi-bin/index.cgi", timeout=5) as answer:
                    answered.append(served_by(answer.read().decode()))
            except OSError as error:
                lost.append(str(error))
            time.sleep(0.01)

    eventually(lambda: urllib.request.urlopen(f"http://{address}/healthz", timeout=2).status == 200)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web", 3, version="2"))
        kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=120s")
    finally:
        stop.set()
        thread.join()
    assert not lost, f"{len(lost)} of {len(lost) + len(answered)} requests were lost: {lost[:3]}"
    assert len(set(answered)) >= 4


def test_a_killed_container_restarts_and_a_deleted_pod_is_replaced(kubectl: Kubectl, namespace: str) -> None:
    kubectl(
        "apply",
        "-n",
        namespace,
        "-f",
        "-",
        stdin=pod("mortal", "sleep 0.5; trap 'exit 3' USR1; while :; do sleep 0.1; done"),
    )
    kubectl("wait", "--for=condition=Ready", "pod/mortal", "-n", namespace, "--timeout=60s")
    time.sleep(0.7)
    kubectl("exec", "mortal", "-n", namespace, "--", "kill", "-USR1", "1")
    path = "jsonpath={.status.containerStatuses[0].restartCount}"
    eventually(lambda: kubectl("get", "pod", "mortal", "-n", namespace, "-o", path) == "1")
    names = {p["metadata"]["name"] for p in kubectl.json("get", "pods", "-l", "app=demo")["items"]}
    kubectl("delete", "pod", sorted(names)[0])

    def replaced() -> bool:
        pods = kubectl.json("get", "pods", "-l", "app=demo")["items"]
        ready = {
            p["metadata"]["name"]
            for p in pods
            if all(s["ready"] for s in p["status"].get("containerStatuses", [{"ready": False}]))
        }
        return len(ready) == 3 and sorted(names)[0] not in ready

    eventually(replaced)


def test_a_config_map_change_reaches_the_mounted_file(kubectl: Kubectl) -> None:
    name = kubectl.json("get", "pods", "-l", "app=demo")["items"][0]["metadata"]["name"]
    kubectl("patch", "configmap", "demo", "-p", '{"data":{"greeting":"Changed!\\n"}}')
    eventually(lambda: "Changed!" in kubectl("exec", name, "--", "cat", "/config/greeting"), 90)


def test_secrets_environment_and_downward_api(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "secret", "generic", "keys", "--from-literal=token=s3cret", "-n", namespace)
    manifest = f"""
apiVersion: v1
kind: Pod
metadata: {{name: reader}}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: {BUSYBOX}
      command: [sh, -c, 'echo $TOKEN $NAME; cat /keys/token; ls /var/run/secrets/kubernetes.io/serviceaccount']
      env:
        - {{name: TOKEN, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}
        - {{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
      volumeMounts: [{{name: keys, mountPath: /keys}}]
  volumes: [{{name: keys, secret: {{secretName: keys}}}}]
"""
    kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "-n", namespace, "--timeout=60s")
    assert kubectl("logs", "reader", "-n", namespace).split() == [
        "s3cret",
        "reader",
        "s3cretca.crt",
        "namespace",
        "token",
    ]


def test_jobs_complete(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "job", "once", f"--image={BUSYBOX}", "-n", namespace, "--", "true")
    kubectl("wait", "--for=condition=Complete", "job/once", "-n", namespace, "--timeout=60s")


def test_deleting_a_namespace_removes_what_is_in_it(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "brief")
    kubectl("create", "configmap", "a", "-n", "brief")
    kubectl("apply", "-n", "brief", "-f", "-", stdin=deployment("web", 1))
    kubectl("delete", "namespace", "brief", timeout=120)
    assert "NotFound" in kubectl.run("get", "namespace", "brief").stderr


def test_the_python_client_lists_and_watches_without_a_warning(
    kubectl: Kubectl, recwarn: pytest.WarningsRecorder
) -> None:
    import kubernetes

    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config("/var/lib/kybern/kubeconfig/admin.conf"))
    pods = api.list_namespaced_pod("default", label_selector="app=demo")
    assert len(pods.items) == 3 and pods.items[0].status.pod_ip
    seen = []
    for event in kubernetes.watch.Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=3):
        seen.append(event["type"])
        if len(seen) == 3:
            break
    assert seen == ["ADDED"] * 3
    assert [w for w in recwarn if "kubernetes" in str(w.filename)] == []
