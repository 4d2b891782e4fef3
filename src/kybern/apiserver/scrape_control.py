"""Metrics of who may do what and of the cluster's shared pools, read when somebody scrapes. Names are upstream's.

Called once by server. Neighbours: scrape has those of caches and watches, metrics what is counted on every request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.registry.registry import Objects
from kybern.apiserver.registry.strategies.addresses import addresses_of
from kybern.apiserver.registry.strategies.services import Services
from kybern.machinery import cel, metrics
from kybern.machinery.feature_gates import Gates
from kybern.machinery.metrics import Labels, Samples

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


def register_services(registry: metrics.Registry, services: Services) -> None:
    """The ports of the nodes, and how often ports and addresses were given out."""
    registry.read(
        "gauge",
        "kube_apiserver_nodeport_allocator_allocated_ports",
        "[ALPHA] Gauge measuring the number of allocated NodePorts for Services",
        (),
        lambda: [((), services.count_ports()[0])],
    )
    registry.read(
        "gauge",
        "kube_apiserver_nodeport_allocator_available_ports",
        "[ALPHA] Gauge measuring the number of available NodePorts for Services",
        (),
        lambda: [((), services.count_ports()[1])],
    )
    registry.read(
        "counter",
        "kube_apiserver_nodeport_allocator_allocation_total",
        "[ALPHA] Number of NodePort allocations",
        ("scope",),
        lambda: [((scope,), number) for scope, number in services.given_ports.items()],
    )
    registry.read(
        "counter",
        "kube_apiserver_clusterip_allocator_allocation_total",
        "[ALPHA] Number of Cluster IPs allocations",
        ("cidr", "scope"),
        services.given_addresses.items,
    )


def register_pod_security(registry: metrics.Registry, evaluations: Mapping[Labels, int]) -> None:
    """`evaluations` is kept by the plugin."""
    registry.read(
        "counter",
        "pod_security_evaluations_total",
        "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.",
        ("decision", "mode", "policy_level", "policy_version", "request_operation", "resource", "subresource"),
        evaluations.items,
    )


def register_expressions(registry: metrics.Registry) -> None:
    """What CEL takes in this process, whoever asks."""
    registry.add(cel.COMPILATIONS)
    registry.add(cel.EVALUATIONS)


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
