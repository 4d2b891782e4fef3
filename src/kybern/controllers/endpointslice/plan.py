"""The slices of a service: its endpoints by family and ports, with conditions, zones and hints. Pure.

Fed by reconcile, packed by pack. Pods on their way out stay in as serving but not ready, for those who drain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kybern.api.core_v1 import Node, Pod, Service
from kybern.api.discovery_v1 import Endpoint, EndpointConditions, EndpointHints, EndpointSlice, ForNode, ForZone
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import ownership, pods, service_pods
from kybern.controllers.endpointslice.pack import Changes, Group, PortKey, identity_of, pack, render_ports

SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


def _ports_of(service: Service, pod: Pod) -> PortKey:
    found = []
    for port in service.spec.ports:
        number = service_pods.target_port(pod, port)
        if number is not None:
            found.append((port.name or "", number, port.protocol or "TCP", port.appProtocol or ""))
    return tuple(sorted(found))


def _families(service: Service) -> tuple[str, ...]:
    return tuple(service.spec.ipFamilies) or ("IPv4",)


def _endpoint(service: Service, pod: Pod, ips: list[str], node: Node | None) -> Endpoint:
    terminating = pod.metadata.deletionTimestamp is not None
    serving = pods.is_ready(pod)
    ready = bool(service.spec.publishNotReadyAddresses) or (serving and not terminating)
    zone = node.metadata.labels.get(ZONE) if node is not None else None
    endpoint = Endpoint(
        addresses=ips,
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=service_pods.hostname(pod, service),
        nodeName=pod.spec.nodeName or None,
        zone=zone,
        targetRef=service_pods.reference(pod),
    )
    endpoint.hints = _hints(service.spec.trafficDistribution, endpoint)
    return endpoint


def _hints(distribution: str | None, endpoint: Endpoint) -> EndpointHints | None:
    """Traffic distribution is a plain hint: use me in my own zone, or on my own node."""
    if not endpoint.conditions.ready or distribution not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return None
    hints = EndpointHints(forZones=[ForZone(name=endpoint.zone)] if endpoint.zone else [])
    if distribution == "PreferSameNode" and endpoint.nodeName:
        hints.forNodes = [ForNode(name=endpoint.nodeName)]
    return hints if hints.forZones or hints.forNodes else None


def plan_groups(service: Service, backing: Sequence[Pod], nodes: Mapping[str, Node]) -> list[Group]:
    """The endpoints of a service, by family and ports."""
    groups: dict[tuple[str, PortKey], Group] = {}
    for pod in sorted(backing, key=lambda p: (p.metadata.creationTimestamp or "", p.metadata.uid)):
        if not service_pods.is_serving(pod):
            continue
        for family in _families(service):
            ips = [ip for ip in service_pods.addresses(pod) if (":" in ip) == (family == "IPv6")]
            if not ips:
                continue
            ports = _ports_of(service, pod)
            group = groups.setdefault((family, ports), Group(family, ports))
            endpoint = _endpoint(service, pod, ips[:1], nodes.get(pod.spec.nodeName or ""))
            group.endpoints[identity_of(endpoint)] = endpoint
    return [groups[key] for key in sorted(groups)]


def _labels(service: Service) -> dict[str, str]:
    labels = dict(service.metadata.labels)
    labels.pop(service_pods.HEADLESS, None)
    if service_pods.is_headless(service):
        labels[service_pods.HEADLESS] = ""
    return labels | {SERVICE: service.metadata.name, MANAGED_BY: MANAGER}


def plan_slices(
    service: Service,
    backing: Sequence[Pod],
    nodes: Mapping[str, Node],
    existing: Sequence[EndpointSlice],
    limit: int,
) -> Changes:
    """What to write. `existing` are the slices of this service that are managed here."""
    labels = _labels(service)

    def new_slice(address_type: str, ports: PortKey) -> EndpointSlice:
        return EndpointSlice(
            metadata=ObjectMeta(
                generateName=f"{service.metadata.name}-",
                namespace=service.metadata.namespace,
                labels=dict(labels),
                ownerReferences=[ownership.reference_to(service)],
            ),
            addressType=address_type,
            ports=render_ports(ports),
        )

    def refresh(found: EndpointSlice) -> None:
        found.metadata.labels = dict(labels)

    families = _families(service)
    return pack(plan_groups(service, backing, nodes), existing, new_slice, refresh, limit, placeholder=families)
