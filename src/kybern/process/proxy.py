"""The proxy's composition root: flags to objects, one TaskGroup, until cancelled.

Started by `kybern proxy`, one a node, in the node's network namespace. `--cleanup` takes its rules away instead.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from kybern.api.core_v1 import Node, Service
from kybern.api.discovery_v1 import EndpointSlice
from kybern.api.networking_v1 import ServiceCIDR
from kybern.client.clock import RealClock
from kybern.client.informer import Informer, Informers
from kybern.client.rest import RestClient
from kybern.proxy import endpoints, plan, routes, status
from kybern.proxy.conntrack import Conntrack
from kybern.proxy.health_check import HealthChecks
from kybern.proxy.metrics import Metrics
from kybern.proxy.nft import table, transaction
from kybern.proxy.nft.run import NftCommand
from kybern.proxy.sync import Periods, ProxySync, Sinks
from kybern.wire.http1.server import serve
from kybern.wire.message import Request

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of kube-proxy that have a meaning here. Durations in seconds."""

    kubeconfig: str = ""
    hostname_override: str = ""
    cluster_cidr: str = ""  # CIDRs of pods, comma-separated; what comes from elsewhere is masqueraded
    nodeport_addresses: str = ""  # CIDRs, comma-separated, or "primary"; empty: all addresses but loopback
    masquerade_all: bool = False
    iptables_masquerade_bit: int = 14
    nftables_min_sync_period: float = 0.1
    nftables_sync_period: float = 30.0
    healthz_bind_address: str = "0.0.0.0"
    healthz_port: int = 10256  # 0: not served
    metrics_bind_address: str = "127.0.0.1"
    metrics_port: int = 10249  # 0: not served
    node_routes: bool = True  # own: set routes to other nodes' pods
    cleanup: bool = False


def node_name(hostname_override: str) -> str:
    """The name this node has in the API."""
    return hostname_override.strip().lower() or socket.gethostname().lower()


def _networks(text: str) -> tuple[str, ...]:
    """The IPv4 CIDRs of a comma-separated list. Raises ValueError."""
    networks = [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]
    return tuple(str(n) for n in ipaddress.collapse_addresses(n for n in networks if n.version == 4))


def view_of(node: Node | None, name: str, cluster_networks: tuple[str, ...]) -> plan.View:
    """What the plan needs to know of the node."""
    addresses: Iterable[str] = (a.address for a in node.status.addresses) if node else ()
    zone = node.metadata.labels.get(endpoints.ZONE_LABEL, "") if node else ""
    ips = frozenset(a for a in addresses if endpoints.is_ipv4(a))
    return plan.View(endpoints.Node(name, ips, zone), cluster_networks)


def _node_port_networks(text: str, view: plan.View) -> tuple[str, ...]:
    if text.strip() == "primary":
        return tuple(f"{ip}/32" for ip in sorted(view.node.ips))
    return _networks(text)


def allow_forwarding() -> None:
    """Packets of pods pass through the host; a read-only /proc/sys (a container) is left as it is."""
    path = Path("/proc/sys/net/ipv4/ip_forward")
    try:
        if path.read_text().strip() != "1":
            path.write_text("1")
    except OSError as error:
        log.warning("could not switch on IP forwarding", error=str(error))


async def clean_up() -> None:
    """Take away all that the proxy has put into the kernel."""
    await NftCommand().apply(transaction.render_cleanup())
    await routes.RouteTable().apply({})


async def run(options: Options) -> None:
    """Serve until cancelled; with `cleanup`, take everything away and return. Rules stay when the proxy ends."""
    if options.cleanup:
        await clean_up()
        return
    clock = RealClock()
    name = node_name(options.hostname_override)
    cluster_networks = _networks(options.cluster_cidr)
    client = RestClient.from_kubeconfig(options.kubeconfig, clock, user_agent="kube-proxy/v1.36 (kybern)")
    informers = Informers(client, clock)
    nodes = informers.of(Node, field_selector="" if options.node_routes else f"metadata.name={name}")
    services, slices = informers.of(Service), informers.of(EndpointSlice)
    registry = CollectorRegistry()
    await asyncio.to_thread(allow_forwarding)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informers.run(), name="informers")
            await nodes.wait_synced()
            view = view_of(nodes.get("", name), name, cluster_networks)
            while options.nodeport_addresses.strip() == "primary" and not view.node.ips:
                log.info("waiting for the node's addresses", node=name)
                await clock.sleep(1.0)
                view = view_of(nodes.get("", name), name, cluster_networks)
            settings = table.Settings(
                cluster_networks=cluster_networks,
                node_port_networks=_node_port_networks(options.nodeport_addresses, view),
                masquerade_bit=options.iptables_masquerade_bit,
                masquerade_all=options.masquerade_all,
            )
            health_checks = HealthChecks(clock)
            sync = ProxySync(
                services,
                slices,
                view,
                settings,
                Sinks(NftCommand(), Conntrack(), health_checks),
                clock,
                Metrics(registry),
                Periods(options.nftables_min_sync_period, options.nftables_sync_period),
            )

            def node_changed(old: Node | None, new: Node | None) -> None:
                node = new or old
                if node is not None and node.metadata.name == name:
                    sync.look_from(view_of(new, name, cluster_networks))

            def networks_changed(_old: ServiceCIDR | None, _new: ServiceCIDR | None) -> None:
                sync.use_service_networks(tuple(sorted(c for n in networks.list() for c in n.spec.cidrs)))

            nodes.on_change(node_changed)
            # Nobody waits for these: a server that does not have them is a server without them.
            networks = informers.of(ServiceCIDR)
            networks.on_change(networks_changed)
            tasks.create_task(health_checks.run(sync.is_healthy), name="health checks")
            tasks.create_task(sync.run(), name="proxy sync")
            if options.node_routes:
                keeper = routes.RouteKeeper(nodes, name, routes.RouteTable(), clock)
                tasks.create_task(keeper.run(), name="node routes")
            await _serve_status(options, tasks, sync, nodes, name, registry)
            log.info("proxying", node=name, mode="nftables")
    finally:
        client.close()


async def _serve_status(
    options: Options,
    tasks: asyncio.TaskGroup,
    sync: ProxySync,
    nodes: Informer[Node],
    name: str,
    registry: CollectorRegistry,
) -> None:
    clock = RealClock()
    if options.healthz_port:
        await serve(
            status.health_application(clock, sync.is_healthy, lambda: nodes.get("", name)),
            request_type=Request,
            tasks=tasks,
            clock=clock,
            host=options.healthz_bind_address,
            port=options.healthz_port,
        )
    if options.metrics_port:
        await serve(
            status.metrics_application(registry, "nftables"),
            request_type=Request,
            tasks=tasks,
            clock=clock,
            host=options.metrics_bind_address,
            port=options.metrics_port,
        )
