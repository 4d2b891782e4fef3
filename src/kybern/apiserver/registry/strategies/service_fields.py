"""What a Service needs and what it may keep, from its fields alone. Pure; used by services.

Addresses and ports that were given to a Service stay its own while its type needs them, and go when it does not.
"""

from __future__ import annotations

from kybern.api.core_v1 import Service, ServicePort, ServiceSpec

HEADLESS = "None"
FAMILIES = ("IPv4", "IPv6")


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def needs_cluster_ip(spec: ServiceSpec) -> bool:
    return spec.type in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_ports(spec: ServiceSpec) -> bool:
    return spec.type == "NodePort" or (spec.type == "LoadBalancer" and spec.allocateLoadBalancerNodePorts is not False)


def may_have_node_ports(spec: ServiceSpec) -> bool:
    return spec.type in ("NodePort", "LoadBalancer")


def needs_health_check_port(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local"


def is_headless(spec: ServiceSpec) -> bool:
    return spec.clusterIP == HEADLESS


def normalise_cluster_ips(spec: ServiceSpec, old: ServiceSpec | None) -> None:
    """clusterIP and clusterIPs say the same; old clients know only the first."""
    spec.clusterIP = spec.clusterIP or None
    if old is None:
        if spec.clusterIP and not spec.clusterIPs:
            spec.clusterIPs = [spec.clusterIP]
        return
    if (spec.clusterIP or "") != (old.clusterIP or "") and spec.clusterIPs == old.clusterIPs:
        if not spec.clusterIP:
            spec.clusterIPs = []
        elif spec.clusterIPs:
            spec.clusterIPs = [spec.clusterIP, *spec.clusterIPs[1:]]
    if spec.clusterIP and not spec.clusterIPs:
        spec.clusterIPs = [spec.clusterIP]


def keep_allocated(spec: ServiceSpec, old: ServiceSpec) -> None:
    """What an update leaves out stays as it was, if both types need it."""
    if needs_cluster_ip(old) and needs_cluster_ip(spec):
        if not spec.clusterIP and not spec.clusterIPs:
            spec.clusterIP, spec.clusterIPs = old.clusterIP, list(old.clusterIPs)
        if not spec.ipFamilies:
            spec.ipFamilies = list(old.ipFamilies)
        if spec.ipFamilyPolicy is None:
            spec.ipFamilyPolicy = old.ipFamilyPolicy
    if needs_node_ports(old) and needs_node_ports(spec):
        known = {(p.protocol, p.port): p.nodePort for p in old.ports if p.nodePort}
        used = {(p.protocol, p.nodePort) for p in spec.ports if p.nodePort}
        for port in spec.ports:
            kept = known.get((port.protocol, port.port))
            if not port.nodePort and kept and (port.protocol, kept) not in used:
                port.nodePort = kept
    if needs_health_check_port(old) and needs_health_check_port(spec) and not spec.healthCheckNodePort:
        spec.healthCheckNodePort = old.healthCheckNodePort


def drop_unneeded(spec: ServiceSpec, old: ServiceSpec) -> None:
    """Fields of the former type that the client merely sent back as it had found them."""
    if not needs_cluster_ip(spec) and needs_cluster_ip(old):
        if spec.clusterIPs == old.clusterIPs:
            spec.clusterIP, spec.clusterIPs = None, []
        if spec.ipFamilies == old.ipFamilies:
            spec.ipFamilies = []
        if spec.ipFamilyPolicy == old.ipFamilyPolicy:
            spec.ipFamilyPolicy = None
        if spec.internalTrafficPolicy == old.internalTrafficPolicy:
            spec.internalTrafficPolicy = None
    if not may_have_node_ports(spec) and may_have_node_ports(old):
        _drop_node_ports(spec.ports, old.ports)
    unneeded = not needs_health_check_port(spec) and needs_health_check_port(old)
    if unneeded and spec.healthCheckNodePort == old.healthCheckNodePort:
        spec.healthCheckNodePort = None
    if spec.type != "LoadBalancer" and old.type == "LoadBalancer":
        if spec.allocateLoadBalancerNodePorts == old.allocateLoadBalancerNodePorts:
            spec.allocateLoadBalancerNodePorts = None
        if spec.loadBalancerClass == old.loadBalancerClass:
            spec.loadBalancerClass = None
    unneeded = not _takes_external_policy(spec) and _takes_external_policy(old)
    if unneeded and spec.externalTrafficPolicy == old.externalTrafficPolicy:
        spec.externalTrafficPolicy = None


def _takes_external_policy(spec: ServiceSpec) -> bool:
    return may_have_node_ports(spec) or (spec.type == "ClusterIP" and bool(spec.externalIPs))


def _drop_node_ports(ports: list[ServicePort], old: list[ServicePort]) -> None:
    known = {p.nodePort for p in old}
    if all(not p.nodePort or p.nodePort in known for p in ports):
        for port in ports:
            port.nodePort = None


def fill_families(service: Service) -> None:
    """The address families of a Service on a cluster with IPv4 only."""
    spec = service.spec
    if not needs_cluster_ip(spec):
        return
    # Endpoints of a headless Service without selector are its owner's business, in any family.
    if is_headless(spec) and not spec.selector:
        if spec.ipFamilyPolicy is None:
            spec.ipFamilyPolicy = "RequireDualStack"
        if spec.ipFamilyPolicy != "SingleStack":
            first = spec.ipFamilies[:1]
            spec.ipFamilies += [family for family in FAMILIES if family not in first][: 2 - len(spec.ipFamilies)]
    if spec.clusterIP or not spec.clusterIPs:  # else a fault, told alone
        spec.ipFamilyPolicy = spec.ipFamilyPolicy or "SingleStack"
    if not spec.ipFamilies:
        given = [ip for ip in spec.clusterIPs if ip != HEADLESS]
        spec.ipFamilies = list(dict.fromkeys(family_of(ip) for ip in given)) or ["IPv4"]
