"""The subsets of a service's Endpoints. Pure.

Addresses with the same ports share a subset. At most CAPACITY addresses, ready ones first.
"""

from __future__ import annotations

from collections.abc import Sequence

from kybern.api import codec
from kybern.api.core_v1 import EndpointAddress, EndpointPort, Endpoints, EndpointSubset, Pod, Service
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import pods, service_pods

CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"

_Ports = tuple[tuple[str, int, str, str], ...]  # name, number, protocol, appProtocol


def _ports_of(service: Service, pod: Pod) -> _Ports:
    found = []
    for port in service.spec.ports:
        number = service_pods.target_port(pod, port)
        if number is not None:
            found.append((port.name or "", number, port.protocol or "TCP", port.appProtocol or ""))
    return tuple(sorted(found))


def _address(service: Service, pod: Pod) -> EndpointAddress | None:
    """In the family of the service."""
    wanted_ipv6 = bool(service.spec.ipFamilies) and service.spec.ipFamilies[0] == "IPv6"
    for ip in service_pods.addresses(pod):
        if (":" in ip) == wanted_ipv6:
            return EndpointAddress(
                ip=ip,
                hostname=service_pods.hostname(pod, service),
                nodeName=pod.spec.nodeName or None,
                targetRef=service_pods.reference(pod),
            )
    return None


def plan_subsets(service: Service, backing: Sequence[Pod]) -> tuple[list[EndpointSubset], bool]:
    """(subsets, whether some addresses had to be left out)."""
    tolerant = bool(service.spec.publishNotReadyAddresses)
    entries: list[tuple[bool, _Ports, EndpointAddress]] = []
    for pod in backing:
        if not service_pods.is_serving(pod) or (pod.metadata.deletionTimestamp and not tolerant):
            continue
        ports = _ports_of(service, pod)
        address = _address(service, pod)
        if address is None or (service.spec.ports and not ports):
            continue
        entries.append((pods.is_ready(pod) or tolerant, ports, address))
    entries.sort(key=lambda e: (not e[0], e[2].ip, e[2].targetRef.uid or "" if e[2].targetRef else ""))
    truncated = len(entries) > CAPACITY
    groups: dict[_Ports, EndpointSubset] = {}
    for ready, ports, address in entries[:CAPACITY]:
        if not ports and not service_pods.is_headless(service):
            continue
        subset = groups.setdefault(ports, EndpointSubset(ports=[_port(p) for p in ports]))
        (subset.addresses if ready else subset.notReadyAddresses).append(address)
    return [groups[ports] for ports in sorted(groups)], truncated


def _port(port: tuple[str, int, str, str]) -> EndpointPort:
    name, number, protocol, app = port
    return EndpointPort(name=name or None, port=number, protocol=protocol, appProtocol=app or None)


def plan_endpoints(service: Service, backing: Sequence[Pod], found: Endpoints | None) -> Endpoints | None:
    """The object to write; None if `found` is right."""
    subsets, truncated = plan_subsets(service, backing)
    labels = dict(service.metadata.labels)
    labels.pop(service_pods.HEADLESS, None)
    if service_pods.is_headless(service):
        labels[service_pods.HEADLESS] = ""
    labels[MANAGED_BY] = MANAGER
    fresh = (
        codec.clone(found)
        if found is not None
        else Endpoints(metadata=ObjectMeta(name=service.metadata.name, namespace=service.metadata.namespace))
    )
    fresh.metadata.labels = labels
    fresh.metadata.annotations.pop(OVER_CAPACITY, None)
    if truncated:
        fresh.metadata.annotations[OVER_CAPACITY] = "truncated"
    fresh.subsets = subsets
    return None if fresh == found else fresh
