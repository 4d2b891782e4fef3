"""What is run to make the network between nodes."""

from __future__ import annotations

import ipaddress
import itertools

from kybern.cli import node_network
from kybern.cli.settings import Settings

SETTINGS = Settings(node_name="n", node_ip="192.0.2.7", nodes=3)


def test_names_of_interfaces_fit_into_the_kernel() -> None:
    nodes = SETTINGS.local_nodes()
    commands = [*node_network.plan_hub(SETTINGS), *node_network.plan_node(SETTINGS, nodes[2], 200)]
    for command in commands:
        for word, name in itertools.pairwise(command):
            assert word not in ("dev", "name", "master") or len(name) < 16, command


def test_nodes_have_addresses_of_their_own_on_one_network() -> None:
    host, *others = SETTINGS.local_nodes()
    assert host.address == "192.0.2.7" and host.is_host and host.inside() == ()
    network = ipaddress.ip_network(SETTINGS.node_network)
    addresses = [ipaddress.ip_address(node.address) for node in others]
    assert len(set(addresses)) == 2 and all(a in network and a != network[1] for a in addresses)


def test_a_node_reaches_the_machine_itself_without_a_gateway() -> None:
    """Else the kernel would refuse it as the gateway to its pods."""
    commands = node_network.plan_node(SETTINGS, SETTINGS.local_nodes()[1], 2)
    assert ("ip", "-n", "kybern-n-2", "route", "add", "192.0.2.7/32", "dev", "eth0") in commands


def test_what_stays_in_the_cluster_is_not_masqueraded() -> None:
    script = node_network.render_masquerade(SETTINGS)
    assert "ip saddr 10.245.0.0/24 ip daddr != { 10.245.0.0/24, 10.244.0.0/16 } masquerade" in script


def test_a_network_that_is_in_use_is_found() -> None:
    assert node_network.overlap("10.245.0.0/24", ["10.96.0.0/12", "10.245.0.128/25"]) == "10.245.0.128/25"
    assert node_network.overlap("10.245.0.0/24", ["10.244.0.0/16", "192.0.2.1"]) == ""


def test_one_node_needs_no_network() -> None:
    assert node_network.ensure(Settings(node_name="n", node_ip="192.0.2.7")) is False
