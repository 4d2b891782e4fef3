"""What Services are given, keep and give back. The behaviour is that of a v1.36 API server."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.api.core_v1 import Service, ServicePort, ServiceSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.machinery.status import ApiError
from kybern.testing.writes import Refused, World


def service(name: str = "web", **spec: Any) -> Service:
    ports = spec.pop("ports", [ServicePort(port=80)])
    return Service(metadata=ObjectMeta(name=name, namespace="default"), spec=ServiceSpec(ports=ports, **spec))


def test_a_service_gets_an_address_of_its_family() -> None:
    spec = World().post(service()).spec
    assert spec.clusterIPs == [spec.clusterIP]
    assert spec.clusterIP.startswith("10.")
    assert (spec.ipFamilies, spec.ipFamilyPolicy) == (["IPv4"], "SingleStack")
    assert spec.ports[0].nodePort is None


def test_addresses_differ_and_one_that_was_asked_for_is_given() -> None:
    world = World()
    found = {world.post(service(f"s{i}")).spec.clusterIP for i in range(50)}
    assert len(found) == 50
    assert world.post(service("dns", clusterIP="10.96.0.10")).spec.clusterIPs == ["10.96.0.10"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.96.0.10", "provided IP is already allocated"),
        ("1.2.3.4", "the provided network does not match the current range"),
        ("10.96.0.0", "the provided network does not match the current range"),
        ("10.111.255.255", "the provided network does not match the current range"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(address: str, why: str) -> None:
    world = World()
    world.post(service("dns", clusterIP="10.96.0.10"))
    with pytest.raises(ApiError) as caught:
        world.post(service("other", clusterIP=address))
    assert caught.value.code == 422
    assert caught.value.status.message == (
        f'Service "other" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: '
        f"failed to allocate IP {address}: {why}"
    )


def test_an_address_is_free_again_after_a_deletion_and_after_a_failed_write() -> None:
    world = World()
    first = world.post(service("a", clusterIP="10.96.0.10"))
    world.remove(first)
    world.post(service("b", clusterIP="10.96.0.10"), keep=False)
    assert world.post(service("c", clusterIP="10.96.0.10")).spec.clusterIP == "10.96.0.10"


def test_writes_under_way_do_not_get_the_same_number() -> None:
    world = World(service_cidr="10.0.0.0/29")  # six addresses
    strategy = world.strategy(service())
    import asyncio

    pending = [service(f"s{i}") for i in range(6)]
    for one in pending:
        strategy.apply_defaults(one)
        asyncio.run(strategy.allocate(one, None, dry_run=False))
    assert len({one.spec.clusterIP for one in pending}) == 6
    with pytest.raises(ApiError) as caught:
        world.post(service("late"))
    assert caught.value.status.message == "Internal error occurred: failed to allocate a serviceIP: range is full"
    # What never showed up is forgotten in the end.
    world.advance(61)
    assert world.post(service("late")).spec.clusterIP


def test_headless_services_get_no_address() -> None:
    world = World()
    with_selector = world.post(service("a", clusterIP="None", selector={"a": "b"})).spec
    assert (with_selector.clusterIPs, with_selector.ipFamilies) == (["None"], ["IPv4"])
    without = world.post(service("b", clusterIP="None")).spec
    assert (without.ipFamilies, without.ipFamilyPolicy) == (["IPv4", "IPv6"], "RequireDualStack")


def test_node_ports_are_given_and_may_be_asked_for() -> None:
    world = World()
    given = world.post(service("a", type="NodePort")).spec.ports[0].nodePort
    assert 30000 <= given <= 32767
    assert (
        world.post(service("b", type="NodePort", ports=[ServicePort(port=80, nodePort=30500)])).spec.ports[0].nodePort
    )
    for number, why in (
        (30500, "provided port is already allocated"),
        (29999, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ):
        with pytest.raises(ApiError, match=why):
            world.post(service("c", type="NodePort", ports=[ServicePort(port=80, nodePort=number)]))


def test_one_number_serves_both_protocols_of_a_port() -> None:
    ports = [ServicePort(name="u", port=53, protocol="UDP"), ServicePort(name="t", port=53, protocol="TCP")]
    spec = World().post(service(type="NodePort", ports=ports)).spec
    assert spec.ports[0].nodePort == spec.ports[1].nodePort


def test_a_load_balancer_may_do_without_node_ports() -> None:
    world = World()
    created = world.post(service(type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert created.spec.ports[0].nodePort is None

    def want_them(new: Service) -> None:
        new.spec.allocateLoadBalancerNodePorts = True

    assert world.put(created, want_them).spec.ports[0].nodePort


def test_local_traffic_needs_a_health_check_port_that_stays() -> None:
    world = World()
    created = world.post(service(type="LoadBalancer", externalTrafficPolicy="Local"))
    port = created.spec.healthCheckNodePort
    assert 30000 <= port <= 32767

    def other(new: Service) -> None:
        new.spec.healthCheckNodePort = 31999

    with pytest.raises(Refused, match="field is immutable"):
        world.put(created, other)

    def everywhere(new: Service) -> None:
        new.spec.externalTrafficPolicy = "Cluster"

    assert world.put(created, everywhere).spec.healthCheckNodePort is None


def test_an_update_that_leaves_numbers_out_keeps_them() -> None:
    world = World()
    created = world.post(service(type="NodePort"))
    address, port = created.spec.clusterIP, created.spec.ports[0].nodePort

    def forget(new: Service) -> None:
        new.spec.clusterIP, new.spec.clusterIPs, new.spec.ipFamilies = "", [], []
        new.spec.ports[0].nodePort = None

    updated = world.put(created, forget).spec
    assert (updated.clusterIP, updated.ports[0].nodePort, updated.ipFamilies) == (address, port, ["IPv4"])


def test_an_address_may_not_change() -> None:
    world = World()
    created = world.post(service())

    def move(new: Service) -> None:
        new.spec.clusterIP, new.spec.clusterIPs = "10.96.8.8", ["10.96.8.8"]

    with pytest.raises(Refused, match="may not change once set"):
        world.put(created, move)


def test_a_change_of_type_gives_back_what_the_new_one_does_not_need() -> None:
    world = World()
    created = world.post(service(type="NodePort", ports=[ServicePort(port=80, nodePort=30500)], clusterIP="10.96.0.10"))

    def inside(new: Service) -> None:
        new.spec.type = "ClusterIP"

    updated = world.put(created, inside)
    assert updated.spec.ports[0].nodePort is None
    assert updated.spec.externalTrafficPolicy is None
    assert world.post(service("b", type="NodePort", ports=[ServicePort(port=80, nodePort=30500)]))

    def elsewhere(new: Service) -> None:
        new.spec.type, new.spec.externalName = "ExternalName", "example.com"

    outside = world.put(updated, elsewhere).spec
    assert (outside.clusterIP, outside.clusterIPs, outside.ipFamilies, outside.ipFamilyPolicy) == (None, [], [], None)
    assert outside.internalTrafficPolicy is None
    assert world.post(service("c", clusterIP="10.96.0.10"))


def test_another_family_is_refused_on_a_cluster_without_it() -> None:
    world = World()
    with pytest.raises(Refused, match='"IPv6": not configured on this cluster'):
        world.post(service(ipFamilies=["IPv6"]))
    with pytest.raises(Refused, match="this cluster is not configured for dual-stack services"):
        world.post(service(ipFamilyPolicy="RequireDualStack"))
    assert world.post(service(ipFamilyPolicy="PreferDualStack")).spec.ipFamilies == ["IPv4"]


def test_status_is_the_controllers() -> None:
    world = World()
    created = world.post(service(type="LoadBalancer"))

    def assign(new: Service) -> None:
        new.spec.selector = {"ignored": "x"}
        new.status.loadBalancer.ingress = [type_of_ingress(ip="1.2.3.4", ipMode="VIP")]

    updated = world.put(created, assign, subresource="status")
    assert updated.spec.selector == {}
    assert updated.status.loadBalancer.ingress[0].ip == "1.2.3.4"
    again = world.put(updated, lambda new: setattr(new, "status", type(new.status)()))
    assert again.status.loadBalancer.ingress[0].ip == "1.2.3.4"


def type_of_ingress(**fields: Any) -> Any:
    from kybern.api.core_v1 import LoadBalancerIngress

    return LoadBalancerIngress(**fields)
