from __future__ import annotations

import dataclasses
import importlib
import ipaddress
from pathlib import Path

import pytest

from kybern.cli import component
from kybern.cli.pki import Pki
from kybern.cli.plan import plan_cluster, plan_node_ranges
from kybern.cli.settings import Settings

SETTINGS = Settings(data_dir="/d", run_dir="/r", node_name="n", node_ip="192.0.2.7")
PLAN = plan_cluster(SETTINGS, Pki(Path("/d/pki"), Path("/d/kubeconfig")), "/d/containerd/config.toml")


def test_the_runtime_starts_first_and_every_component_once() -> None:
    assert [c.name for c in PLAN.children] == [
        "containerd", "apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "dns",
    ]  # fmt: skip


def test_every_flag_of_the_plan_is_an_option_of_its_component() -> None:
    for child in PLAN.children[1:]:
        options = importlib.import_module(component.COMPONENTS[child.name]).Options
        known = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options)}
        flags = {w for w in child.command if w.startswith("--")}
        assert {f.replace("--no-", "--") for f in flags} <= known, child.name


def test_every_component_has_a_command_with_help() -> None:
    for name in component.COMPONENTS:
        made = component.command(name)
        assert made.help and {"--log-level", "--kubeconfig", "--store"} & {o for p in made.params for o in p.opts}


def test_simulated_nodes_are_one_more_process() -> None:
    settings = Settings(data_dir="/d", run_dir="/r", node_name="n", node_ip="192.0.2.7", simulated_nodes=7)
    plan = plan_cluster(settings, Pki(Path("/d/pki"), Path("/d/kubeconfig")), "/d/containerd/config.toml")
    child = plan.children[-1]
    assert child.name == "simulated-nodes" and child.command[child.command.index("--nodes") + 1] == "7"
    options = importlib.import_module(component.COMPONENTS[child.name]).Options
    known = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options)}
    assert {w for w in child.command if w.startswith("--")} <= known


@pytest.mark.parametrize(("nodes", "pods"), [(1, 0), (255, 110), (256, 10), (5001, 10), (5001, 110)])
def test_every_node_gets_a_range_that_holds_its_pods(nodes: int, pods: int) -> None:
    cidr, size = plan_node_ranges(nodes, pods)
    assert 1 << (size - ipaddress.ip_network(cidr).prefixlen) > nodes and 1 << (32 - size) > pods


def test_a_usual_cluster_keeps_its_usual_addresses() -> None:
    assert plan_node_ranges(2, 10) == (SETTINGS.cluster_cidr, SETTINGS.node_cidr_mask_size)


def test_more_nodes_than_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="no pod addresses"):
        plan_node_ranges(100_000, 110)
