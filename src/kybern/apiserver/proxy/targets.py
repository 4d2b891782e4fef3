"""Where a proxied request goes: names like `https:web:443` to an address. Pure; used by routes and pods.

Never to addresses of this machine or link: those would reach what was never meant to be reached from outside.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from kybern.api.core_v1 import EndpointAddress, Endpoints, Node, Pod, Service
from kybern.machinery.status import ApiError

KUBELET_PORT = 10250
# The first of these that a node has is dialled.
_ADDRESS_TYPES = ("InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS", "Hostname")


@dataclass(frozen=True, slots=True)
class Target:
    """An address to connect to."""

    scheme: str  # http, https
    host: str
    port: int
    is_kubelet: bool = False  # shown the API server's own certificate

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyName:
    """`[scheme:]name[:port]`."""

    scheme: str
    name: str
    port: str
    text: str = field(default="", compare=False)  # as it was sent


def parse_name(text: str, kind: str) -> ProxyName:
    """Raises ApiError (400)."""
    parts = text.split(":")
    scheme, port = "", ""
    if len(parts) == 1:
        name = text
    elif len(parts) == 2:
        name, port = parts
    elif len(parts) == 3:
        scheme, name, port = parts
    else:
        name = ""
    if not name or scheme not in ("", "http", "https"):
        raise ApiError.bad_request(f'invalid {kind} request "{text}"')
    return ProxyName(scheme, name, port, text)


def _port_number(text: str, kind: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ApiError.bad_request(f'invalid port "{text}" in {kind} request "{name}"')
    return int(text)


def check_address(host: str) -> None:
    """Only global unicast addresses may be reached through the API. Raises ApiError (400). Names are not resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host.rstrip(".").lower() in ("localhost", ""):
            raise ApiError.bad_request("address not allowed") from None
        return
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    is_broadcast = str(address) == "255.255.255.255"
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or is_broadcast:
        raise ApiError.bad_request("address not allowed")


def pod_target(pod: Pod, asked: ProxyName) -> Target:
    """A port of a pod; the first one it declares, else that of the scheme. Raises ApiError (400)."""
    name = pod.metadata.name or ""
    host = pod.status.podIP or ""
    if not host:
        raise ApiError.bad_request("address not allowed")
    check_address(host)
    if asked.port:
        port = _port_number(asked.port, "pod", name)
    else:
        declared = [p.containerPort for c in pod.spec.containers for p in c.ports]
        port = declared[0] if declared else (443 if asked.scheme == "https" else 80)
    return Target(asked.scheme or "http", host, port)


def service_target(
    service: Service | None,
    endpoints: Endpoints | None,
    asked: ProxyName,
    pod_of: Callable[[str], Pod | None],
    rng: random.Random,
) -> Target:
    """A ready endpoint behind a port of a service, by chance: a pod of that name, at one of that pod's addresses.

    Raises ApiError (400, 404, 503).
    """
    port = asked.port
    if port.isascii() and port.isdigit():
        if service is None:
            raise ApiError.not_found("", "services", asked.name)
        known = next((p for p in service.spec.ports if str(p.port) == port), None)
        if known is None:
            raise ApiError.unavailable(f'no service port {port} found for service "{asked.name}"')
        port = known.name or ""
    if endpoints is None:
        raise ApiError.not_found("", "services", asked.name)
    if not endpoints.subsets:
        raise ApiError.unavailable(f'no endpoints available for service "{asked.name}"')
    found = [
        (address.ip, each.port)
        for subset in endpoints.subsets
        for each in subset.ports
        if (each.name or "") == port
        for address in subset.addresses
        if _is_of_pod(address, endpoints.metadata.namespace or "", pod_of)
    ]
    if not found:
        raise ApiError.unavailable(f'no endpoints available for service "{asked.text}"')
    host, number = found[rng.randrange(len(found))]
    check_address(host)
    return Target(asked.scheme or "http", host, number)


def _is_of_pod(address: EndpointAddress, namespace: str, pod_of: Callable[[str], Pod | None]) -> bool:
    """Endpoints can be written by people: what is no pod's address must not be reached through this server."""
    to = address.targetRef
    if to is None or to.namespace != namespace:
        return False
    pod = pod_of(to.name or "")
    return pod is not None and any(ip.ip == address.ip for ip in pod.status.podIPs)


def kubelet_target(node: Node) -> Target:
    """A node's kubelet. Raises ApiError (500) when the node has no address."""
    addresses = {a.type: a.address for a in reversed(node.status.addresses)}
    host = next((addresses[kind] for kind in _ADDRESS_TYPES if addresses.get(kind)), None)
    if host is None:
        known = " ".join(f"{{{a.type} {a.address}}}" for a in node.status.addresses)
        raise ApiError.failed(f"no preferred addresses found; known addresses: [{known}]")
    endpoints = node.status.daemonEndpoints
    kubelet = endpoints.kubeletEndpoint if endpoints is not None else None
    port = kubelet.Port if kubelet is not None and kubelet.Port else KUBELET_PORT
    return Target("https", host, port, is_kubelet=True)


def node_target(node: Node, asked: ProxyName) -> Target:
    """A port of a node: its kubelet unless another one is asked for. Raises ApiError (400)."""
    kubelet = kubelet_target(node)
    check_address(kubelet.host)
    if not asked.port or asked.port == str(kubelet.port):
        return kubelet
    port = _port_number(asked.port, "node", node.metadata.name or "")
    return Target(asked.scheme or "http", kubelet.host, port)
