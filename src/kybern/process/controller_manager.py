"""The controller manager's composition root: flags to objects, leader election, all controllers, until cancelled.

Started by `kybern controller-manager`. Of several only the leader's controllers run; one that loses the lease ends,
and its supervisor starts it afresh.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import random
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from kybern.client.clock import RealClock
from kybern.client.informer import Informer, Informers
from kybern.client.leader import Election, Elector
from kybern.client.rest import RestClient
from kybern.controllers import registry
from kybern.controllers.runtime import Context, Controller
from kybern.controllers.settings import Settings
from kybern.machinery.clock import Clock
from kybern.process.health import Page, add_queues, serve_page

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of kube-controller-manager that have a meaning here. Durations in seconds; files are PEM."""

    kubeconfig: str = ""
    bind_address: str = "127.0.0.1"
    secure_port: int = 10257  # /healthz and /metrics; 0: not served
    controllers: tuple[str, ...] = ("*",)
    leader_elect: bool = True
    leader_elect_lease_duration: float = 15.0
    leader_elect_renew_deadline: float = 10.0
    leader_elect_retry_period: float = 2.0
    leader_elect_resource_name: str = "kube-controller-manager"
    leader_elect_resource_namespace: str = "kube-system"
    root_ca_file: str = ""
    service_account_private_key_file: str = ""
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    cluster_signing_duration: float = 365 * 24 * 3600.0
    allocate_node_cidrs: bool = True
    cluster_cidr: str = "10.244.0.0/16"
    service_cluster_ip_range: str = "10.96.0.0/12"
    node_cidr_mask_size: int = 24
    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 40.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster_size_threshold: int = 50
    terminated_pod_gc_threshold: int = 12500
    namespace_sync_period: float = 300.0
    resource_quota_sync_period: float = 300.0
    horizontal_pod_autoscaler_sync_period: float = 15.0
    pvclaimbinder_sync_period: float = 15.0
    max_endpoints_per_slice: int = 100
    mirroring_max_endpoints_per_subset: int = 1000


def _read(path: str) -> bytes:
    return Path(path).read_bytes() if path else b""


def settings_of(options: Options) -> Settings:
    """What controllers need of the flags, files read. Raises OSError."""
    return Settings(
        root_ca=_read(options.root_ca_file).decode(),
        service_account_key=_read(options.service_account_private_key_file),
        cluster_signing_cert=_read(options.cluster_signing_cert_file),
        cluster_signing_key=_read(options.cluster_signing_key_file),
        cluster_signing_duration=options.cluster_signing_duration,
        allocate_node_cidrs=options.allocate_node_cidrs,
        cluster_cidr=options.cluster_cidr,
        service_cidr=options.service_cluster_ip_range,
        node_cidr_mask_size=options.node_cidr_mask_size,
        node_monitor_period=options.node_monitor_period,
        node_monitor_grace_period=options.node_monitor_grace_period,
        node_startup_grace_period=options.node_startup_grace_period,
        node_eviction_rate=options.node_eviction_rate,
        secondary_node_eviction_rate=options.secondary_node_eviction_rate,
        unhealthy_zone_threshold=options.unhealthy_zone_threshold,
        large_cluster_size_threshold=options.large_cluster_size_threshold,
        terminated_pod_gc_threshold=options.terminated_pod_gc_threshold,
        namespace_sync_period=options.namespace_sync_period,
        resource_quota_sync_period=options.resource_quota_sync_period,
        horizontal_pod_autoscaler_sync_period=options.horizontal_pod_autoscaler_sync_period,
        pv_claim_binder_sync_period=options.pvclaimbinder_sync_period,
        max_endpoints_per_slice=options.max_endpoints_per_slice,
        mirroring_max_endpoints_per_subset=options.mirroring_max_endpoints_per_subset,
    )


class Manager:
    """All chosen controllers of one leadership."""

    def __init__(self, context: Context, names: list[str]) -> None:
        self._context = context
        self._names = names
        self.controllers: list[Controller] = []

    async def run(self) -> None:
        """Build and run them until cancelled. Each starts when what it reads is there: a resource that is not served
        holds up those that need it, and no others."""
        context = self._context
        waits: list[set[Informer[Any]]] = []
        for name in self._names:
            with context.informers.noting() as asked:
                self.controllers.append(registry.build(name, context))
            waits.append(asked)
        log.info("controllers start", controllers=self._names)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(context.informers.run(), name="informers")
            tasks.create_task(context.run_recorders(), name="recorders")
            for controller, asked in zip(self.controllers, waits, strict=True):
                tasks.create_task(_start(controller, asked), name=controller.name)
            tasks.create_task(_tidy(context.clock), name="memory")


async def _start(controller: Controller, asked: set[Informer[Any]]) -> None:
    for informer in asked:
        await informer.wait_synced()
    log.debug("controller starts", controller=controller.name)
    await controller.run()


async def _tidy(clock: Clock) -> None:
    """Give memory back to the system: what bursts of work took and freed stays with the allocator otherwise."""
    await clock.sleep(10)
    gc.collect()
    gc.freeze()  # what was built at start stays: the collector need not look at it again
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    while trim is not None:
        trim(0)
        await clock.sleep(60)


async def run(options: Options) -> None:
    """Lead, and control. Raises ValueError or OSError for unusable flags, LeadershipLost when that happens."""
    clock = RealClock()
    rng = random.Random()
    names = registry.select(options.controllers)
    client = RestClient.from_kubeconfig(
        options.kubeconfig, clock, user_agent="kube-controller-manager/v1.36 (kybern)", rng=rng
    )
    informers = Informers(client, clock, rng)
    manager = Manager(Context(client, informers, clock, rng, settings_of(options)), names)
    election = Election(
        name=options.leader_elect_resource_name,
        namespace=options.leader_elect_resource_namespace,
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        lease_duration=options.leader_elect_lease_duration,
        renew_deadline=options.leader_elect_renew_deadline,
        retry_period=options.leader_elect_retry_period,
    )
    page = Page("kube-controller-manager", options=options)
    add_queues(
        page.registry, lambda: [(loop.name, loop.queue.metrics()) for c in manager.controllers for loop in c.loops]
    )
    client.metrics.register(page.registry)
    try:
        async with asyncio.TaskGroup() as tasks:
            if options.secure_port:
                # A candidate that waits for the lease is healthy.
                tasks.create_task(serve_page(options.bind_address, options.secure_port, page), name="health")
            if options.leader_elect:
                await Elector(client, clock, rng, election).lead(manager.run)
            else:
                await manager.run()
    finally:
        client.close()
