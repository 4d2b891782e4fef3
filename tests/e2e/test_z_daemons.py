"""Daemons come and go; containers do not notice. Runs after the kubectl tests, on the same cluster."""

from __future__ import annotations

import json
import os
import signal

import pytest

from kybern.cli import settings, supervision
from tests.e2e import machine
from tests.e2e.conftest import Kubectl, eventually, kybern

COMPONENTS = ("apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "dns", "containerd")


def containers(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Pod -> (container id, restarts) of the demo."""
    found = {}
    for pod in kubectl.json("get", "pods", "-l", "app=demo")["items"]:
        status = pod["status"]["containerStatuses"][0]
        found[pod["metadata"]["name"]] = (status["containerID"], status["restartCount"])
    return found


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_killed_component_comes_back_and_no_container_restarts(kubectl: Kubectl, component: str) -> None:
    cluster = settings.require(settings.DATA_DIRECTORY)
    eventually(lambda: len(containers(kubectl)) == 3)
    before = containers(kubectl)
    pid = supervision.children(cluster)[component]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervision.children(cluster)[component] != pid)
    kybern("status", "--wait")
    assert containers(kubectl) == before


def test_status_tells_people_and_programs(kubectl: Kubectl) -> None:
    report = json.loads(kybern("status", "--wait", "-o", "json").stdout)
    assert report["works"] and set(report["components"]) == set(COMPONENTS)
    assert "API" in kybern("status").stdout


def test_down_then_up_keeps_state_and_pods(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    before = containers(kubectl)
    kybern("down")
    assert kubectl.run("get", "pods", "--request-timeout=2s").returncode != 0
    kybern("up")
    assert kubectl.json("get", "configmap", "kept")["data"] == {"a": "b"}
    assert containers(kubectl) == before


def test_up_recovers_from_a_killed_supervisor(kubectl: Kubectl) -> None:
    cluster = settings.require(settings.DATA_DIRECTORY)
    before = containers(kubectl)
    pid = supervision.running_pid(cluster)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervision.running_pid(cluster) is None)
    assert kubectl.run("get", "nodes").returncode == 0  # the components go on without it
    kybern("up")
    assert containers(kubectl) == before


def test_doctor_finds_nothing_to_complain_of(kubectl: Kubectl) -> None:
    assert "FAIL" not in kybern("doctor").stdout


def test_z_reset_leaves_nothing_behind(before: machine.Snapshot, kubectl: Kubectl) -> None:
    kybern("reset")
    assert before.added(machine.snapshot()) == {}
    assert "nothing to remove" in kybern("reset").stdout
