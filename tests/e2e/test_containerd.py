"""A real container runtime keeps the rules that the fake one keeps: on a containerd of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kybern.cli import archive, containerd
from kybern.cli.settings import LocalNode
from kybern.kubelet.cri.client import CriClient
from kybern.kubelet.cri.contract import Cri
from kybern.testing.cri_suite import CriSuite

_SUBNET = "10.199.77.0/24"


@pytest.fixture(scope="module", autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A containerd with the images of `kybern up` and a network of its own."""
    if os.geteuid() != 0:
        pytest.fail("a container runtime needs root")
    folder = tmp_path_factory.mktemp("containerd")
    node = LocalNode("test", "", folder / "data", folder / "run")
    config = containerd.write_config(node)
    ipam = {"type": "host-local", "ranges": [[{"subnet": _SUBNET}]], "dataDir": str(folder / "leases")}
    network = {"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "ptp", "ipam": ipam}]}
    (node.data / "cni/net.d/10-test.conflist").write_text(json.dumps(network))
    process = subprocess.Popen(["containerd", "--config", str(config), "--log-level", "error"])
    try:
        deadline = time.monotonic() + 30
        while containerd.ctr(node, "version").returncode != 0:
            assert process.poll() is None and time.monotonic() < deadline, "containerd does not answer"
            time.sleep(0.1)
        for image in (archive.pause(), archive.busybox()):
            containerd.load_image(node, archive.render(image))
        TestContainerd.endpoint = f"unix://{node.containerd_socket}"
        yield node
    finally:
        process.terminate()
        process.wait(20)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(folder)):
                subprocess.run(["umount", "--lazy", line.split()[4]], check=False)
        for group in Path("/sys/fs/cgroup").glob("*/k8s.io"):
            with contextlib.suppress(OSError):  # others may use it too
                group.rmdir()


class TestContainerd(CriSuite):
    image = archive.BUSYBOX
    forever = ("sleep", "1000")
    endpoint = ""

    async def open_cri(self) -> Cri:
        return CriClient(self.endpoint)
