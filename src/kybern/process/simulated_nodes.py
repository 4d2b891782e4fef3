"""The simulated nodes' composition root: flags to objects, all nodes of a fleet, and the pods to fill them.

Started by `kybern simulated-nodes`, against any API server. With the cluster's signing key each node shows a
certificate of its own; without it they act through impersonation, for which the kubeconfig's user needs the right.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import structlog

from kybern.client import kubeconfig
from kybern.client.clock import RealClock
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.pki import certificates
from kybern.process.health import Page, serve_page
from kybern.simulated import identity, workload
from kybern.simulated.fleet import Fleet, Manners
from kybern.simulated.life import Habits
from kybern.simulated.shape import Shape

IMPERSONATING = 64  # connections of all nodes together

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """All of our own. Durations in seconds; files are PEM."""

    kubeconfig: str = ""
    bind_address: str = "127.0.0.1"
    secure_port: int = 10252  # /healthz and /metrics; 0: not served
    nodes: int = 10
    pods_per_node: int = 0  # in Deployments made here; 0: none are made
    pods_per_second: float = 0.0  # asked for at most so many; 0: as fast as it goes
    node_prefix: str = "simulated-"
    zones: int = 3
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    watch_per_node: bool = True
    events: bool = True
    start_delay: float = 0.5
    stop_delay: float = 0.2
    run_time: float = 1.0


async def run(options: Options) -> None:
    """Until cancelled. Raises ValueError or OSError for unusable flags."""
    clock = RealClock()
    access = kubeconfig.load(options.kubeconfig)
    shared = RestClient(access, clock, user_agent=identity.AGENT)
    shape = Shape(options.nodes, options.node_prefix, options.zones)
    manners = Manners(
        Habits(options.start_delay, options.stop_delay, options.run_time),
        watches=options.watch_per_node,
        events=options.events,
    )
    fleet = Fleet(shape, client_of(options, access, clock), shared, clock, random.Random(), manners)
    page = Page("simulated-nodes", registry=fleet.metrics.registry, options=options)
    try:
        async with asyncio.TaskGroup() as tasks:
            if options.secure_port:
                tasks.create_task(serve_page(options.bind_address, options.secure_port, page), name="health")
            tasks.create_task(fleet.run(), name="fleet")
            if options.pods_per_node:
                await fleet.wait_registered()
                groups = workload.plan_workload(options.nodes, options.pods_per_node)
                await workload.apply_workload(shared, clock, groups, pods_per_second=options.pods_per_second)
                log.info("asked for all pods", groups=len(groups), pods=sum(group.pods for group in groups))
    finally:
        shared.close()


def client_of(options: Options, access: kubeconfig.Access, clock: Clock) -> identity.ClientOf:
    """How each node gets to the API server."""
    if not options.cluster_signing_key_file:
        return identity.by_impersonation(access, clock, IMPERSONATING)
    ca = certificates.parse_pair(
        Path(options.cluster_signing_cert_file).read_bytes(), Path(options.cluster_signing_key_file).read_bytes()
    )
    key = certificates.generate_key()  # of all nodes: making thousands would prove nothing

    def certificate_of(node: str) -> tuple[bytes, bytes]:
        profile = certificates.Profile(identity.user_of(node), (identity.GROUP,), client=True)
        made = certificates.issue(profile, ca, clock.now(), key)
        return made.certificate_pem, made.key_pem

    return identity.by_certificate(access, certificate_of, clock)
