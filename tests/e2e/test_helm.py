"""Helm 4, which applies on the server side: a chart with hooks is installed, upgraded, rolled back and taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from tests.e2e.conftest import KUBECONFIG, Kubectl

pytestmark = pytest.mark.cluster

DEMO = "localhost/kybern/demo:1"
BUSYBOX = "localhost/kybern/busybox:1"

CHART = """
apiVersion: v2
name: demo
version: {version}
"""
VALUES = """
replicas: 1
greeting: hello
extra: true
"""
WORKLOAD = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {{{{ .Release.Name }}}}, labels: {{app: {{{{ .Release.Name }}}}}}}}
spec:
  replicas: {{{{ .Values.replicas }}}}
  selector: {{matchLabels: {{app: {{{{ .Release.Name }}}}}}}}
  template:
    metadata: {{labels: {{app: {{{{ .Release.Name }}}}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {DEMO}
          env: [{{name: VERSION, value: "{{{{ .Values.greeting }}}}"}}]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {app: {{ .Release.Name }}}
  ports: [{port: 80, targetPort: 8080}]
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data:
  greeting: {{ .Values.greeting }}
  {{- if .Values.extra }}
  extra: "yes"
  {{- end }}
"""
# Runs before each change, and must have finished before anything else is touched.
HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before-{{ .Release.Revision }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade,pre-rollback
    helm.sh/hook-weight: "1"
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: IMAGE, command: ["true"]}]
""".replace("IMAGE", BUSYBOX)
NOTE = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-after
  annotations:
    helm.sh/hook: post-install,post-upgrade,post-rollback
    helm.sh/hook-delete-policy: before-hook-creation
data: {revision: "{{ .Release.Revision }}"}
"""


def chart(folder: Path, version: str, hook: str = HOOK) -> Path:
    """A chart on disk."""
    templates = {"workload": WORKLOAD, "service": SERVICE, "config": CONFIG, "hook": hook, "note": NOTE}
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(CHART.format(version=version))
    (folder / "values.yaml").write_text(VALUES)
    for name, text in templates.items():
        (folder / "templates" / f"{name}.yaml").write_text(text)
    return folder


def data_of(kubectl: Kubectl, name: str) -> dict[str, str]:
    found: dict[str, str] = kubectl.json("get", "configmap", name)["data"]
    return found


def operations_of(obj: dict[str, Any]) -> set[str]:
    return {e["operation"] for e in obj["metadata"]["managedFields"]}


def test_a_chart_with_hooks_goes_up_and_forth_and_back_and_away(kubectl: Kubectl, tmp_path: Path) -> None:
    first, second = chart(tmp_path / "one", "1.0.0"), chart(tmp_path / "two", "2.0.0")
    with helm.Config(kubeconfig_path=KUBECONFIG, namespace="default") as config:
        config.install(str(first), "greeter", wait="watcher", timeout=90)
        assert data_of(kubectl, "greeter") == {"greeting": "hello", "extra": "yes"}
        assert data_of(kubectl, "greeter-after") == {"revision": "1"}
        workload = kubectl.json("get", "deployment", "greeter", "--show-managed-fields")
        assert "Apply" in operations_of(workload)
        assert workload["status"]["readyReplicas"] == 1
        assert kubectl.json("get", "job", "greeter-before-1")["status"]["succeeded"] == 1

        changed = {"replicas": 2, "greeting": "good day", "extra": False}
        config.upgrade(str(second), "greeter", changed, wait="watcher", timeout=90)
        # What a chart does not say any more is gone, because nobody else said it.
        assert data_of(kubectl, "greeter") == {"greeting": "good day"}
        assert data_of(kubectl, "greeter-after") == {"revision": "2"}
        assert kubectl.json("get", "deployment", "greeter")["status"]["readyReplicas"] == 2

        config.rollback("greeter", version=1, wait="watcher", timeout=90)
        assert data_of(kubectl, "greeter") == {"greeting": "hello", "extra": "yes"}
        assert kubectl.json("get", "deployment", "greeter")["spec"]["replicas"] == 1
        assert data_of(kubectl, "greeter-after") == {"revision": "1"}
        assert [r["revision"] for r in config.history("greeter")] == [1, 2, 3]

        config.uninstall("greeter")
    gone = kubectl.run("get", "deployment,service,configmap", "greeter")
    assert gone.returncode != 0
