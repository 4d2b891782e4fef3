"""One real cluster for all tests here, brought up by `kybern up --demo` and taken away by `kybern reset`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import machine

ROOT = Path(__file__).parent.parent.parent
KYBERN = [sys.executable, "-m", "kybern.cli.main"]
KUBECTL = Path(sys.executable).parent / "kubectl"
KUBECONFIG = "/var/lib/kybern/kubeconfig/admin.conf"


def kybern(*arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*KYBERN, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(
            f"kybern {' '.join(arguments)} failed ({done.returncode}):\n{done.stdout}{done.stderr}\n{logs()}"
        )
    return done


def logs() -> str:
    """The ends of the components' logs: what a person would look at next."""
    found = []
    for file in sorted(Path("/var/lib/kybern/log").glob("*.log")):
        found.append(f"--- {file.name}\n{file.read_text(errors='replace')[-1500:]}")
    return "\n".join(found)


class Kubectl:
    """The real kubectl on the cluster."""

    def __init__(self, **environment: str) -> None:
        self.environment = {**os.environ, "KUBECONFIG": KUBECONFIG, **environment}

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 90) -> str:
        done = self.run(*arguments, stdin=stdin, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KUBECTL), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.environment,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([str(KUBECTL), *arguments], text=True, env=self.environment, **options)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))


def eventually(check: Callable[[], Any], seconds: float = 30, message: str = "") -> Any:
    """What `check` returns once it is true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = check()
            fault: object = found
        except AssertionError as error:
            found, fault = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or check}: not within {seconds} s, last: {fault}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def before() -> machine.Snapshot:
    """The machine before there was a cluster."""
    if os.geteuid() != 0:
        pytest.fail("these tests run a real cluster: run them as root")
    kybern("reset")
    return machine.snapshot()


@pytest.fixture(scope="session")
def cluster(before: machine.Snapshot) -> Iterator[None]:
    kybern("up", "--demo")
    yield
    kybern("reset")


@pytest.fixture(scope="session")
def kubectl(cluster: None) -> Kubectl:
    return Kubectl()


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, removed afterwards."""
    name = "t-" + request.node.name.replace("_", "-")[:50].rstrip("-")
    kubectl("create", "namespace", name)
    eventually(lambda: kubectl.run("get", "serviceaccount", "default", "-n", name).returncode == 0)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
