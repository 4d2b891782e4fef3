"""Which endpoints serve a port: conditions, places, hints."""

from typing import Any

from kybern.api import codec
from kybern.api.discovery_v1 import EndpointSlice
from kybern.proxy import endpoints
from kybern.proxy.endpoints import Node, Target

HERE = Node("here", frozenset({"192.0.2.1"}), "zone-a")


def piece(*members: dict[str, Any], port: int | None = 8080, **other: Any) -> EndpointSlice:
    value = {
        "metadata": {"name": "web-1", "namespace": "default"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": list(members),
        **other,
    }
    return codec.from_json(EndpointSlice, value)[0]


def at(address: str, node: str = "there", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def usable(*pieces: EndpointSlice, node: Node = HERE) -> endpoints.Usable:
    return endpoints.choose(endpoints.collect("http", "TCP", pieces, node), node)


def ips(targets: tuple[Target, ...]) -> list[str]:
    return [target.ip for target in targets]


def test_an_endpoint_without_conditions_is_ready() -> None:
    assert usable(piece(at("10.0.0.1"))).cluster == (Target("10.0.0.1", 8080),)


def test_endpoints_that_are_not_ready_get_nothing() -> None:
    found = usable(piece(at("10.0.0.1", ready=False), at("10.0.0.2", ready=False, serving=True)))
    assert found.cluster == () and not found.exists_elsewhere


def test_draining_endpoints_serve_only_while_nothing_is_ready() -> None:
    draining = at("10.0.0.1", ready=False, serving=True, terminating=True)
    assert ips(usable(piece(draining)).cluster) == ["10.0.0.1"]
    assert ips(usable(piece(draining, at("10.0.0.2", ready=True))).cluster) == ["10.0.0.2"]


def test_a_terminating_endpoint_that_does_not_serve_is_never_used() -> None:
    assert usable(piece(at("10.0.0.1", ready=False, serving=False, terminating=True))).cluster == ()


def test_draining_endpoints_of_this_node_serve_though_ready_ones_are_elsewhere() -> None:
    found = usable(
        piece(at("10.0.0.1", "here", ready=False, serving=True, terminating=True), at("10.0.0.2", ready=True))
    )
    assert ips(found.local) == ["10.0.0.1"]
    assert ips(found.cluster) == ["10.0.0.2"]
    assert found.local_ready == frozenset()


def test_ports_are_found_by_name_and_protocol() -> None:
    assert endpoints.collect("http", "UDP", [piece(at("10.0.0.1"))], HERE) == []
    assert endpoints.collect("", "TCP", [piece(at("10.0.0.1"))], HERE) == []
    unnamed = piece(at("10.0.0.1"), ports=[{"port": 80}])
    assert [c.target for c in endpoints.collect("", "TCP", [unnamed], HERE)] == [Target("10.0.0.1", 80)]


def test_a_port_without_number_is_no_target() -> None:
    assert usable(piece(at("10.0.0.1"), port=None)).cluster == ()


def test_an_address_in_two_slices_counts_once_and_as_ready_if_one_says_so() -> None:
    found = usable(piece(at("10.0.0.1", ready=False)), piece(at("10.0.0.1", ready=True)))
    assert ips(found.cluster) == ["10.0.0.1"]


def test_slices_may_send_one_port_to_different_numbers() -> None:
    found = usable(piece(at("10.0.0.1"), port=80), piece(at("10.0.0.2"), port=81))
    assert found.cluster == (Target("10.0.0.1", 80), Target("10.0.0.2", 81))


def test_addresses_that_are_not_ipv4_are_left_out() -> None:
    assert usable(piece(at("fd00::1")), piece(at("nonsense")), piece({"addresses": []})).cluster == ()
    assert usable(piece(at("10.0.0.1"), addressType="FQDN")).cluster == ()


def hinted(address: str, zone: str = "", node: str = "") -> dict[str, Any]:
    hints: dict[str, Any] = {"forZones": [{"name": zone}]} if zone else {}
    if node:
        hints["forNodes"] = [{"name": node}]
    return {"addresses": [address], "hints": hints}


def test_hints_keep_traffic_in_the_zone() -> None:
    assert ips(usable(piece(hinted("10.0.0.1", "zone-a"), hinted("10.0.0.2", "zone-b"))).cluster) == ["10.0.0.1"]


def test_hints_count_only_if_all_endpoints_have_one_and_one_is_for_us() -> None:
    assert len(usable(piece(hinted("10.0.0.1", "zone-a"), hinted("10.0.0.2"))).cluster) == 2
    assert len(usable(piece(hinted("10.0.0.1", "zone-b"), hinted("10.0.0.2", "zone-c"))).cluster) == 2


def test_hints_for_nodes_go_before_hints_for_zones() -> None:
    found = usable(piece(hinted("10.0.0.1", "zone-a", "here"), hinted("10.0.0.2", "zone-a", "there")))
    assert ips(found.cluster) == ["10.0.0.1"]
    found = usable(piece(hinted("10.0.0.1", "zone-a", "x"), hinted("10.0.0.2", "zone-b", "y")))
    assert ips(found.cluster) == ["10.0.0.1"]


def test_the_order_of_slices_does_not_matter() -> None:
    a, b = piece(at("10.0.0.2")), piece(at("10.0.0.1"))
    assert usable(a, b) == usable(b, a)
