from __future__ import annotations

import pytest

from kybern.simulated import shape
from kybern.simulated.shape import Shape


def test_names_sort_as_their_numbers() -> None:
    names = Shape(1001).names()
    assert names == sorted(names) and len(set(names)) == 1001 and names[7] == "simulated-0007"


def test_addresses_differ_and_end_with_the_network() -> None:
    addresses = {Shape(5000).address(i) for i in range(5000)}
    assert len(addresses) == 5000 and "198.18.0.1" in addresses
    with pytest.raises(ValueError, match="no address"):
        Shape(1).address(131_072)


def test_nodes_are_spread_over_zones() -> None:
    zones = [Shape(9).identity(i).labels["topology.kubernetes.io/zone"] for i in range(9)]
    assert {zones.count(zone) for zone in zones} == {3}


def test_real_workloads_are_kept_away() -> None:
    assert Shape(3).identity(0).taints == (shape.TAINT,) and shape.TAINT.effect == "NoSchedule"
