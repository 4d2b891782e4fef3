"""Which endpoints may serve a service port, as this node sees them.

Fed by plan.py with the EndpointSlices of one Service. Pure. Promises an order that depends only on what the
endpoints are, so that equal endpoints plan equal rules.
Source: EndpointSlice conditions and hints in the API reference; "Virtual IPs and Service Proxies",
"Traffic policies" in the Kubernetes documentation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kybern.api.discovery_v1 import Endpoint, EndpointPort, EndpointSlice

ZONE_LABEL = "topology.kubernetes.io/zone"


class Target(NamedTuple):
    """Where a connection may be sent."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Node:
    """What the proxy knows of the node it runs on."""

    name: str
    ips: frozenset[str] = frozenset()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint behind one service port."""

    target: Target
    is_ready: bool
    is_draining: bool  # terminating, but still able to serve
    is_local: bool  # on this node
    zones: tuple[str, ...] = ()  # which zones should use it; empty: no hint
    nodes: tuple[str, ...] = ()  # which nodes should use it; empty: no hint


@dataclass(frozen=True, slots=True)
class Usable:
    """What new connections may be sent to."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    local_ready: frozenset[str]  # addresses of ready endpoints on this node: what load balancers ask for
    here: frozenset[str]  # addresses of all endpoints on this node
    exists_elsewhere: bool  # some endpoint of the cluster could serve, on whatever node


def collect(port_name: str, protocol: str, slices: Iterable[EndpointSlice], node: Node) -> list[Candidate]:
    """The endpoints of all slices that carry the port, each address and port once, in order of address."""
    found: dict[Target, Candidate] = {}
    for piece in slices:
        if piece.addressType != "IPv4":
            continue
        for number in _ports(piece.ports, port_name, protocol):
            for endpoint in piece.endpoints:
                candidate = _candidate(endpoint, number, node)
                if candidate is None:
                    continue
                known = found.get(candidate.target)
                # One address may be in two slices while the controller moves it: the better news counts.
                if known is None or (candidate.is_ready and not known.is_ready):
                    found[candidate.target] = candidate
    return [found[target] for target in sorted(found)]


def _ports(ports: Iterable[EndpointPort], name: str, protocol: str) -> Iterable[int]:
    for port in ports:
        if (port.name or "") == name and (port.protocol or "TCP") == protocol and 0 < (port.port or 0) < 65536:
            yield port.port or 0


def _candidate(endpoint: Endpoint, port: int, node: Node) -> Candidate | None:
    # All addresses of an endpoint are the same place: the API says that consumers use the first.
    address = endpoint.addresses[0] if endpoint.addresses else ""
    if not is_ipv4(address):
        return None
    conditions = endpoint.conditions
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    hints = endpoint.hints
    return Candidate(
        target=Target(address, port),
        is_ready=ready,
        is_draining=serving and conditions.terminating is True,
        is_local=bool(node.name) and endpoint.nodeName == node.name,
        zones=tuple(z.name for z in hints.forZones) if hints else (),
        nodes=tuple(n.name for n in hints.forNodes) if hints else (),
    )


def choose(candidates: list[Candidate], node: Node) -> Usable:
    """Ready endpoints; where there is none, those that drain; of these, the near ones if all carry hints."""
    ready = [c for c in candidates if c.is_ready]
    cluster = ready or [c for c in candidates if c.is_draining]
    local_ready = [c for c in ready if c.is_local]
    local = local_ready or [c for c in candidates if c.is_draining and c.is_local]
    near = _near(ready, node) if ready else cluster
    return Usable(
        cluster=tuple(c.target for c in near),
        local=tuple(c.target for c in local),
        local_ready=frozenset(c.target.ip for c in local_ready),
        here=frozenset(c.target.ip for c in candidates if c.is_local),
        exists_elsewhere=bool(cluster),
    )


def _near(ready: list[Candidate], node: Node) -> list[Candidate]:
    # A hint missing on one endpoint means that the controller is still at work: then none counts.
    if all(c.nodes for c in ready):
        here = [c for c in ready if node.name in c.nodes]
        if here:
            return here
    if node.zone and all(c.zones for c in ready):
        here = [c for c in ready if node.zone in c.zones]
        if here:
            return here
    return ready


def is_ipv4(text: str) -> bool:
    """Whether `text` is one IPv4 address, as the API writes it."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
