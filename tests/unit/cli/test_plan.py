from __future__ import annotations

import dataclasses
import importlib
import ipaddress
from pathlib import Path

import msgspec
import pytest

from kybern.cli import component
from kybern.cli.plan import plan_cluster, plan_node_ranges
from kybern.cli.settings import Settings
from kybern.pki import Pki

SETTINGS = Settings(data_dir="/d", run_dir="/r", node_name="n", node_ip="192.0.2.7")
PKI = Pki(Path("/d/pki"), Path("/d/kubeconfig"))
PLAN = plan_cluster(SETTINGS, PKI)
THREE = plan_cluster(msgspec.structs.replace(SETTINGS, nodes=3), PKI)


def test_the_runtime_starts_first_and_every_component_once() -> None:
    assert [c.name for c in PLAN.children] == [
        "containerd", "apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "dns",
    ]  # fmt: skip


def test_more_nodes_have_their_own_daemons_in_their_own_namespaces() -> None:
    more = {c.name: c.command for c in THREE.children[len(PLAN.children) :]}
    assert THREE.children[: len(PLAN.children)] == PLAN.children
    assert list(more) == [f"{daemon}@n-{n}" for n in (2, 3) for daemon in ("containerd", "kubelet", "proxy")]
    for name, command in more.items():
        node = name.partition("@")[2]
        assert command[:3] == ("nsenter", f"--net=/run/netns/kybern-{node}", "--")
    told = " ".join(more["kubelet@n-3"])
    assert "--node-ip 10.245.0.3 " in told and "--kubeconfig /d/kubeconfig/kubelet-n-3.conf " in told
    assert "unix:///r/nodes/n-3/containerd/containerd.sock" in told


def test_no_two_nodes_share_a_place_on_the_machine() -> None:
    flags = (
        "--root-dir",
        "--pod-manifest-path",
        "--pod-logs-dir",
        "--cni-conf-dir",
        "--cni-lease-dir",
        "--cgroup-root",
    )
    kubelets = [c.command for c in THREE.children if c.name.startswith("kubelet")]
    for flag in flags:
        values = [k[k.index(flag) + 1] for k in kubelets if flag in k]
        assert len(values) == len(set(values)) >= 2, flag


def test_every_flag_of_the_plan_is_an_option_of_its_component() -> None:
    for child in THREE.children:
        component_name = child.name.partition("@")[0]
        if component_name == "containerd":
            continue
        options = importlib.import_module(component.COMPONENTS[component_name]).Options
        known = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options)}
        words = child.command[child.command.index("-m") :]
        flags = {w for w in words if w.startswith("--")}
        assert {f.replace("--no-", "--") for f in flags} <= known, child.name


def test_every_component_has_a_command_with_help() -> None:
    for name in component.COMPONENTS:
        made = component.command(name)
        assert made.help and {"--log-level", "--kubeconfig", "--store"} & {o for p in made.params for o in p.opts}


def test_simulated_nodes_are_one_more_process() -> None:
    settings = Settings(data_dir="/d", run_dir="/r", node_name="n", node_ip="192.0.2.7", simulated_nodes=7)
    plan = plan_cluster(settings, PKI)
    child = plan.children[-1]
    assert child.name == "simulated-nodes" and child.command[child.command.index("--nodes") + 1] == "7"
    options = importlib.import_module(component.COMPONENTS[child.name]).Options
    known = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options)}
    assert {w for w in child.command if w.startswith("--")} <= known


@pytest.mark.parametrize(("nodes", "pods"), [(1, 0), (255, 110), (256, 10), (511, 10), (5001, 10), (5001, 250)])
def test_every_node_gets_a_range_that_holds_its_pods(nodes: int, pods: int) -> None:
    cidr, size = plan_node_ranges(nodes, pods)
    assert 1 << (size - ipaddress.ip_network(cidr).prefixlen) > nodes and 1 << (32 - size) > max(pods, 110)


def test_a_usual_cluster_keeps_its_usual_addresses() -> None:
    assert plan_node_ranges(2, 10) == (SETTINGS.cluster_cidr, SETTINGS.node_cidr_mask_size)


def test_more_nodes_than_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="no pod addresses"):
        plan_node_ranges(100_000, 110)
