"""The kubelet: its parts, put together around one runtime and one API server.

Built by process/kubelet. Read from here: sources -> pod_workers -> sync/plan -> sync/apply -> cri, and back by pleg;
status/generate -> status/sender -> API; node/registration beside.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from msgspec import structs

from kybern.api import scalars
from kybern.api.core_v1 import Node, NodeCondition, NodeStatus, Pod, Service
from kybern.api.node_v1 import RuntimeClass
from kybern.client.informer import Informers
from kybern.client.recorder import EventRecorder
from kybern.client.rest import RestClient
from kybern.kubelet import dns, eviction, image_collection, log_rotation, objects, orphans, pleg, podkeys
from kybern.kubelet.admission import Room
from kybern.kubelet.cgroups.hierarchy import Hierarchy
from kybern.kubelet.cgroups.plan import Limits as CgroupLimits
from kybern.kubelet.cgroups.tree import CgroupTree
from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import Cri, CriError
from kybern.kubelet.images import Images
from kybern.kubelet.metrics import Metrics
from kybern.kubelet.node import registration, status
from kybern.kubelet.node.machine import Machine
from kybern.kubelet.pod_worker import Tools
from kybern.kubelet.pod_workers import PodWorkers
from kybern.kubelet.podkeys import PodUid
from kybern.kubelet.sources.files import StaticPods
from kybern.kubelet.sources.mirror import Mirrors
from kybern.kubelet.status.sender import StatusSender
from kybern.kubelet.sync.apply import Applier, Settings
from kybern.kubelet.sync.facts import Inspector
from kybern.kubelet.volumes.contract import NodeView
from kybern.kubelet.volumes.image import ImageVolumes
from kybern.kubelet.volumes.pod_volumes import ApiClaims, PodVolumes
from kybern.kubelet.volumes.tokens import TokenSource
from kybern.machinery import quantity
from kybern.machinery.clock import Clock

RUNTIME_PERIOD = 5.0
UNREADY_PERIOD = 0.5  # while people wait for the node
RUNTIME_PATIENCE = 30.0  # kubelet: the runtime may be silent so long

Part = Callable[[], Coroutine[Any, Any, None]]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What process/kubelet makes of the flags."""

    root: Path
    identity: status.Identity
    reserve: status.Reserve
    cluster: dns.Cluster
    resolv_conf: str = "/etc/resolv.conf"
    log_root: str = "/var/log/pods"
    log_links: str = "/var/log/containers"
    manifest_folder: str = ""
    cgroup_root: str = ""
    pod_pids: int = 0
    seccomp_default: bool = False
    cpu_cfs_quota: bool = True
    allowed_sysctls: tuple[str, ...] = ()
    register: bool = True
    log_limits: log_rotation.Limits = log_rotation.DEFAULT
    eviction: eviction.Thresholds = eviction.DEFAULT
    image_thresholds: image_collection.Thresholds = image_collection.DEFAULT
    node_status_period: float = registration.STATUS_PERIOD


