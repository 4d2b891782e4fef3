"""The scheduler's composition root: flags to objects, leader election, the loop, until cancelled.

Started by `kybern scheduler`. Of several only the leader places pods; one that loses the lease ends, and its
supervisor starts it afresh.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
from dataclasses import dataclass

# One small matrix at a time: threads of a linear algebra library would only cost memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import structlog

from kybern.client.clock import RealClock
from kybern.client.informer import Informers
from kybern.client.leader import Election, Elector
from kybern.client.rest import RestClient
from kybern.process.health import Page, serve_page
from kybern.scheduler.profile import DEFAULT_SCHEDULER, default_profile
from kybern.scheduler.run import Scheduler

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of kube-scheduler that have a meaning here. Durations in seconds."""

    kubeconfig: str = ""
    bind_address: str = "127.0.0.1"
    secure_port: int = 10259  # /healthz and /metrics; 0: not served
    leader_elect: bool = True
    leader_elect_lease_duration: float = 15.0
    leader_elect_renew_deadline: float = 10.0
    leader_elect_retry_period: float = 2.0
    leader_elect_resource_name: str = "kube-scheduler"
    leader_elect_resource_namespace: str = "kube-system"
    profiles: tuple[str, ...] = (DEFAULT_SCHEDULER,)  # own: the schedulerNames this scheduler answers to
    seed: int | None = None  # own: of the dice that choose among equal nodes, for tests


async def run(options: Options) -> None:
    """Lead, and schedule. Raises ValueError or OSError for unusable flags, LeadershipLost when that happens."""
    clock = RealClock()
    rng = random.Random(options.seed)
    client = RestClient.from_kubeconfig(options.kubeconfig, clock, user_agent="kube-scheduler/v1.36 (kybern)")
    informers = Informers(client, clock)
    scheduler = Scheduler(client, informers, clock, rng, [default_profile(name) for name in options.profiles])
    election = Election(
        name=options.leader_elect_resource_name,
        namespace=options.leader_elect_resource_namespace,
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        lease_duration=options.leader_elect_lease_duration,
        renew_deadline=options.leader_elect_renew_deadline,
        retry_period=options.leader_elect_retry_period,
    )
    page = Page("kube-scheduler", options=options)
    scheduler.metrics.register(page.registry, scheduler.queue, scheduler.cluster)
    client.metrics.register(page.registry)
    try:
        async with asyncio.TaskGroup() as tasks:
            if options.secure_port:
                # A candidate that waits for the lease is healthy.
                tasks.create_task(serve_page(options.bind_address, options.secure_port, page), name="health")
            if options.leader_elect:
                await Elector(client, clock, rng, election).lead(scheduler.run)
            else:
                await scheduler.run()
    finally:
        client.close()
