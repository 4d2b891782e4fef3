"""The cgroup file systems, on directories that look like them."""

import os
import secrets
import subprocess

import pytest

from kybern.kubelet.cgroups import hierarchy
from kybern.kubelet.cgroups.plan import Limits


def controller(root, name, *files):
    (root / name).mkdir(parents=True)
    (root / name / "cgroup.procs").write_text("")
    for file, value in files:
        (root / name / file).write_text(value)


@pytest.fixture
def version_one(tmp_path):
    controller(tmp_path, "cpu,cpuacct")
    controller(tmp_path, "memory")
    controller(tmp_path, "cpuset", ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"))
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    return tmp_path


def test_the_version_is_told_by_a_file(tmp_path, version_one):
    assert not hierarchy.detect(version_one).is_unified
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    assert hierarchy.detect(tmp_path).is_unified


def test_version_one_makes_the_group_in_every_controller(version_one):
    groups = hierarchy.PerController(version_one)
    groups.ensure("/kubepods/podu", Limits())
    for name in ("cpu,cpuacct", "memory", "cpuset"):
        assert (version_one / name / "kubepods/podu").is_dir()
    assert groups.exists("/kubepods/podu")
    assert groups.children("/kubepods") == ["podu"]


@pytest.mark.parametrize("tree", ["systemd", "unified"])
def test_version_one_makes_no_group_where_nothing_is_limited_and_removes_what_the_runtime_made_there(version_one, tree):
    controller(version_one, tree)
    groups = hierarchy.PerController(version_one)
    groups.ensure("/kubepods/podu", Limits())
    assert not (version_one / tree / "kubepods").exists()
    (version_one / tree / "kubepods/podu/container").mkdir(parents=True)
    groups.remove("/kubepods/podu")
    assert not (version_one / tree / "kubepods/podu").exists()
    assert not groups.exists("/kubepods/podu")


def test_version_one_finds_a_group_that_is_left_only_where_nothing_is_limited(version_one):
    controller(version_one, "systemd")
    (version_one / "systemd/kubepods/podu").mkdir(parents=True)
    groups = hierarchy.PerController(version_one)
    assert groups.exists("/kubepods/podu")
    assert groups.children("/kubepods") == ["podu"]


def test_version_one_writes_limits_where_controllers_share_a_mount(version_one):
    groups = hierarchy.PerController(version_one)
    groups.ensure("/g", Limits())
    (version_one / "cpu,cpuacct/g/cpu.shares").write_text("")
    (version_one / "memory/g/memory.limit_in_bytes").write_text("")
    groups.ensure("/g", Limits(cpu_shares=7, memory=9))
    assert groups.read("/g", "cpu", "cpu.shares") == "7"
    assert groups.read("/g", "memory", "memory.limit_in_bytes") == "9"
    assert groups.read("/g", "memory", "missing") == ""


def test_version_two_delegates_controllers_downwards(tmp_path):
    for where in (tmp_path, tmp_path / "kubepods"):
        where.mkdir(exist_ok=True)
        (where / "cgroup.controllers").write_text("cpu memory pids")
        (where / "cgroup.subtree_control").write_text("")
    groups = hierarchy.Unified(tmp_path)
    groups.ensure("/kubepods/podu", Limits(cpu_shares=2))
    assert (tmp_path / "kubepods/podu").is_dir()
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+pids")  # the kernel would keep all three
    groups.remove("/kubepods/podu")
    assert not groups.exists("/kubepods/podu")


def test_a_group_is_removed_with_all_below_it(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("")
    groups = hierarchy.Unified(tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    groups.remove("/a")
    assert not (tmp_path / "a").exists()
    groups.remove("/a")


@pytest.mark.root
@pytest.mark.skipif(not os.access(hierarchy.MOUNT, os.W_OK) or os.geteuid() != 0, reason="needs cgroups")
def test_a_group_in_which_something_runs_is_removed_at_the_first_asking():
    groups = hierarchy.detect()
    name = f"kybern-t-{secrets.token_hex(3)}"
    groups.ensure(f"/{name}/below", Limits())
    process = subprocess.Popen(["sleep", "60"])
    try:
        for entry in (hierarchy.MOUNT / name, *hierarchy.MOUNT.glob(f"*/{name}")):
            if entry.is_dir():
                (entry / "below/cgroup.procs").write_text(str(process.pid))
        groups.remove(f"/{name}")
        assert not groups.exists(f"/{name}")
        assert process.wait(10) == -9
    finally:
        process.kill()
        process.wait()
        groups.remove(f"/{name}")
