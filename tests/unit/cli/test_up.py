from __future__ import annotations

from pathlib import Path

import click
import pytest

from kybern.cli import settings
from kybern.cli.settings import Settings
from kybern.cli.up import _settle_simulated


def cluster(folder: Path, **fields: int) -> Settings:
    return Settings(data_dir=str(folder), run_dir=str(folder / "run"), node_name="n", node_ip="192.0.2.7", **fields)


def test_simulated_nodes_are_remembered_until_others_are_asked_for(tmp_path: Path) -> None:
    made = _settle_simulated(cluster(tmp_path), 20, 3)
    assert (made.simulated_nodes, made.simulated_pods_per_node) == (20, 3)
    assert settings.load(str(tmp_path)) == made
    assert _settle_simulated(made, None, None) == made
    assert _settle_simulated(made, 0, None).simulated_nodes == 0


def test_a_new_cluster_gets_addresses_for_as_many_nodes_as_it_has(tmp_path: Path) -> None:
    few, many = _settle_simulated(cluster(tmp_path), 20, 10), _settle_simulated(cluster(tmp_path), 5000, 10)
    assert _settle_simulated(many, 3, 1).cluster_cidr == many.cluster_cidr  # more room than it needs is no reason
    assert few.cluster_cidr == cluster(tmp_path).cluster_cidr and many.cluster_cidr != few.cluster_cidr


def test_a_cluster_with_state_keeps_its_addresses(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert _settle_simulated(cluster(tmp_path), 200, 10).simulated_nodes == 200
    with pytest.raises(click.ClickException, match="reset"):
        _settle_simulated(cluster(tmp_path), 5000, 10)


def test_more_nodes_than_addresses_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="no pod addresses"):
        _settle_simulated(cluster(tmp_path), 100_000, 10)
