"""Rows of what joins pods: services, endpoints, ingresses, policies."""

from __future__ import annotations

import datetime
from typing import Any

from kybern.apiserver.table.column import NONE, UNSET, Printer, age, joined, map_text, printer, selector_text

_SHOWN = 3  # endpoints in one cell


def _external(service: Any) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return spec.externalName or NONE
    if spec.type == "LoadBalancer":
        return ",".join([*_balancers(service), *spec.externalIPs]) or "<pending>"
    return joined(spec.externalIPs)


def _balancers(obj: Any) -> list[str]:
    """Addresses or names of load balancers, each once."""
    return sorted({i.ip or i.hostname for i in obj.status.loadBalancer.ingress if i.ip or i.hostname})


def _ports(service: Any) -> str:
    return joined(f"{p.port}{f':{p.nodePort}' if p.nodePort else ''}/{p.protocol}" for p in service.spec.ports)


def _service(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    address = spec.clusterIPs[0] if spec.clusterIPs else spec.clusterIP
    return [
        obj.metadata.name,
        spec.type,
        address or NONE,
        _external(obj),
        _ports(obj),
        age(obj, now),
        map_text(spec.selector),
    ]


def _endpoints(obj: Any, now: datetime.datetime) -> list[Any]:
    shown: list[str] = []
    count = 0
    for subset in obj.subsets:
        for port in subset.ports or [None]:
            for address in subset.addresses:
                count += 1
                if len(shown) < _SHOWN:
                    host = f"[{address.ip}]" if ":" in address.ip else address.ip
                    shown.append(f"{host}:{port.port}" if port is not None else address.ip)
    text = ",".join(shown) + (f" + {count - _SHOWN} more..." if count > _SHOWN else "")
    return [obj.metadata.name, text if obj.subsets else NONE, age(obj, now)]


def _slice(obj: Any, now: datetime.datetime) -> list[Any]:
    ports = [str(p.port) if p.port is not None else p.name or "*" for p in obj.ports]
    addresses = [a for e in obj.endpoints for a in e.addresses]
    return [obj.metadata.name, obj.addressType, _few(ports, UNSET), _few(addresses, UNSET), age(obj, now)]


def _few(values: list[str], empty: str) -> str:
    if not values:
        return empty
    return ",".join(values[:_SHOWN]) + (f" + {len(values) - _SHOWN} more..." if len(values) > _SHOWN else "")


def _ingress(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    hosts = [r.host for r in spec.rules if r.host]
    return [
        obj.metadata.name,
        spec.ingressClassName or NONE,
        _few(hosts, "*"),
        ",".join(_balancers(obj)),
        "80, 443" if spec.tls else "80",
        age(obj, now),
    ]


def _ingress_class(obj: Any, now: datetime.datetime) -> list[Any]:
    parameters = NONE
    reference = obj.spec.parameters
    if reference is not None:
        parameters = f"{reference.kind}{'.' + reference.apiGroup if reference.apiGroup else ''}/{reference.name}"
    return [obj.metadata.name, obj.spec.controller, parameters, age(obj, now)]


def _policy(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, selector_text(obj.spec.podSelector), age(obj, now)]


def _address(obj: Any, now: datetime.datetime) -> list[Any]:
    parent = obj.spec.parentRef
    shown = NONE
    if parent is not None:
        kind = f"{parent.resource}.{parent.group}" if parent.group else parent.resource
        shown = "/".join(filter(None, (kind, parent.namespace, parent.name)))
    # A cell more than there are columns, as upstream.
    return [obj.metadata.name, shown, age(obj, now)]


def _cidr(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, ",".join(obj.spec.cidrs), age(obj, now)]


PRINTERS: dict[str, Printer] = {
    "services": printer(_service, "Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"),
    "endpoints": printer(_endpoints, "Name", "Endpoints", "Age"),
    "endpointslices.discovery.k8s.io": printer(_slice, "Name", "AddressType", "Ports", "Endpoints", "Age"),
    "ingresses.networking.k8s.io": printer(_ingress, "Name", "Class", "Hosts", "Address", "Ports", "Age"),
    "ingressclasses.networking.k8s.io": printer(_ingress_class, "Name", "Controller", "Parameters", "Age"),
    "networkpolicies.networking.k8s.io": printer(_policy, "Name", "Pod-Selector", "Age"),
    "ipaddresses.networking.k8s.io": printer(_address, "Name", "ParentRef"),
    "servicecidrs.networking.k8s.io": printer(_cidr, "Name", "CIDRs", "Age"),
}
