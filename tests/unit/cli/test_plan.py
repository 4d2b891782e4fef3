from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

from kybern.cli import component
from kybern.cli.pki import Pki
from kybern.cli.plan import plan_cluster
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
