"""A whole kubelet on fakes: an API of dictionaries, a runtime in memory, cgroups and files in a directory.

For tests of what a node does with pods: `run` a scenario under a virtual loop, where minutes pass at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kybern.api.core_v1 import Container, Event, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import dns
from kybern.kubelet.cgroups.plan import Limits
from kybern.kubelet.kubelet import Configuration, Kubelet
from kybern.kubelet.node.machine import Machine
from kybern.kubelet.node.status import Identity, Reserve
from kybern.machinery.clock import Clock
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi
from kybern.testing.fake_cri import FakeCri

MACHINE = Machine(
    cpus=4,
    memory=8 << 30,
    disk=100 << 30,
    hugepages=(),
    machine_id="m",
    system_uuid="s",
    boot_id="b",
    kernel="6.0",
    os_image="Test",
    architecture="amd64",
)
PATIENCE = 600.0  # seconds of virtual time until `until` gives up


class FakeHierarchy:
    """Cgroups by name."""

    is_unified = True

    def __init__(self) -> None:
        self.groups: dict[str, Limits] = {}

    def ensure(self, group: str, limits: Limits) -> None:
        self.groups[group] = limits

    def remove(self, group: str) -> None:
        for name in [g for g in self.groups if g == group or g.startswith(group + "/")]:
            del self.groups[name]

    def exists(self, group: str) -> bool:
        return group in self.groups

    def children(self, group: str) -> list[str]:
        prefix = group.rstrip("/") + "/"
        return sorted({g[len(prefix) :].split("/")[0] for g in self.groups if g.startswith(prefix)})

    def read(self, group: str, controller: str, file: str) -> str:
        return ""


class FakeNode:
    """One node under test."""

    def __init__(self, clock: Clock, root: Path, *, manifests: str = "") -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.cri = FakeCri(clock, ("app:1", "app:2"))
        self.hierarchy = FakeHierarchy()
        self.root = root
        self._manifests = manifests
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None
        self.kubelet = self._build()

    def _build(self) -> Kubelet:
        config = Configuration(
            root=self.root / "kubelet",
            identity=Identity("n1", ("192.0.2.1",), 10250, "v1.36.0"),
            reserve=Reserve(),
            cluster=dns.Cluster(("10.96.0.10",), "cluster.local"),
            resolv_conf="",
            log_root=str(self.root / "logs"),
            log_links=str(self.root / "links"),
            manifest_folder=self._manifests,
        )
        return Kubelet(config, MACHINE, self.cri, self.api.client(), self.hierarchy, self.clock, random.Random(1))

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running = tasks.create_task(self.kubelet.run(), name="kubelet")

    async def stop(self) -> None:
        """The kubelet goes away; what runs goes on."""
        assert self._running is not None
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    async def restart(self) -> None:
        """A new kubelet on the same runtime, files and API."""
        await self.stop()
        self.kubelet = self._build()
        assert self._tasks is not None
        self.start(self._tasks)

    # What tests say and ask.

    def add(self, *containers: Container, name: str = "p", **spec: Any) -> Pod:
        """A pod bound to this node."""
        meta = ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}")
        given = {"terminationGracePeriodSeconds": 30, "restartPolicy": "Always", **spec}
        return self.api.put(Pod(metadata=meta, spec=PodSpec(nodeName="n1", containers=list(containers), **given)))

    def pod(self, name: str = "p") -> Pod | None:
        return self.api.get(Pod, "ns", name)

    async def until(self, what: Callable[[Pod], object], name: str = "p") -> Pod:
        """The pod as soon as `what` holds of it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                pod = self.pod(name)
                if pod is not None and what(pod):
                    return pod
                await self.clock.sleep(0.05)

    async def until_gone(self, name: str = "p") -> None:
        async with asyncio.timeout(PATIENCE):
            while self.pod(name) is not None:
                await self.clock.sleep(0.05)

    def events(self) -> list[tuple[str, str]]:
        """(reason, message), in order."""
        return [(e.reason or "", e.message or "") for e in self.api.list(Event)]


def container(name: str = "c", **fields: Any) -> Container:
    return Container(name=name, image=fields.pop("image", "app:1"), **fields)


def run(root: Path, scenario: Callable[[FakeNode], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Drive `scenario(node)` beside a running kubelet."""

    async def main(clock: Clock) -> None:
        node = FakeNode(clock, root, **options)
        async with asyncio.TaskGroup() as tasks:
            node.start(tasks)
            await scenario(node)
            await node.stop()

    virtual.run(main)
