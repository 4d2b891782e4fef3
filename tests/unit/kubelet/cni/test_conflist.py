"""What the CNI plugins and nftables are told."""

import msgspec
import pytest

from kybern.kubelet.cni import conflist
from kybern.kubelet.cni.conflist import PodNetwork

NETWORK = PodNetwork(("10.244.3.0/24", "fd00:3::/64"), ("10.244.0.0/16", "fd00::/48"), "/leases")


def test_pods_get_routed_links_and_host_ports() -> None:
    value = msgspec.json.decode(conflist.render_conflist(NETWORK, 1450))
    links, ports = value["plugins"]
    assert (value["name"], links["type"], links["mtu"], links["ipMasq"]) == ("kybern", "ptp", 1450, False)
    assert links["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]
    assert links["ipam"]["dataDir"] == "/leases"
    assert ports["type"] == "portmap"
    assert ports["capabilities"] == {"portMappings": True}


def test_only_what_leaves_the_cluster_is_masqueraded() -> None:
    script = conflist.render_masquerade(NETWORK)
    assert "ip saddr { 10.244.3.0/24 } ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade" in script


def test_networks_that_overlap_are_told_once() -> None:
    network = PodNetwork(("10.244.0.0/24",), ("10.244.0.0/16", "10.0.0.0/8"))
    assert "!= { 10.0.0.0/8, 224.0.0.0/4 }" in conflist.render_masquerade(network)


def test_a_node_without_an_ipv4_network_is_an_error() -> None:
    with pytest.raises(ValueError, match="no IPv4 network"):
        PodNetwork(("fd00::/64",))
    with pytest.raises(ValueError):
        PodNetwork(("10.244.0.0/99",))
