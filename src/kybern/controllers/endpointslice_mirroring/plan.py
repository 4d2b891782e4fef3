"""The slices that say what a hand-written Endpoints object says. Pure; packed by endpointslice.pack."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from kybern.api.core_v1 import EndpointAddress, Endpoints, EndpointSubset, Service
from kybern.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import ownership
from kybern.controllers.endpointslice.pack import Changes, Group, PortKey, identity_of, pack, render_ports
from kybern.controllers.endpointslice.plan import MANAGED_BY, SERVICE

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = frozenset(
    ("kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time")
)


def is_mirrored(endpoints: Endpoints | None, service: Service | None) -> bool:
    """Somebody writes these Endpoints by hand, for a service that has no selector."""
    if endpoints is None or service is None or service.spec.selector:
        return False
    meta = endpoints.metadata
    if meta.deletionTimestamp or meta.labels.get(SKIP) == "true":
        return False
    return LEADER not in meta.annotations and not service.metadata.deletionTimestamp


def _ports_of(subset: EndpointSubset) -> PortKey:
    return tuple(sorted((p.name or "", p.port, p.protocol or "TCP", p.appProtocol or "") for p in subset.ports))


def _family(ip: str) -> str | None:
    try:
        return f"IPv{ipaddress.ip_address(ip).version}"
    except ValueError:
        return None


def _endpoint(address: EndpointAddress, *, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=[address.ip],
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname,
        nodeName=address.nodeName,
        targetRef=address.targetRef,
    )


def plan_slices(endpoints: Endpoints, existing: Sequence[EndpointSlice], limit: int, per_subset: int) -> Changes:
    """What to write; of each subset at most `per_subset` addresses are mirrored."""
    groups: dict[tuple[str, PortKey], Group] = {}
    for subset in endpoints.subsets:
        ports = _ports_of(subset)
        every = [(a, True) for a in subset.addresses] + [(a, False) for a in subset.notReadyAddresses]
        for address, ready in every[:per_subset]:
            family = _family(address.ip)
            if family is None:
                continue
            group = groups.setdefault((family, ports), Group(family, ports))
            endpoint = _endpoint(address, ready=ready)
            group.endpoints.setdefault(identity_of(endpoint), endpoint)
    meta = endpoints.metadata
    labels = meta.labels | {SERVICE: meta.name, MANAGED_BY: MANAGER}
    annotations = {name: value for name, value in meta.annotations.items() if name not in _NOT_COPIED}

    def new_slice(address_type: str, ports: PortKey) -> EndpointSlice:
        return EndpointSlice(
            metadata=ObjectMeta(
                generateName=f"{meta.name}-",
                namespace=meta.namespace,
                labels=dict(labels),
                annotations=dict(annotations),
                ownerReferences=[ownership.reference_to(endpoints)],
            ),
            addressType=address_type,
            ports=render_ports(ports),
        )

    def refresh(found: EndpointSlice) -> None:
        found.metadata.labels = dict(labels)
        found.metadata.annotations = dict(annotations)

    return pack([groups[key] for key in sorted(groups)], existing, new_slice, refresh, limit)
