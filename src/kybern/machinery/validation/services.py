"""Services: what their fields allow each other; allocation is the strategy's."""

from __future__ import annotations

import ipaddress
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import Service, ServicePort, ServiceSpec
from kybern.machinery import names
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"


def _check(service: Service, errors: Errors) -> None:
    spec = service.spec
    headless = spec.clusterIP == "None"
    if not spec.ports and not headless and spec.type != "ExternalName":
        errors.append(required("spec.ports"))
    if spec.type == "ExternalName":
        if not spec.externalName:
            errors.append(required("spec.externalName"))
        else:
            name = spec.externalName.removesuffix(".") or spec.externalName
            for message in names.check_subdomain(name):
                errors.append(invalid("spec.externalName", spec.externalName, message))
    _check_ports(spec, headless, errors)
    if spec.selector:
        rules.check_labels(spec.selector, "spec.selector", errors)
    _check_affinity(spec, errors)
    if not spec.type:
        errors.append(required("spec.type"))
    elif spec.type not in TYPES:
        errors.append(not_supported("spec.type", spec.type, TYPES))
    check_cluster_ips(spec, errors)
    for i, address in enumerate(pausing(spec.externalIPs)):
        check_usable_ip(address, f"spec.externalIPs[{i}]", errors)
    _check_load_balancer(service, errors)
    _check_traffic(spec, errors)


def _check_ports(spec: ServiceSpec, headless: bool, errors: Errors) -> None:
    taken: set[str] = set()
    numbered: set[tuple[str | None, int]] = set()
    on_nodes: set[tuple[str | None, int]] = set()
    for i, port in enumerate(pausing(spec.ports)):
        path = f"spec.ports[{i}]"
        _check_port(port, len(spec.ports) > 1, headless, taken, path, errors)
        key = (port.protocol, port.port)
        if key in numbered:
            errors.append(duplicate(path, _port_key(port)))
        numbered.add(key)
        if port.nodePort:
            if spec.type == "ClusterIP":
                errors.append(forbidden_field(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            if (port.protocol, port.nodePort) in on_nodes:
                errors.append(duplicate(f"{path}.nodePort", port.nodePort))
            on_nodes.add((port.protocol, port.nodePort))


def _port_key(port: ServicePort) -> Any:
    # As upstream spells the part of a port that must be its own.
    key = {"Name": "", "Protocol": port.protocol, "AppProtocol": None, "Port": port.port}
    return key | {"TargetPort": 0, "NodePort": 0}


def _check_port(
    port: ServicePort, needs_name: bool, headless: bool, taken: set[str], path: str, errors: Errors
) -> None:
    if port.name:
        for message in names.check_label(port.name):
            errors.append(invalid(f"{path}.name", port.name, message))
        if port.name in taken:
            errors.append(duplicate(f"{path}.name", port.name))
        taken.add(port.name)
    elif needs_name:
        errors.append(required(f"{path}.name"))
    rules.check_port(port.port, f"{path}.port", errors)
    if port.protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port.protocol or "", _PROTOCOLS))
    rules.check_port_or_name(port.targetPort, f"{path}.targetPort", errors)
    if port.appProtocol is not None:
        rules.check_rule(port.appProtocol, f"{path}.appProtocol", names.check_qualified, errors)


def _check_affinity(spec: ServiceSpec, errors: Errors) -> None:
    if not spec.sessionAffinity:
        errors.append(required("spec.sessionAffinity"))
    elif spec.sessionAffinity not in ("ClientIP", "None"):
        errors.append(not_supported("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None")))
    config = spec.sessionAffinityConfig
    if spec.sessionAffinity == "ClientIP" and config is not None and config.clientIP is not None:
        seconds = config.clientIP.timeoutSeconds
        if seconds is not None and not 0 < seconds <= 86400:
            path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            errors.append(invalid(path, seconds, "must be greater than 0 and less than 86400"))


