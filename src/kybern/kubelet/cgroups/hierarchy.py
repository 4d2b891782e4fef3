"""The cgroup file system: make, limit and remove groups; read what they use.

Blocking; called in a thread by tree. Version 1 (also hybrid) has one tree a controller, version 2 one for all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path
from typing import Protocol

from kybern.kubelet.cgroups import plan
from kybern.kubelet.cgroups.plan import Limits

MOUNT = Path("/sys/fs/cgroup")
_PATIENCE = 0.5  # seconds
_PAUSE = 0.005
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


class Hierarchy(Protocol):
    """Groups are named by their path from the root, `/kubepods/...`."""

    @property
    def is_unified(self) -> bool: ...

    def ensure(self, group: str, limits: Limits) -> None:
        """Make it (and its parents), write its limits. Raises OSError."""
        ...

    def remove(self, group: str) -> None:
        """Kill what still runs inside, and remove it with all below. Raises OSError while that is impossible."""
        ...

    def exists(self, group: str) -> bool: ...

    def children(self, group: str) -> list[str]: ...

    def read(self, group: str, controller: str, file: str) -> str:
        """A file's text, "" when there is none."""
        ...


def detect(mount: Path = MOUNT) -> Hierarchy:
    """The hierarchy of this machine."""
    return Unified(mount) if (mount / "cgroup.controllers").exists() else PerController(mount)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _directories_below(directory: Path) -> list[Path]:
    """The directory and all below it, the deepest first."""
    return [Path(where) for where, _, _ in os.walk(directory, topdown=False)]


def _kill_all(directory: Path) -> None:
    for below in _directories_below(directory):
        for line in _read(below / "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)


def _remove_tree(directory: Path) -> None:
    """What was killed goes some milliseconds later; the group is busy until then."""
    until = time.monotonic() + _PATIENCE
    for below in _directories_below(directory):
        while not _is_removed(below):
            if time.monotonic() > until:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(below))
            _kill_all(below)
            time.sleep(_PAUSE)


def _is_removed(directory: Path) -> bool:
    """False when there are processes in it."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


class Unified:
    """Version 2."""

    is_unified = True

    def __init__(self, mount: Path = MOUNT) -> None:
        self._mount = mount

    def _at(self, group: str) -> Path:
        return self._mount / group.strip("/")

    def ensure(self, group: str, limits: Limits) -> None:
        at = self._mount
        for part in group.strip("/").split("/"):
            self._delegate(at)
            at = at / part
            at.mkdir(exist_ok=True)
        self._delegate(at)
        for file, value in plan.files_v2(limits):
            if (at / file).exists():
                _write(at / file, value)

    @staticmethod
    def _delegate(at: Path) -> None:
        """Let children have what this group may hand on."""
        available = _read(at / "cgroup.controllers").split()
        enabled = _read(at / "cgroup.subtree_control").split()
        for controller in _V2_CONTROLLERS:
            if controller in available and controller not in enabled:
                with contextlib.suppress(OSError):  # a group with processes cannot; its parents' limits hold
                    _write(at / "cgroup.subtree_control", f"+{controller}")

    def remove(self, group: str) -> None:
        if self._at(group).exists():
            _remove_tree(self._at(group))

    def exists(self, group: str) -> bool:
        return self._at(group).is_dir()

    def children(self, group: str) -> list[str]:
        return _subdirectories(self._at(group))

    def read(self, group: str, controller: str, file: str) -> str:
        return _read(self._at(group) / file)


class PerController:
    """Version 1. Trees that limit nothing stand beside the controllers': the runtime makes groups in them too, and the
    pod's group above its own, so that they are removed with the others."""

    is_unified = False

    def __init__(self, mount: Path = MOUNT) -> None:
        self._mount = mount
        self._trees = sorted(
            entry.name
            for entry in mount.iterdir()
            if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists()
        )
        self._controllers = [tree for tree in self._trees if tree not in ("unified", "systemd")]

    def _at(self, tree: str, group: str) -> Path:
        return self._mount / tree / group.strip("/")

    def ensure(self, group: str, limits: Limits) -> None:
        for controller in self._controllers:
            at = self._mount / controller
            for part in group.strip("/").split("/"):
                parent, at = at, at / part
                if not at.exists():
                    at.mkdir(exist_ok=True)
                    if "cpuset" in controller:
                        _inherit_cpuset(parent, at)
        for controller, file, value in plan.files_v1(limits):
            path = self._at(self._tree_of(controller), group) / file
            if path.exists():
                _write(path, value)

    def _tree_of(self, controller: str) -> str:
        """The mount of a controller, which may share one: `cpu,cpuacct`."""
        return next((c for c in self._controllers if controller in c.split(",")), controller)

    def remove(self, group: str) -> None:
        for tree in self._trees:
            at = self._at(tree, group)
            if at.exists():
                _remove_tree(at)

    def exists(self, group: str) -> bool:
        return any(self._at(tree, group).is_dir() for tree in self._trees)

    def children(self, group: str) -> list[str]:
        found: set[str] = set()
        for tree in self._trees:
            found.update(_subdirectories(self._at(tree, group)))
        return sorted(found)

    def read(self, group: str, controller: str, file: str) -> str:
        return _read(self._at(self._tree_of(controller), group) / file)


def _inherit_cpuset(parent: Path, child: Path) -> None:
    """A new cpuset is empty, and no process may enter an empty one."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        value = _read(parent / file).strip()
        if value and (child / file).exists() and not _read(child / file).strip():
            _write(child / file, value)


def _subdirectories(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in directory.iterdir() if entry.is_dir())
    except OSError:
        return []
