"""The DNS server's composition root: flags to objects, one TaskGroup, until cancelled.

Started by `kybern dns`. Answers for the cluster's domain from informers, forwards the rest; with `--register` makes
itself known as Service kube-system/kube-dns.
"""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import REGISTRY

from kybern.api.core_v1 import Namespace, Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.client.clock import RealClock
from kybern.client.informer import Informer, Informers
from kybern.client.rest import RestClient
from kybern.dns import forward
from kybern.dns.answer import Responder
from kybern.dns.forward import Forwarder
from kybern.dns.metrics import Metrics
from kybern.dns.register import Place, Registrar
from kybern.dns.serve import Server
from kybern.dns.zone import Key, Zone
from kybern.machinery.clock import Clock
from kybern.process.health import Page, serve_page

_LOOK_PERIOD = 30.0  # seconds between two looks at resolv.conf

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Flags. One address to listen on: answers must come from where the question went."""

    kubeconfig: str = ""
    bind_address: str = ""  # empty: the address this machine uses towards others
    port: int = 10053
    metrics_port: int = 9153  # /metrics, /readyz; 0: not served
    cluster_domain: str = "cluster.local"
    cluster_dns: str = "10.96.0.10"
    resolv_conf: str = "/etc/resolv.conf"
    ttl: int = 5  # seconds; CoreDNS: 5
    register: bool = False
    hostname_override: str = ""


def own_address() -> str:
    """The address this machine would use towards others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def follow(informers: Informers, zone: Zone) -> None:
    """Let the zone follow the cluster."""

    def namespace_changed(old: Namespace | None, new: Namespace | None) -> None:
        obj = new or old
        if obj is not None:
            zone.set_namespace(obj.metadata.name or "", new is not None)

    def service_changed(old: Service | None, new: Service | None) -> None:
        obj = new or old
        if obj is not None:
            zone.set_service(Key(obj.metadata.namespace or "", obj.metadata.name or ""), new)

    def slice_changed(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        obj = new or old
        if obj is not None:
            zone.set_slice(obj.metadata.namespace or "", obj.metadata.name or "", new)

    informers.of(Namespace).on_change(namespace_changed)
    informers.of(Service).on_change(service_changed)
    informers.of(EndpointSlice).on_change(slice_changed)


async def keep_upstreams(path: Path, own: tuple[str, ...], forwarder: Forwarder, clock: Clock) -> None:
    """Follow resolv.conf, and find out who forwards to us."""
    seen = ""
    while True:
        try:
            text = await asyncio.to_thread(path.read_text)
        except (OSError, UnicodeDecodeError) as error:
            log.warning("could not read the resolvers", file=str(path), error=str(error))
            text = seen
        if text != seen:
            seen = text
            forwarder.use(forward.parse_resolv_conf(text, own))
            await forwarder.probe()
        await clock.sleep(_LOOK_PERIOD)


async def run(options: Options) -> None:
    """Serve until cancelled."""
    clock, rng = RealClock(), random.SystemRandom()
    address = options.bind_address or own_address()
    zone = Zone(options.cluster_domain, options.cluster_dns)
    zone.is_complete = False
    forwarder = Forwarder(clock, rng)
    metrics = Metrics(REGISTRY)
    client = RestClient.from_kubeconfig(options.kubeconfig, clock, user_agent="kybern-dns")
    informers = Informers(client, clock)
    follow(informers, zone)
    sources: list[Informer[Any]] = [informers.of(Namespace), informers.of(Service), informers.of(EndpointSlice)]

    def checks() -> dict[str, str]:
        return {"kubernetes": "" if all(s.has_synced for s in sources) else "not all objects are known yet"}

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informers.run(), name="informers")
            if options.metrics_port:
                page = Page("kybern-dns", checks, options=options)
                client.metrics.register(page.registry)
                tasks.create_task(serve_page(address, options.metrics_port, page), name="health")
            server = Server(Responder(zone, forwarder, rng, metrics, ttl=options.ttl), tasks, metrics)
            await server.start(address, options.port)
            try:
                own = (address, options.cluster_dns)
                upstreams = keep_upstreams(Path(options.resolv_conf), own, forwarder, clock)
                tasks.create_task(upstreams, name="upstream resolvers")
                # Other names are answered already; the cluster's get "try again" until all are known.
                for source in sources:
                    await source.wait_synced()
                zone.is_complete = True
                log.info("answering", address=address, port=server.port, domain=options.cluster_domain)
                if options.register:
                    node = options.hostname_override.strip().lower() or socket.gethostname().lower()
                    place = Place(node, address, server.port, options.metrics_port, options.cluster_dns)
                    tasks.create_task(Registrar(client, clock, place).run(), name="register")
                await asyncio.Event().wait()
            finally:
                server.close()
    finally:
        client.close()