def check_cluster_ips(spec: ServiceSpec, errors: Errors) -> None:
    """Addresses and families. Asked by the strategy too: faults here are told before all others."""
    path, addresses = "spec.clusterIPs", spec.clusterIPs
    if spec.type == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if getattr(spec, field):
                errors.append(forbidden_field(f"spec.{field}", "may not be set for ExternalName services"))
        return
    if addresses and not spec.clusterIP:
        errors.append(invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    elif addresses and addresses[0] != spec.clusterIP:
        errors.append(invalid(path, addresses, "first value must match `clusterIP`"))
    if len(addresses) <= 2:
        _check_families(spec, errors)
    headless = addresses[:1] == ["None"]
    if headless:
        if len(addresses) > 1:
            errors.append(invalid(path, addresses, "'None' must be the first and only value"))
        elif spec.clusterIP and spec.type in ("NodePort", "LoadBalancer"):
            errors.append(invalid(f"{path}[0]", "None", f"may not be set to 'None' for {spec.type} services"))
    before = len(errors)
    for i, address in enumerate(pausing(addresses)):
        if i or not headless:
            rules.check_ip(address, f"{path}[{i}]", errors)
    if len(addresses) > 2:
        errors.append(invalid(path, addresses, "may only hold up to 2 values"))
        return
    if headless or len(errors) > before:
        return
    versions = [ipaddress.ip_address(a).version for a in addresses]
    if len(set(versions)) < len(versions):
        errors.append(invalid(path, addresses, "may specify no more than one IP for each IP family"))
        return
    for i, (address, version) in enumerate(zip(addresses, versions, strict=True)):
        if i < len(spec.ipFamilies) and spec.ipFamilies[i] in _FAMILIES:
            wanted = spec.ipFamilies[i]
            if wanted != f"IPv{version}":
                message = f"expected an {wanted} value as indicated by `ipFamilies[{i}]`"
                errors.append(invalid(f"{path}[{i}]", address, message))


def _check_families(spec: ServiceSpec, errors: Errors) -> None:
    if spec.ipFamilyPolicy is not None and spec.ipFamilyPolicy not in _FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", spec.ipFamilyPolicy, _FAMILY_POLICIES))
    seen: set[str] = set()
    for i, family in enumerate(pausing(spec.ipFamilies)):
        if family not in _FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, _FAMILIES))
        elif family in seen:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
        seen.add(family)
    if sorted(spec.ipFamilies) == list(_FAMILIES) and spec.ipFamilyPolicy == "SingleStack":
        message = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
        errors.append(invalid("spec.ipFamilyPolicy", spec.ipFamilyPolicy, message))


def check_usable_ip(value: str, path: str, errors: Errors) -> None:
    """Addresses of which no traffic can come back are refused."""
    fault, address = rules.ip_fault(value), rules.parse_ip(value)
    if fault or address is None:
        errors.append(invalid(path, value, fault))
        return
    for is_such, message in (
        (address.is_unspecified, f"may not be unspecified ({value})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            _is_link_local_multicast(address),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ):
        if is_such:
            errors.append(invalid(path, value, message))


_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))


def _is_link_local_multicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _MULTICAST if network.version == address.version)


def _check_load_balancer(service: Service, errors: Errors) -> None:
    spec = service.spec
    is_load_balancer = spec.type == "LoadBalancer"
    path = "spec.LoadBalancerSourceRanges"
    if spec.loadBalancerSourceRanges:
        if not is_load_balancer:
            errors.append(forbidden_field(path, _ONLY_LOAD_BALANCER))
        for i, cidr in enumerate(pausing(spec.loadBalancerSourceRanges)):
            rules.check_cidr(cidr.strip(), f"{path}[{i}]", errors)
    else:
        written = service.metadata.annotations.get(_RANGES)
        if written is not None:
            where = f"metadata.annotations[{_RANGES}]"
            if not is_load_balancer:
                errors.append(forbidden_field(where, _ONLY_LOAD_BALANCER))
            if written.strip():
                for cidr in written.split(","):
                    rules.check_cidr(cidr.strip(), where, errors)
    if spec.allocateLoadBalancerNodePorts is not None and not is_load_balancer:
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER))
    if is_load_balancer and spec.allocateLoadBalancerNodePorts is None:
        errors.append(required("spec.allocateLoadBalancerNodePorts"))
    if spec.loadBalancerClass is not None:
        if not is_load_balancer:
            errors.append(forbidden_field("spec.loadBalancerClass", _ONLY_LOAD_BALANCER))
        else:
            rules.check_rule(spec.loadBalancerClass, "spec.loadBalancerClass", names.check_qualified, errors)


