"""Routes to other nodes' pods."""

from kybern.api import codec
from kybern.api.core_v1 import Node
from kybern.proxy.routes import plan_routes


def node(name: str, address: str, *networks: str) -> Node:
    value = {
        "metadata": {"name": name},
        "spec": {"podCIDR": networks[0] if networks else None, "podCIDRs": list(networks)},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }
    return codec.from_json(Node, value)[0]


def test_every_other_node_with_pods_gets_a_route() -> None:
    nodes = [
        node("a", "192.0.2.1", "10.244.0.0/24"),
        node("b", "192.0.2.2", "10.244.1.0/24", "fd00::/64"),
        node("c", "192.0.2.3"),
    ]
    assert plan_routes(nodes, "a") == {"10.244.1.0/24": "192.0.2.2"}
    assert plan_routes(nodes, "b") == {"10.244.0.0/24": "192.0.2.1"}


def test_nodes_at_our_own_address_or_at_nonsense_get_none() -> None:
    nodes = [
        node("a", "192.0.2.1", "10.244.0.0/24"),
        node("simulated", "192.0.2.1", "10.244.1.0/24"),
        node("odd", "nonsense", "10.244.2.0/24"),
        node("loop", "127.0.0.1", "10.244.3.0/24"),
        node("broken", "192.0.2.9", "10.244.4.0/99"),
        node("v6", "fd00::1", "10.244.5.0/24"),
    ]
    assert plan_routes(nodes, "a") == {}
