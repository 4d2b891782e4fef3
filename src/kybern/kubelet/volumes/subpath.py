"""subPath: one file or directory of a volume, fixed by a bind mount so that nobody can move it elsewhere.

A container that may write to the volume could replace the path by a link to the node's own files between our check
and the runtime's mount. So the path is opened component by component without following links, and what was opened
is bind-mounted to a place only the kubelet writes to. Links that stay inside the volume are resolved first.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kybern.kubelet.volumes import mount


def prepare(volume: str, sub_path: str, target: Path) -> str:
    """Bind `sub_path` of the volume at `target` and return that. Blocking; raises OSError, ValueError."""
    if os.path.isabs(sub_path) or ".." in Path(sub_path).parts:
        raise ValueError(f"subPath {sub_path!r} must be a relative path without '..'")
    base = os.path.realpath(volume)
    full = os.path.realpath(os.path.join(base, sub_path))
    _check_inside(base, full)
    if not os.path.exists(full):
        _make_directories(base, full)
    descriptor = _open_inside(base, full)
    try:
        _release(target)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o640))
        mount.bind(f"/proc/self/fd/{descriptor}", str(target), recursive=True)
    finally:
        os.close(descriptor)
    return str(target)


def _check_inside(base: str, full: str) -> None:
    if full != base and not full.startswith(base.rstrip("/") + "/"):
        raise ValueError(f"subPath {full!r} is not inside the volume")


def _make_directories(base: str, full: str) -> None:
    """Missing directories, with the permissions of the volume's root."""
    mode = stat.S_IMODE(os.stat(base).st_mode)
    missing: list[str] = []
    at = full
    while at != base and not os.path.lexists(at):
        missing.append(at)
        at = os.path.dirname(at)
    parent = _open_inside(base, at)
    try:
        for path in reversed(missing):
            name = os.path.basename(path)
            os.mkdir(name, dir_fd=parent)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            os.fchmod(made, mode)
            os.close(parent)
            parent = made
    finally:
        os.close(parent)


def _open_inside(base: str, full: str) -> int:
    """A descriptor of `full`, reached from `base` without following any link."""
    at = os.open(base, os.O_PATH | os.O_DIRECTORY)
    if full == base:
        return at
    try:
        parts = os.path.relpath(full, base).split("/")
        for part in parts:
            below = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
            if stat.S_ISLNK(os.fstat(at).st_mode):
                raise ValueError(f"subPath {full!r} has a link in it that was put there just now")
        return at
    except BaseException:
        os.close(at)
        raise


def _release(target: Path) -> None:
    """Undo the mount of an earlier instance of the container."""
    mount.unmount_below(str(target))
    if target.is_dir():
        target.rmdir()
    elif target.exists():
        target.unlink()
