"""What the kernel should hold for one Service: decided from the Service, its EndpointSlices and the node.

Fed by sync.py for each Service that changed; the plan goes to ruleset.py. Pure, total on whatever the API server
lets pass, and equal for equal input.

Most Services are elements of maps and nothing else: an address and port leads to a chain that all Services with as many
endpoints share, and that looks the endpoint up (docs/decisions/0010):
    balance/<protocol>/<count>   masq/<protocol>/<count>: the same, masqueraded   node/...: for node ports
Where more is to be decided a Service has chains of its own, named by namespace, service, protocol and port:
    svc/  all endpoints it may use          loc/  only those on this node (externalTrafficPolicy Local)
    ext/  entry for what came from outside  fw/   fence of loadBalancerSourceRanges (before any translation)
    ep/   one endpoint, with session affinity only
Source: "Virtual IPs and Service Proxies" in the Kubernetes documentation; KEP-3866 (nftables mode).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kybern.api.core_v1 import Service, ServicePort
from kybern.api.discovery_v1 import EndpointSlice
from kybern.proxy import endpoints
from kybern.proxy.endpoints import Node, Target, Usable
from kybern.proxy.ruleset import (
    NOTHING,
    Balance,
    BalanceChains,
    Container,
    Draw,
    DropUnlessFrom,
    Forward,
    FromNetworks,
    FromNode,
    Frontend,
    Goto,
    GotoIfRemembered,
    HealthCheck,
    MarkForMasquerade,
    Remember,
    Rule,
    ServiceName,
    ServicePlan,
    Slot,
    Value,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"  # another proxy looks after the Service
HEADLESS_LABEL = "service.kubernetes.io/headless"
AFFINITY_SECONDS = 10800  # API default of sessionAffinityConfig.clientIP.timeoutSeconds
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_NAME = re.compile(r"[A-Za-z0-9/_.-]{1,240}", re.ASCII)  # what nft takes bare; the kernel's limit is 255

_ENDPOINTS = {p: Container(f"endpoints-{p}") for p in _PROTOCOLS.values()}
_NODE_PORT_ENDPOINTS = {p: Container(f"nodeport-endpoints-{p}") for p in _PROTOCOLS.values()}

SERVICE_NETWORKS = ServiceName("", "")  # as which their plan is kept among those of Services

REJECT = "goto reject-chain"
DROP = "drop"


@dataclass(frozen=True, slots=True)
class View:
    """Where the plan is made for."""

    node: Node
    cluster_networks: tuple[str, ...] = ()  # CIDRs of pods; empty: sources cannot be told apart


def service_name(service: Service) -> ServiceName:
    return ServiceName(service.metadata.namespace or "", service.metadata.name or "")


def slice_owner(piece: EndpointSlice) -> ServiceName | None:
    """The Service a slice belongs to, if any."""
    name = piece.metadata.labels.get(SERVICE_NAME_LABEL, "")
    if not name or HEADLESS_LABEL in piece.metadata.labels:
        return None
    return ServiceName(piece.metadata.namespace or "", name)


def is_proxied(service: Service) -> bool:
    """Whether the Service has a virtual address that is ours to serve."""
    labels = service.metadata.labels
    if PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels or service.spec.type == "ExternalName":
        return False
    return service.spec.clusterIP not in (None, "", "None")


def plan_service(service: Service, slices: Iterable[EndpointSlice], view: View) -> ServicePlan:
    """The whole plan of one Service; the empty plan if it is not proxied."""
    if not is_proxied(service):
        return NOTHING
    draft = _Draft(service, view)
    pieces = list(slices)
    for port in service.spec.ports:
        protocol = port.protocol or "TCP"
        if protocol in _PROTOCOLS and 0 < port.port < 65536:
            candidates = endpoints.collect(port.name or "", protocol, pieces, view.node)
            draft.add_port(port, endpoints.choose(candidates, view.node))
    return draft.finish()


def plan_service_networks(cidrs: Iterable[str], view: View) -> ServicePlan:
    """What the cluster's ServiceCIDRs ask for: packets to addresses that no Service has go nowhere.

    A network that holds pods or this node as well is left out: one wrong object must not cut off everything.
    """
    taken = [ipaddress.IPv4Network(n) for n in (*view.cluster_networks, *view.node.ips)]
    kept = [n for n in _networks(cidrs) if not any(ipaddress.IPv4Network(n).overlaps(t) for t in taken)]
    return ServicePlan(elements={Slot(Container.SERVICE_NETWORKS, (n,)): "" for n in kept})


def _ipv4(addresses: Iterable[str | None]) -> list[str]:
    return sorted({a for a in addresses if a and endpoints.is_ipv4(a)})


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    """IPv4 CIDRs without overlap: nft refuses intervals that overlap."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.IPv4Network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(str(n) for n in ipaddress.collapse_addresses(found))