def _check_traffic(spec: ServiceSpec, errors: Errors) -> None:
    external = spec.type in ("NodePort", "LoadBalancer") or (spec.type == "ClusterIP" and bool(spec.externalIPs))
    path, policy = "spec.externalTrafficPolicy", spec.externalTrafficPolicy
    if not external:
        if policy:
            errors.append(invalid(path, policy, "may only be set for externally-accessible services"))
    elif not policy:
        errors.append(required(path))
    elif policy not in _POLICIES:
        errors.append(not_supported(path, policy, _POLICIES))
    path, port = "spec.healthCheckNodePort", spec.healthCheckNodePort
    if spec.type == "LoadBalancer" and policy == "Local":
        if port:
            rules.check_port(port, path, errors)
    elif port:
        message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid(path, port, message))
    path = "spec.internalTrafficPolicy"
    if spec.type in ("ClusterIP", "NodePort", "LoadBalancer") and spec.internalTrafficPolicy is None:
        errors.append(required(path))
    if spec.internalTrafficPolicy is not None and spec.internalTrafficPolicy not in _POLICIES:
        errors.append(not_supported(path, spec.internalTrafficPolicy, _POLICIES))
    if spec.trafficDistribution is not None and spec.trafficDistribution not in _DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", spec.trafficDistribution, _DISTRIBUTIONS))


def _update(service: Service, old: Service, errors: Errors) -> None:
    spec, before = service.spec, old.spec
    if spec.type != "ExternalName" and before.type != "ExternalName":
        if before.clusterIPs and spec.clusterIPs and spec.clusterIPs[0] != before.clusterIPs[0]:
            errors.append(invalid("spec.clusterIPs[0]", spec.clusterIPs, "may not change once set"))
            return
        headless = spec.clusterIP == "None" and spec.clusterIPs == before.clusterIPs
        if headless and before.ipFamilies and spec.ipFamilies and spec.ipFamilies[0] != before.ipFamilies[0]:
            errors.append(invalid("spec.ipFamilies[0]", spec.ipFamilies, "may not change once set"))
    was_balanced = before.type == "LoadBalancer" and spec.type == "LoadBalancer"
    if was_balanced and spec.loadBalancerClass != before.loadBalancerClass:
        errors.append(invalid("spec.loadBalancerClass", spec.loadBalancerClass, "may not change once set"))
    keeps_check = all(s.type == "LoadBalancer" and s.externalTrafficPolicy == "Local" for s in (spec, before))
    if keeps_check and spec.healthCheckNodePort != before.healthCheckNodePort:
        errors.append(forbidden_field("spec.healthCheckNodePort", "field is immutable"))
    _check(service, errors)


def _check_status(service: Service, old: Service, errors: Errors) -> None:
    path = "status.loadBalancer.ingress"
    found = service.status.loadBalancer.ingress
    if service.spec.type != "LoadBalancer" and found:
        errors.append(forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'"))
        return
    for i, ingress in enumerate(pausing(found)):
        where = f"{path}[{i}]"
        if ingress.ip:
            rules.check_ip(ingress.ip, f"{where}.ip", errors)
            if ingress.ipMode is None:
                errors.append(required(f"{where}.ipMode", "must be specified when `ip` is set"))
            elif ingress.ipMode not in ("Proxy", "VIP"):
                errors.append(not_supported(f"{where}.ipMode", ingress.ipMode, ("Proxy", "VIP")))
        elif ingress.ipMode is not None:
            errors.append(forbidden_field(f"{where}.ipMode", "may not be specified when `ip` is not set"))
        check_hostname(ingress.hostname, f"{where}.hostname", errors)


def check_hostname(hostname: str | None, path: str, errors: Errors) -> None:
    """Of a load balancer."""
    if hostname:
        rules.check_rule(hostname, path, names.check_subdomain, errors)
        if rules.parse_ip(hostname) is not None:
            errors.append(invalid(path, hostname, "must be a DNS name, not an IP address"))


RULES: dict[type[Any], Rules] = {Service: Rules(_check, _update, _check_status)}

__all__ = ["RULES", "check_hostname", "check_usable_ip", "codec"]
