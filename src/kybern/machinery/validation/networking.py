"""networking.k8s.io and discovery.k8s.io."""

from __future__ import annotations

import ipaddress
from typing import Any

from kybern.api import networking_v1beta1
from kybern.api.discovery_v1 import Endpoint, EndpointSlice
from kybern.api.networking_v1 import (
    HTTPIngressPath,
    Ingress,
    IngressBackend,
    IngressClass,
    IPAddress,
    IPBlock,
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    ServiceCIDR,
)
from kybern.machinery import names
from kybern.machinery.status import (
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from kybern.machinery.validation import jobs, rules, selectors, services
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"


def _check_ingress(ingress: Ingress, errors: Errors) -> None:
    spec = ingress.spec
    annotation = ingress.metadata.annotations.get(_CLASS_ANNOTATION)
    if annotation is not None and spec.ingressClassName is not None and annotation != spec.ingressClassName:
        message = "must match `ingressClassName` when both are specified"
        errors.append(invalid(f"annotations.{_CLASS_ANNOTATION}", annotation, message))
    _check_ingress_spec(ingress, errors)


def _check_ingress_spec(ingress: Ingress, errors: Errors) -> None:
    spec = ingress.spec
    if not spec.rules and spec.defaultBackend is None:
        errors.append(invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
    if spec.defaultBackend is not None:
        _check_backend(spec.defaultBackend, "spec.defaultBackend", errors)
    for i, rule in enumerate(pausing(spec.rules)):
        path = f"spec.rules[{i}]"
        if rule.host:
            _check_host(rule.host, f"{path}.host", errors)
        if rule.http is not None:
            if not rule.http.paths:
                errors.append(required(f"{path}.http.paths"))
            for j, http_path in enumerate(pausing(rule.http.paths)):
                _check_path(http_path, f"{path}.http.paths[{j}]", errors)
    for i, tls in enumerate(pausing(spec.tls)):
        path = f"spec.tls[{i}]"
        for j, host in enumerate(pausing(tls.hosts)):
            check = names.check_wildcard_subdomain if "*" in host else names.check_subdomain
            rules.check_rule(host, f"{path}.hosts[{j}]", check, errors)
        rules.check_optional(tls.secretName, f"{path}.secretName", names.check_subdomain, errors)
    if spec.ingressClassName is not None:
        rules.check_rule(spec.ingressClassName, "spec.ingressClassName", names.check_subdomain, errors)


def _check_host(host: str, path: str, errors: Errors) -> None:
    if rules.parse_ip(host) is not None:
        errors.append(invalid(path, host, "must be a DNS name, not an IP address"))
    check = names.check_wildcard_subdomain if "*" in host else names.check_subdomain
    rules.check_rule(host, path, check, errors)


def _check_path(http_path: HTTPIngressPath, path: str, errors: Errors) -> None:
    where, value = f"{path}.path", http_path.path or ""
    match http_path.pathType:
        case "":
            errors.append(required(f"{path}.pathType", "pathType must be specified"))
            return
        case "Exact" | "Prefix":
            if not value.startswith("/"):
                errors.append(invalid(where, value, "must be an absolute path"))
            for sequence in ("//", "/./", "/../", "%2f", "%2F"):
                if sequence in value:
                    errors.append(invalid(where, value, f"must not contain '{sequence}'"))
            for suffix in ("/..", "/."):
                if value.endswith(suffix):
                    errors.append(invalid(where, value, f"cannot end with '{suffix}'"))
        case "ImplementationSpecific":
            if value and not value.startswith("/"):
                errors.append(invalid(where, value, "must be an absolute path"))
        case _:
            errors.append(not_supported(f"{path}.pathType", http_path.pathType, _PATH_TYPES))
    _check_backend(http_path.backend, f"{path}.backend", errors)


def _check_backend(backend: IngressBackend, path: str, errors: Errors) -> None:
    if backend.resource is not None and backend.service is not None:
        return errors.append(invalid(path, "", "cannot set both resource and service backends"))
    if backend.resource is not None:
        where = f"{path}.resource"
        if backend.resource.apiGroup is not None:
            rules.check_rule(backend.resource.apiGroup, f"{where}.apiGroup", names.check_subdomain, errors)
        rules.check_name(backend.resource.kind, f"{where}.kind", names.check_path_segment, errors)
        rules.check_name(backend.resource.name, f"{where}.name", names.check_path_segment, errors)
        return None
    if backend.service is None:
        return errors.append(invalid(path, "", "resource or service backend is required"))
    service = backend.service
    rules.check_name(service.name, f"{path}.service.name", names.check_label, errors)
    port = service.port
    named, numbered = bool(port and port.name), bool(port and port.number)
    if port is not None and named and numbered:
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif port is not None and named:
        rules.check_rule(port.name or "", f"{path}.service.port.name", names.check_port_name, errors)
    elif port is not None and numbered:
        rules.check_port(port.number or 0, f"{path}.service.port.number", errors)
    else:
        errors.append(required(path, "port name or number is required"))
    return None


def _update_ingress(ingress: Ingress, old: Ingress, errors: Errors) -> None:
    _check_ingress_spec(ingress, errors)


def _status_of_ingress(ingress: Ingress, old: Ingress, errors: Errors) -> None:
    for i, found in enumerate(pausing(ingress.status.loadBalancer.ingress)):
        path = f"status.loadBalancer.ingress[{i}]"
        if found.ip:
            rules.check_ip(found.ip, f"{path}.ip", errors)
        services.check_hostname(found.hostname, f"{path}.hostname", errors)


def _check_ingress_class(ingress_class: IngressClass, errors: Errors) -> None:
    spec = ingress_class.spec
    controller = spec.controller or ""
    if len(controller) > 250:
        errors.append(too_long("spec.controller", 250))
    jobs.check_domain_path(controller, "spec.controller", errors)
    parameters = spec.parameters
    if parameters is None:
        return
    path = "spec.parameters"
    if parameters.apiGroup is not None:
        rules.check_rule(parameters.apiGroup, f"{path}.apiGroup", names.check_subdomain, errors)
    rules.check_name(parameters.kind, f"{path}.kind", names.check_path_segment, errors)
    rules.check_name(parameters.name, f"{path}.name", names.check_path_segment, errors)
    match parameters.scope:
        case None:
            errors.append(required(f"{path}.scope"))
        case "Namespace":
            if not parameters.namespace:
                errors.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
            else:
                rules.check_rule(parameters.namespace, f"{path}.namespace", names.check_label, errors)
        case "Cluster":
            if parameters.namespace is not None:
                errors.append(forbidden_field(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
        case _:
            errors.append(not_supported(f"{path}.scope", parameters.scope, ("Cluster", "Namespace")))


def _update_ingress_class(ingress_class: IngressClass, old: IngressClass, errors: Errors) -> None:
    rules.check_immutable(ingress_class.spec.controller, old.spec.controller, "spec.controller", errors)
    _check_ingress_class(ingress_class, errors)


# -- network policies --------------------------------------------------------------------------------------------

_POLICY_PROTOCOLS = ("TCP", "UDP", "SCTP")


def _check_policy(policy: NetworkPolicy, errors: Errors) -> None:
    spec = policy.spec
    selectors.check_label_selector(spec.podSelector, "spec.podSelector", errors)
    for i, ingress in enumerate(pausing(spec.ingress)):
        _check_rule(ingress.ports, ingress.from_, f"spec.ingress[{i}]", "from", errors)
    for i, egress in enumerate(pausing(spec.egress)):
        _check_rule(egress.ports, egress.to, f"spec.egress[{i}]", "to", errors)
    types = spec.policyTypes
    if len(types) > 2:
        errors.append(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
        return
    for i, kind in enumerate(pausing(types)):
        if kind not in ("Ingress", "Egress"):
            errors.append(not_supported(f"spec.policyTypes[{i}]", kind, ("Ingress", "Egress")))


def _check_rule(
    ports: list[NetworkPolicyPort], peers: list[NetworkPolicyPeer], path: str, direction: str, errors: Errors
) -> None:
    for i, port in enumerate(pausing(ports)):
        _check_policy_port(port, f"{path}.ports[{i}]", errors)
    for i, peer in enumerate(pausing(peers)):
        _check_peer(peer, f"{path}.{direction}[{i}]", errors)


def _check_policy_port(port: NetworkPolicyPort, path: str, errors: Errors) -> None:
    if port.protocol not in _POLICY_PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port.protocol or "", _POLICY_PROTOCOLS))
    where = f"{path}.endPort"
    if port.port is None:
        if port.endPort is not None:
            errors.append(invalid(where, port.endPort, "may not be specified when `port` is not specified"))
        return
    if isinstance(port.port, str):
        if port.endPort is not None:
            errors.append(invalid(where, port.endPort, "may not be specified when `port` is non-numeric"))
        rules.check_rule(port.port, f"{path}.port", names.check_port_name, errors)
        return
    rules.check_port(port.port, f"{path}.port", errors)
    if port.endPort is not None:
        if port.endPort < port.port:
            errors.append(invalid(where, port.port, "must be greater than or equal to `port`"))
        rules.check_port(port.endPort, where, errors)


def _check_peer(peer: NetworkPolicyPeer, path: str, errors: Errors) -> None:
    if peer.podSelector is None and peer.namespaceSelector is None and peer.ipBlock is None:
        errors.append(required(path, "must specify a peer"))
    selectors.check_label_selector(peer.podSelector, f"{path}.podSelector", errors)
    selectors.check_label_selector(peer.namespaceSelector, f"{path}.namespaceSelector", errors)
    if peer.ipBlock is not None:
        _check_block(peer.ipBlock, f"{path}.ipBlock", errors)
        if peer.podSelector is not None or peer.namespaceSelector is not None:
            errors.append(forbidden_field(path, "may not specify both ipBlock and another peer"))


def _check_block(block: IPBlock, path: str, errors: Errors) -> None:
    if not block.cidr:
        errors.append(required(f"{path}.cidr"))
        return
    rules.check_cidr(block.cidr, f"{path}.cidr", errors)
    whole = rules.parse_cidr(block.cidr)
    if whole is None:
        return
    for i, text in enumerate(pausing(block.except_)):
        rules.check_cidr(text, f"{path}.except[{i}]", errors)
        part = rules.parse_cidr(text)
        if part is None or ("." in text and ":" in text):
            continue
        if not _is_strict_subset(part, whole):
            errors.append(invalid(f"{path}.except[{i}]", text, "must be a strict subset of `cidr`"))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_strict_subset(part: _Network, whole: _Network) -> bool:
    return part.version == whole.version and part.prefixlen > whole.prefixlen and part.network_address in whole


# -- endpoint slices ---------------------------------------------------------------------------------------------

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def _check_slice(endpoint_slice: EndpointSlice, errors: Errors) -> None:
    kind = endpoint_slice.addressType
    if not kind:
        errors.append(required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        errors.append(not_supported("addressType", kind, _ADDRESS_TYPES))
    if len(endpoint_slice.ports) > 20000:
        errors.append(too_many("ports", len(endpoint_slice.ports), 20000))
    else:
        _check_slice_ports(endpoint_slice, errors)
    if len(endpoint_slice.endpoints) > 1000:
        errors.append(too_many("endpoints", len(endpoint_slice.endpoints), 1000))
        return
    for i, endpoint in enumerate(pausing(endpoint_slice.endpoints)):
        _check_endpoint(endpoint, kind, f"endpoints[{i}]", errors)


def _check_slice_ports(endpoint_slice: EndpointSlice, errors: Errors) -> None:
    taken: set[str] = set()
    for i, port in enumerate(pausing(endpoint_slice.ports)):
        path, name = f"ports[{i}]", port.name or ""
        if name:
            rules.check_rule(name, f"{path}.name", names.check_label, errors)
        if name in taken:
            errors.append(duplicate(f"{path}.name", name))
        taken.add(name)
        if port.protocol not in ("SCTP", "TCP", "UDP"):
            errors.append(not_supported(f"{path}.protocol", port.protocol or "", ("SCTP", "TCP", "UDP")))
        if port.appProtocol is not None:
            rules.check_rule(port.appProtocol, f"{path}.appProtocol", names.check_qualified, errors)


def _check_endpoint(endpoint: Endpoint, kind: str, path: str, errors: Errors) -> None:
    where = f"{path}.addresses"
    if not endpoint.addresses:
        errors.append(required(where, "must contain at least 1 address"))
    elif len(endpoint.addresses) > 100:
        errors.append(too_many(where, len(endpoint.addresses), 100))
    for i, address in enumerate(pausing(endpoint.addresses)):
        _check_address(address, kind, where, i, errors)
    if endpoint.nodeName is not None:
        rules.check_rule(endpoint.nodeName, f"{path}.nodeName", names.check_subdomain, errors)
    if endpoint.hostname is not None:
        rules.check_rule(endpoint.hostname, f"{path}.hostname", names.check_label, errors)
    hints = endpoint.hints
    if hints is not None:
        for field in ("forZones", "forNodes"):
            found = getattr(hints, field)
            if len(found) > 8:
                errors.append(too_many(f"{path}.hints.{field}", len(found), 8))
                continue
            taken: set[str] = set()
            for i, hint in enumerate(pausing(found)):
                at = f"{path}.hints.{field}[{i}].name"
                if hint.name in taken:
                    errors.append(duplicate(at, hint.name))
                taken.add(hint.name)
                check = names.check_label_value if field == "forZones" else names.check_subdomain
                rules.check_rule(hint.name, at, check, errors)


def _check_address(address: str, kind: str, path: str, index: int, errors: Errors) -> None:
    if kind == "FQDN":
        before = len(errors)
        rules.check_name(address, f"{path}[{index}]", names.check_subdomain, errors)
        if len(errors) == before and "." not in address:
            told = "should be a domain with at least two segments separated by dots"
            errors.append(invalid(f"{path}[{index}]", address, told))
        return
    if kind not in ("IPv4", "IPv6"):
        return
    fault = rules.ip_fault(address)
    if not fault and (kind == "IPv6") != (":" in address):
        errors.append(invalid(path, address, f"must be an {kind} address"))
    elif not fault:
        fault = rules.canonical_ip_fault(address)
    if fault:
        errors.append(invalid(f"{path}[{index}]", address, fault))
        return
    services.check_usable_ip(address, f"{path}[{index}]", errors)


def _update_slice(endpoint_slice: EndpointSlice, old: EndpointSlice, errors: Errors) -> None:
    _check_slice(endpoint_slice, errors)
    rules.check_immutable(endpoint_slice.addressType, old.addressType, "addressType", errors)


# -- service CIDRs, addresses ------------------------------------------------------------------------------------


def _check_service_cidr(service_cidr: Any, errors: Errors) -> None:
    cidrs = service_cidr.spec.cidrs
    path = "spec.cidrs"
    if not cidrs:
        errors.append(required(path, "at least one CIDR required"))
    elif len(cidrs) > 2:
        errors.append(invalid(path, {"cidrs": cidrs}, "may only hold up to 2 values"))
    else:
        for i, cidr in enumerate(pausing(cidrs)):
            _check_canonical(cidr, f"{path}[{i}]", errors)
        versions = [n.version for c in cidrs if (n := rules.parse_cidr(c)) is not None]
        if len(set(versions)) < len(versions):
            message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            errors.append(invalid(path, cidrs, message))


def _check_canonical(cidr: str, path: str, errors: Errors) -> None:
    fault = rules.canonical_cidr_fault(cidr)
    if fault:
        errors.append(invalid(path, cidr, fault))


def _update_service_cidr(service_cidr: Any, old: Any, errors: Errors) -> None:
    cidrs, former = service_cidr.spec.cidrs, old.spec.cidrs
    # A second family may be added; nothing else changes.
    if len(cidrs) == 2 and len(former) == 1:
        _check_service_cidr(service_cidr, errors)
    elif len(cidrs) != len(former):
        errors.append(invalid("spec.cidrs", former if len(cidrs) < len(former) else cidrs, rules.IMMUTABLE))
    for i, (now, before) in enumerate(pausing(list(zip(cidrs, former, strict=False)))):
        if now != before:
            errors.append(invalid(f"spec.cidrs[{i}]", now, rules.IMMUTABLE))


def _check_ip_address(address: Any, errors: Errors) -> None:
    parent = address.spec.parentRef
    if not (parent.group or parent.resource or parent.name or parent.namespace):
        errors.append(required("spec.parentRef"))
        return
    path = "spec.parentRef"
    if parent.group:
        rules.check_rule(parent.group, f"{path}.group", names.check_subdomain, errors)
    rules.check_name(parent.resource, f"{path}.resource", names.check_path_segment, errors)
    rules.check_name(parent.name, f"{path}.name", names.check_path_segment, errors)
    if parent.namespace:
        rules.check_rule(parent.namespace, f"{path}.namespace", names.check_path_segment, errors)


def _update_ip_address(address: Any, old: Any, errors: Errors) -> None:
    _check_ip_address(address, errors)
    rules.check_immutable(address.spec.parentRef, old.spec.parentRef, "spec.parentRef", errors)


RULES: dict[type[Any], Rules] = {
    Ingress: Rules(_check_ingress, _update_ingress, _status_of_ingress),
    IngressClass: Rules(_check_ingress_class, _update_ingress_class),
    NetworkPolicy: Rules(_check_policy),
    EndpointSlice: Rules(_check_slice, _update_slice),
    ServiceCIDR: Rules(_check_service_cidr, _update_service_cidr),
    networking_v1beta1.ServiceCIDR: Rules(_check_service_cidr, _update_service_cidr),
    IPAddress: Rules(_check_ip_address, _update_ip_address),
    networking_v1beta1.IPAddress: Rules(_check_ip_address, _update_ip_address),
}