def chain_name(kind: str, *parts: str) -> str:
    """A chain's or set's name that people can read; hashed where nft or the kernel could not take it."""
    name = "/".join((kind, *parts))
    if _NAME.fullmatch(name):
        return name
    return f"{kind}/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


@dataclass
class _Draft:
    """A plan in the making, port by port."""

    service: Service
    view: View
    elements: dict[Slot, Value] = field(default_factory=dict)
    chains: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    shared_chains: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    memories: set[str] = field(default_factory=set)
    udp: dict[Frontend, frozenset[Target]] = field(default_factory=dict)
    local_ready: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        spec = self.service.spec
        self.name = service_name(self.service)
        self.cluster_ips = _ipv4([*spec.clusterIPs, spec.clusterIP])
        self.balancer_ips = (
            _ipv4(i.ip for i in self.service.status.loadBalancer.ingress if i.ipMode != "Proxy")
            if spec.type == "LoadBalancer"
            else []
        )
        self.external_ips = [ip for ip in _ipv4(spec.externalIPs) if ip not in self.balancer_ips]
        self.is_internal_local = spec.internalTrafficPolicy == "Local"
        self.is_external_local = spec.externalTrafficPolicy == "Local"
        self.has_affinity = spec.sessionAffinity == "ClientIP"

    def add_port(self, port: ServicePort, usable: Usable) -> None:
        protocol = _PROTOCOLS[port.protocol or "TCP"]
        self.local_ready |= usable.local_ready
        # A pod that reaches itself must see another source than itself, or it would drop its own packet.
        for ip in usable.here - self.view.node.ips:
            self.elements[Slot(Container.HAIRPIN, (ip, ip))] = ""
        self._add_internal(port, protocol, usable)
        if self.external_ips or self.balancer_ips or self._node_port(port):
            self._add_external(port, protocol, usable)

    def finish(self) -> ServicePlan:
        for ip in self.cluster_ips:
            self.elements[Slot(Container.CLUSTER_IPS, (ip,))] = ""
        check = self.service.spec.healthCheckNodePort or 0
        return ServicePlan(
            elements=self.elements,
            chains=self.chains,
            shared_chains=self.shared_chains,
            memories=frozenset(self.memories),
            udp=self.udp,
            health_check=HealthCheck(check, len(self.local_ready))
            if 0 < check < 65536 and self.is_external_local
            else None,
        )

    def _add_internal(self, port: ServicePort, protocol: str, usable: Usable) -> None:
        kind, targets = ("loc", usable.local) if self.is_internal_local else ("svc", usable.cluster)
        for ip in self.cluster_ips:
            key = (ip, protocol, str(port.port))
            if not targets:
                # Endpoints elsewhere mean "not from here", none at all means "nobody listens".
                self.elements[Slot(Container.NO_ENDPOINTS, key)] = DROP if usable.exists_elsewhere else REJECT
            elif self.has_affinity:
                chain = self._balancing_chain(kind, port, protocol, targets)
                self.elements[Slot(Container.SERVICE_IPS, key)] = f"goto {chain}"
            else:
                self._add_drawn(ip, port.port, protocol, targets, is_masqueraded=False)
            if protocol == "udp":
                self.udp[Frontend(ip, port.port)] = frozenset(targets)

    def _add_external(self, port: ServicePort, protocol: str, usable: Usable) -> None:
        targets = usable.local if self.is_external_local else usable.cluster
        node_port = self._node_port(port)
        ips = [*self.external_ips, *self.balancer_ips]
        if (usable.cluster or usable.local) and (self.is_external_local or self.has_affinity):
            entry = f"goto {self._external_chain(port, protocol, usable)}"
            for ip in ips:
                self.elements[Slot(Container.SERVICE_IPS, (ip, protocol, str(port.port)))] = entry
            if node_port:
                self.elements[Slot(Container.NODE_PORTS, (protocol, str(node_port)))] = entry
        elif targets:
            for ip in ips:
                self._add_drawn(ip, port.port, protocol, targets, is_masqueraded=True)
            if node_port:
                self._add_drawn("", node_port, protocol, targets, is_masqueraded=True)
        if not targets:
            verdict = DROP if usable.exists_elsewhere else REJECT
            for ip in ips:
                self.elements[Slot(Container.NO_ENDPOINTS, (ip, protocol, str(port.port)))] = verdict
            if node_port:
                self.elements[Slot(Container.NO_ENDPOINT_NODE_PORTS, (protocol, str(node_port)))] = verdict
        if protocol == "udp":
            allowed = frozenset(usable.cluster + usable.local)
            self.udp.update({Frontend(ip, port.port): allowed for ip in ips})
            if node_port:
                self.udp[Frontend("", node_port)] = allowed
        self._add_fence(port, protocol)

    def _add_drawn(
        self, ip: str, number: int, protocol: str, targets: tuple[Target, ...], *, is_masqueraded: bool
    ) -> None:
        """An address and port (`ip` "": a node port) whose endpoints are elements of the shared maps."""
        where = (ip, str(number)) if ip else (str(number),)
        endpoints_map = (_ENDPOINTS if ip else _NODE_PORT_ENDPOINTS)[protocol]
        for index, target in enumerate(targets):
            self.elements[Slot(endpoints_map, (*where, str(index)))] = f"{target.ip} . {target.port}"
        count = len(targets)
        # A packet on its way while a change is made may draw by the count of before, and miss. The last rule of
        # the chain finds the first endpoint; else the packet would leave untranslated, and be refused.
        drawing = (Draw(protocol, count, not ip), Draw(protocol, 1, not ip))[: 1 if count == 1 else 2]
        if not ip:
            chain = f"node/{protocol}/{count}"
            self.shared_chains[chain] = (MarkForMasquerade(), *drawing)
            self.elements[Slot(Container.NODE_PORTS, (protocol, str(number)))] = f"goto {chain}"
            return
        chain = f"{'masq' if is_masqueraded else 'balance'}/{protocol}/{count}"
        self.shared_chains[chain] = (MarkForMasquerade(), *drawing) if is_masqueraded else drawing
        self.elements[Slot(Container.SERVICE_IPS, (ip, protocol, str(number)))] = f"goto {chain}"

    def _external_chain(self, port: ServicePort, protocol: str, usable: Usable) -> str:
        chain = self._chain("ext", port, protocol)
        if not self.is_external_local:
            # The client's address is given up, so that replies come back here from whichever node.
            entry = self._balancing_chain("svc", port, protocol, usable.cluster)
            self.chains[chain] = (MarkForMasquerade(), Goto(entry))
            return chain
        rules: list[Rule] = []
        if usable.cluster:
            entry = self._balancing_chain("svc", port, protocol, usable.cluster)
            # Pods and processes of the node are inside already: every endpoint is as good to them.
            if self.view.cluster_networks:
                rules.append(FromNetworks(self.view.cluster_networks, Goto(entry)))
            rules += [FromNode(MarkForMasquerade()), FromNode(Goto(entry))]
        if usable.local:
            rules.append(Goto(self._balancing_chain("loc", port, protocol, usable.local)))
        self.chains[chain] = tuple(rules)
        return chain

    def _add_fence(self, port: ServicePort, protocol: str) -> None:
        ranges = self.service.spec.loadBalancerSourceRanges
        if not ranges or not self.balancer_ips:
            return
        # A node that holds the address itself reaches the Service from it.
        allowed = _networks([*ranges, *self.balancer_ips])
        if "0.0.0.0/0" in allowed:
            return
        chain = self._chain("fw", port, protocol)
        self.chains[chain] = (DropUnlessFrom(allowed),)
        for ip in self.balancer_ips:
            self.elements[Slot(Container.FIREWALL, (ip, protocol, str(port.port)))] = f"goto {chain}"

    def _balancing_chain(self, kind: str, port: ServicePort, protocol: str, targets: tuple[Target, ...]) -> str:
        chain = self._chain(kind, port, protocol)
        if chain in self.chains:
            return chain
        # As in _add_drawn: the last rule, which needs no map, catches who missed.
        if not self.has_affinity:
            last = Forward(protocol, targets[0])
            self.chains[chain] = (Balance(protocol, targets), last) if len(targets) > 1 else (last,)
            return chain
        entries = [self._endpoint_chain(port, protocol, target) for target in targets]
        known = tuple(GotoIfRemembered(memory, entry) for memory, entry in entries)
        choice = (BalanceChains(tuple(entry for _, entry in entries)),) if len(entries) > 1 else ()
        self.chains[chain] = (*known, *choice, Goto(entries[0][1]))
        return chain

    def _endpoint_chain(self, port: ServicePort, protocol: str, target: Target) -> tuple[str, str]:
        """The set of clients and the chain of one endpoint."""
        config = self.service.spec.sessionAffinityConfig
        seconds = (config.clientIP.timeoutSeconds if config and config.clientIP else None) or AFFINITY_SECONDS
        memory = self._chain("aff", port, protocol, target)
        chain = self._chain("ep", port, protocol, target)
        self.memories.add(memory)
        self.chains[chain] = (Remember(memory, seconds), Forward(protocol, target))
        return memory, chain

    def _chain(self, kind: str, port: ServicePort, protocol: str, target: Target | None = None) -> str:
        tail = (target.ip, str(target.port)) if target else ()
        return chain_name(kind, *self.name, protocol, port.name or str(port.port), *tail)

    def _node_port(self, port: ServicePort) -> int:
        number = port.nodePort or 0
        return number if self.service.spec.type in ("NodePort", "LoadBalancer") and 0 < number < 65536 else 0
