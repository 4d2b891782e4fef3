"""Metrics of who may do what and of the cluster's shared pools, read when somebody scrapes. Names are upstream's.

Called once by server. Neighbours: scrape has those of caches and watches, metrics what is counted on every request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.registry.registry import Objects
from kybern.apiserver.registry.strategies.addresses import addresses_of
from kybern.machinery import metrics
from kybern.machinery.feature_gates import Gates
from kybern.machinery.metrics import Samples

_TYPES = {"node": "Node", "rbac": "RBAC"}


def register(
    registry: metrics.Registry, objects: Objects, gates: Gates, authorizers: Authorizers, allowed: Mapping[str, int]
) -> None:
    """Add all of them. `allowed`: requests by the authorizer that allowed them."""
    registry.read(
        "gauge",
        "kubernetes_feature_enabled",
        "[BETA] This metric records the data about the stage and enablement of a k8s feature.",
        ("name", "stage"),
        gates.rows,
    )
    registry.read(
        "gauge",
        "aggregator_unavailable_apiservice",
        "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
        ("name",),
        lambda: _unavailable(objects),
    )
    registry.read(
        "counter",
        "apiserver_authorization_decisions_total",
        "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and "
        "decision.",
        ("decision", "name", "type"),
        lambda: [
            (("allowed", name, _TYPES.get(name, "Webhook")), number)
            for name, number in allowed.items()
            if name in _TYPES or any(name == webhook.name for webhook in authorizers.webhooks)
        ],
    )
    registry.read(
        "counter",
        "apiserver_authorization_webhook_evaluations_total",
        "[ALPHA] Number of round-trips to authorization webhooks.",
        ("name", "result"),
        lambda: [((w.name, result), number) for w in authorizers.webhooks for result, number in w.results.items()],
    )
    registry.read(
        "gauge",
        "kube_apiserver_clusterip_allocator_allocated_ips",
        "[ALPHA] Gauge measuring the number of allocated IPs for Services",
        ("cidr",),
        lambda: [((cidr,), allocated) for cidr, (allocated, _) in _addresses(objects).items()],
    )
    registry.read(
        "gauge",
        "kube_apiserver_clusterip_allocator_available_ips",
        "[ALPHA] Gauge measuring the number of available IPs for Services",
        ("cidr",),
        lambda: [((cidr,), available) for cidr, (_, available) in _addresses(objects).items()],
    )


def _unavailable(objects: Objects) -> Samples:
    for service in objects.list("apiservices.apiregistration.k8s.io"):
        is_available = any(c.type == "Available" and c.status == "True" for c in service.status.conditions)
        yield (service.metadata.name,), 0.0 if is_available else 1.0


def _addresses(objects: Objects) -> dict[str, tuple[int, int]]:
    """(allocated, available) by range. A range's own address and, of IPv4, its broadcast are never given out."""
    ranges = [
        network
        for found in objects.list("servicecidrs.networking.k8s.io")
        for network in map(ipaddress.ip_network, found.spec.cidrs)
    ]
    taken = dict.fromkeys(ranges, 0)
    for service in objects.list("services") if taken else ():
        for ip in map(ipaddress.ip_address, addresses_of(service.spec)):
            for network in ranges:
                if ip in network:
                    taken[network] += 1
    return {
        str(network): (number, max(0, network.num_addresses - (2 if network.version == 4 else 1) - number))
        for network, number in taken.items()
    }
