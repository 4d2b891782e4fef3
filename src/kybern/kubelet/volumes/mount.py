"""mount(2) and what is mounted, without a shell or a helper program.

Called by the kinds of volumes in a thread (a mount may block). Source: mount(2), umount2(2), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_MOVE, MS_SHARED = 8192, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
MAX_STACKED = 32  # mounts at one place


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Raises OSError."""
    result = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def unmount(target: str) -> None:
    """Detach what is mounted at `target`, at the latest when its last user is gone. Raises OSError."""
    if _libc().umount2(os.fsencode(target), UMOUNT_NOFOLLOW) == 0:
        return
    if _libc().umount2(os.fsencode(target), UMOUNT_NOFOLLOW | MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def mount_tmpfs(target: str, options: str) -> None:
    mount("tmpfs", target, "tmpfs", MS_NODEV | MS_NOSUID, options)


def bind(source: str, target: str, *, readonly: bool = False, recursive: bool = False) -> None:
    flags = MS_BIND | (MS_REC if recursive else 0)
    mount(source, target, "", flags)
    if readonly:
        mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


_FLAGS = {"ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "bind": MS_BIND,
          "rbind": MS_BIND | MS_REC}  # fmt: skip


def mount_with_options(source: str, target: str, kind: str, options: Iterable[str]) -> None:
    """As mount(8) would with `-o`. A read-only bind takes a second call."""
    flags, rest = 0, []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option != "rw":
            rest.append(option)
    if flags & MS_BIND:
        bind(source, target, readonly=bool(flags & MS_RDONLY), recursive=bool(flags & MS_REC))
        return
    mount(source, target, kind, flags, ",".join(rest))


@dataclass(frozen=True, slots=True)
class MountPoint:
    path: str
    kind: str
    source: str
    options: str
    is_shared: bool = False  # mounts below are passed on to its peers
    device: str = ""  # major:minor of the file system


_OCTAL = re.compile(r"\\([0-7]{3})")


def parse_mountinfo(text: str) -> list[MountPoint]:
    """The lines of /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        found.append(
            MountPoint(_unescape(fields[4]), rest[0], _unescape(rest[1]), rest[2], _is_shared(fields), fields[2])
        )
    return found


def _is_shared(fields: list[str]) -> bool:
    return any(field.startswith("shared:") for field in fields[6:])


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return os.fsdecode(_OCTAL.sub(lambda m: chr(int(m.group(1), 8)), text).encode("latin-1", "replace"))


def mounts() -> list[MountPoint]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())


def is_mounted(path: str) -> bool:
    return any(point.path == path for point in mounts())


def mounts_under(path: str) -> list[str]:
    """Mount points at or below `path`, the newest first (which is the order to unmount them in)."""
    prefix = path.rstrip("/") + "/"
    below = (p for p in reversed(mounts()) if p.path == path or p.path.startswith(prefix))
    return [p.path for p in below if _is_visible(p)]


def _is_visible(point: MountPoint) -> bool:
    """Not hidden by something that was mounted over one of its parents later."""
    try:
        facts = os.lstat(point.path)
    except OSError:
        return False
    return f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}" == point.device


def unmount_below(path: str) -> None:
    """Everything mounted at or below `path`, stacked mounts too. Raises OSError when something stays."""
    hidden: set[str] = set()
    for _ in range(MAX_STACKED):
        points = [p for p in mounts_under(path) if p not in hidden]
        if not points:
            return
        for point in points:
            try:
                unmount(point)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                hidden.add(point)  # listed, but nothing is mounted where the path leads
    raise OSError(errno.EBUSY, "still mounted", path)


def share(path: str) -> None:
    """Have mounts below `path` passed on between mount namespaces (mountPropagation), whatever holds for the root.

    Raises OSError.
    """
    path = os.path.realpath(path)
    over = [p for p in mounts() if path == p.path or path.startswith(p.path.rstrip("/") + "/")]
    nearest = max((p.path for p in over), key=len, default="")  # none in a chroot whose root is no mount
    at = next((p for p in reversed(over) if p.path == nearest), None)  # of several at one place the last one counts
    if at is not None and at.is_shared:
        return
    if at is None or at.path != path:
        _bind_to_itself(path)
    mount("", path, "", MS_SHARED | MS_REC)


def _bind_to_itself(path: str) -> None:
    below = mounts_under(path)
    if not below:
        bind(path, path)
        return
    # Volumes of pods that were there before us: they must move to the new mount, or they would be hidden below it,
    # where nobody could ever unmount them.
    aside = tempfile.mkdtemp(prefix=".share-", dir=os.path.dirname(path))
    bind(path, aside, recursive=True)
    for point in below:
        unmount(point)
    mount(aside, path, "", MS_MOVE)
    os.rmdir(aside)
