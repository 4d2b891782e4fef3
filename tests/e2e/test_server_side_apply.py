"""kubectl's applies, of both sides, on one object: over and back, with conflicts and differences told."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Kubectl

pytestmark = pytest.mark.cluster


def config(image: str = "a:1", replicas: int = 0) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: applied, labels: {{app: applied}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: applied}}}}
  template:
    metadata: {{labels: {{app: applied}}}}
    spec:
      containers: [{{name: c, image: "{image}", ports: [{{containerPort: 80}}]}}]
"""


def owners(kubectl: Kubectl, field: str) -> list[str]:
    found = json.loads(kubectl("get", "deployment", "applied", "-o", "json", "--show-managed-fields"))
    return sorted(e["manager"] for e in found["metadata"]["managedFields"] if field in e["fieldsV1"].get("f:spec", {}))


def changes(kubectl: Kubectl, text: str, *options: str) -> list[str]:
    """What `kubectl diff` says would come."""
    done = kubectl.run("diff", "-f", "-", *options, stdin=text)
    assert done.returncode in (0, 1), done.stderr
    lines = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("+") and line[:3] != "+++"]
    return [line for line in lines if not line.startswith(("generation:", "{"))]


def test_from_the_clients_apply_to_the_servers_and_back(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=config())
    assert "image: a:1" in kubectl("apply", "view-last-applied", "deployment/applied")
    assert changes(kubectl, config("a:2")) == ["- image: a:2"]
    assert changes(kubectl, config()) == []

    kubectl("apply", "--server-side", "-f", "-", stdin=config("a:2"))
    assert owners(kubectl, "f:replicas") == ["kubectl"]
    assert changes(kubectl, config("a:2"), "--server-side") == []
    assert changes(kubectl, config("a:3"), "--server-side") == ["- image: a:3"]

    refused = kubectl.run("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=config("a:2", 1))
    assert refused.returncode != 0
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas' in refused.stderr
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=config("a:2", 1))
    assert owners(kubectl, "f:replicas") == ["other"]
    kubectl("scale", "deployment/applied", "--replicas=2")
    assert owners(kubectl, "f:replicas") == ["kubectl"]

    kubectl("apply", "-f", "-", stdin=config("a:4"))
    assert "image: a:4" in kubectl("apply", "view-last-applied", "deployment/applied")
    kubectl("delete", "deployment", "applied")