class Kubelet:
    """`run` until cancelled. Pods keep running afterwards."""

    def __init__(
        self,
        config: Configuration,
        machine: Machine,
        cri: Cri,
        client: RestClient,
        hierarchy: Hierarchy,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.config = config
        self.machine = machine
        self.cri = cri
        self._client = client
        self._clock = clock
        self._rng = rng
        name = config.identity.name
        self.recorder = EventRecorder(client, clock, "kubelet", host=name)
        self.metrics = Metrics()
        self._informers = Informers(client, clock, rng)
        self._pods = self._informers.of(Pod, field_selector=f"spec.nodeName={name}")
        self._services = self._informers.of(Service)
        self._runtime_classes = self._informers.of(RuntimeClass)
        self._nodes = self._informers.of(Node, field_selector=f"metadata.name={name}")
        self._allocatable = status.allocatable(machine, config.reserve)
        self._runtime: contract.Version | None = None
        self._runtime_status = contract.RuntimeStatus()
        self._runtime_problem = "container runtime status check may not have completed yet"
        self._images_seen: Sequence[contract.Image] = ()
        self._pod_cidr = ""
        self.cgroups = CgroupTree(hierarchy, config.cgroup_root, config.pod_pids)
        self.tokens = TokenSource(client, clock)
        self.workers = PodWorkers(self._make_tools)
        self.references = objects.ReferencedObjects(client, self._informers, clock, self.workers.refresh)
        self._inspector = Inspector(cri)
        self._images = Images(cri, self.recorder, clock)
        self.volumes = PodVolumes(
            config.root,
            NodeView(
                config_map=self.references.config_map,
                trust_bundles=self.references.trust_bundles,
                secret=self.references.secret,
                tokens=self.tokens,
                node_name=name,
                node_ips=config.identity.addresses,
                allocatable=self._allocatable,
            ),
            ApiClaims(client),
            ImageVolumes(cri, self._images, self.references.secret, lambda: self._runtime),
        )
        self._applier = self._make_applier()
        self._sender = StatusSender(client, clock, self._pods.get, self._pods.observe)
        self._pleg = pleg.Pleg(cri, clock, self.workers.poke, self._on_runtime_list, self.metrics)
        self._registration = registration.Registration(
            client,
            clock,
            config.identity,
            machine,
            self._node_status,
            self._nodes.observe,
            period=config.node_status_period,
        )
        self._static = StaticPods(Path(config.manifest_folder), name, clock, self.workers.update, self.workers.remove)
        self._mirrors = Mirrors(client, clock, lambda: self._static.pods, self._known_mirrors, self.node)
        self._orphans = orphans.OrphanSweep(
            self.volumes, self.cgroups, config.log_root, config.log_links, clock, self._known_uids
        )
        self._collection = image_collection.ImageCollection(cri, clock, config.image_thresholds)
        self._eviction = eviction.Eviction(
            cri,
            clock,
            config.root,
            self._collection,
            self.workers.running,
            self.workers.end,
            self.metrics,
            config.eviction,
        )
        self._sources_ready = asyncio.Event()

    def _make_applier(self) -> Applier:
        config = self.config
        settings = Settings(
            node_name=config.identity.name,
            node_ips=config.identity.addresses,
            log_root=config.log_root,
            log_links=config.log_links,
            cluster=config.cluster,
            resolv_conf=config.resolv_conf,
            seccomp_default=config.seccomp_default,
            cpu_cfs_quota=config.cpu_cfs_quota,
            memory_capacity=self.machine.memory,
        )
        return Applier(
            self.cri,
            self._images,
            self.volumes,
            self.cgroups,
            self.references,
            self.recorder,
            self._clock,
            settings,
            self._services_for,
            self._handler_of,
            lambda: self._allocatable,
            self.metrics,
        )

    def _make_tools(self) -> Tools:
        return Tools(
            applier=self._applier,
            inspector=self._inspector,
            sender=self._sender,
            client=self._client,
            tokens=self.tokens,
            clock=self._clock,
            rng=self._rng,
            node_ips=self.config.identity.addresses,
            runtime=self._runtime.name if self._runtime else "containerd",
            room=self._room,
            on_gone=self.workers.forget,
        )

    # What parts ask.

    def node(self) -> Node | None:
        """The Node object, as last told."""
        return self._nodes.get("", self.config.identity.name) or self._registration.node

    def _room(self, uid: PodUid) -> Room:
        node = self.node()
        return Room(
            node,
            self._allocatable,
            self.workers.occupying(uid),
            self.config.allowed_sysctls,
            self._eviction.pressure(),
        )

    def _services_for(self, namespace: str) -> Sequence[Service]:
        found = self._services.list(namespace)
        if namespace != "default":
            found += [s for s in [self._services.get("default", "kubernetes")] if s is not None]
        return found

    def _handler_of(self, name: str) -> str | None:
        """The runtime handler of a RuntimeClass; None when there is no such class."""
        found = self._runtime_classes.get("", name)
        return None if found is None else found.handler

    def _known_mirrors(self) -> Sequence[Pod]:
        return [pod for pod in self._pods.list() if podkeys.is_mirror(pod)]

    def _known_uids(self) -> set[str] | None:
        """Uids that are somebody's; None while the sources have not told yet."""
        return self.workers.uids() if self._sources_ready.is_set() else None

    def health(self) -> str:
        """What is wrong with the kubelet itself; "" for nothing."""
        return self._pleg.problem()

    # Running.

    async def run(self) -> None:
        await self._wait_runtime()
        async with asyncio.TaskGroup() as tasks:
            await self._start_cgroups()
            rotation = log_rotation.LogRotation(self.cri, self._clock, self.config.log_limits)
            parts: list[tuple[Part, str]] = [
                (self._informers.run, "informers"),
                (self.references.run, "referenced objects"),
                (self.recorder.run, "events"),
                (self.workers.run, "pod workers"),
                (self._sender.run, "statuses"),
                (self._pleg.run, "pleg"),
                (self._watch_runtime, "runtime"),
                (self._run_sources, "pod sources"),
                (self._orphans.run, "orphans"),
                (self._collection.run, "image collection"),
                (self._eviction.run, "eviction"),
                (rotation.run, "log rotation"),
            ]
            if self.config.manifest_folder:
                parts += [(self._static.run, "static pods"), (self._mirrors.run, "mirror pods")]
            if self.config.register:
                parts.append((self._registration.run, "registration"))
            for part, title in parts:
                tasks.create_task(self._keep_going(part, title), name=title)

    async def _keep_going(self, part: Part, title: str) -> None:
        """Supervised: a fault in one part stops neither the others nor that part for long."""
        while True:
            try:
                await part()
                return
            except Exception:
                log.exception("a part of the kubelet failed, and starts again", part=title)
            await self._clock.sleep(1.0)

    async def _wait_runtime(self) -> None:
        while self._runtime is None:
            try:
                self._runtime = await self.cri.version()
                log.info("found the runtime", name=self._runtime.name, version=self._runtime.version)
            except CriError as error:
                log.warning("waiting for the container runtime", error=str(error))
                await self._clock.sleep(1.0)

    async def _start_cgroups(self) -> None:
        limits = CgroupLimits(
            cpu_shares=max(2, self.machine.cpus * 1024),
            memory=quantity.value(status.allocatable(self.machine, self.config.reserve)["memory"]),
        )
        await self.cgroups.start(limits)

    async def _run_sources(self) -> None:
        """Hand the API's pods to the workers once all of them are known."""
        if self.config.manifest_folder:
            await self._static.has_synced.wait()
        await self._services.wait_synced()
        await self._pods.wait_synced()
        self._pods.on_change(self._on_pod)
        self._nodes.on_change(self._on_node)
        self._sources_ready.set()

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self.workers.update(self._received(new))
        elif old is not None:
            self.workers.remove(self._received(old))

    def _received(self, pod: Pod) -> Pod:
        """With the annotations that say where the node has it from."""
        if podkeys.is_mirror(pod):
            return pod
        seen = self.workers.find_worker(pod.metadata.uid)
        at = seen.pod.metadata.annotations.get(labels.SEEN, "") if seen else ""
        annotations = {
            **pod.metadata.annotations,
            labels.SEEN: at or scalars.render_micro_time(self._clock.now()),
            labels.SOURCE: "api",
        }
        return structs.replace(pod, metadata=structs.replace(pod.metadata, annotations=annotations))

    def _on_runtime_list(self, sandboxes: Sequence[contract.Sandbox], containers: Sequence[contract.Container]) -> None:
        self._inspector.forget(c.id for c in containers)
        ready = sum(1 for s in sandboxes if s.state is contract.SandboxState.READY)
        self.metrics.show_running(ready, Counter(c.state.name.lower() for c in containers))
        if self._sources_ready.is_set():
            self.workers.adopt_orphans(sandboxes, containers)

    # The node.

    def _on_node(self, _old: Node | None, new: Node | None) -> None:
        if new is not None and new.spec.podCIDR and new.spec.podCIDR != self._pod_cidr:
            self._pod_cidr = new.spec.podCIDR

    async def _watch_runtime(self) -> None:
        """What the runtime says of itself, for the node's conditions."""
        told_cidr = ""
        answered = float("-inf")
        while True:
            try:
                self._runtime_status = await self.cri.status()
                self._images_seen = await self.cri.list_images()
                problem = self._runtime_status.problem("RuntimeReady")
                network = self._runtime_status.problem("NetworkReady")
                found = f"container runtime is not ready: {problem}" if problem else ""
                if not found and network:
                    found = f"container runtime network not ready: {network}"
                if self._pod_cidr != told_cidr:
                    await self.cri.update_runtime_config(self._pod_cidr)
                    told_cidr = self._pod_cidr
                answered = self._clock.monotonic()
            except CriError as error:
                found = f"container runtime is down: {error}"
                if self._clock.monotonic() - answered < RUNTIME_PATIENCE:
                    found = self._runtime_problem  # it may be restarting, which pods do not notice
            if found != self._runtime_problem:
                self._runtime_problem = found
                self._registration.report_soon()
            await self.cgroups.weigh(self.workers.occupying(PodUid("")))
            await self._clock.sleep(UNREADY_PERIOD if found else RUNTIME_PERIOD)

    async def _node_status(self, old: list[NodeCondition]) -> NodeStatus:
        problems = [p for p in (self._runtime_problem, self._pleg.problem()) if p]
        now = scalars.render_time(self._clock.now())
        health = replace(self._eviction.health(), not_ready=tuple(problems))
        conditions = status.conditions(health, old, now)
        return status.node_status(
            self.config.identity,
            self.machine,
            self.config.reserve,
            self._runtime,
            self._runtime_status,
            self._images_seen,
            conditions,
        )
