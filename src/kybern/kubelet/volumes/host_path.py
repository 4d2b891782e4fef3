"""hostPath: a file or directory of the node, checked against the type the pod expects."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from kybern.kubelet.volumes.contract import HostVolume, Request

_CHECKS = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "FileOrCreate": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


async def set_up(request: Request) -> HostVolume:
    source = request.volume.hostPath
    assert source is not None
    problem = await asyncio.to_thread(check, source.path, source.type or "")
    if problem:
        raise request.failed(problem)
    return HostVolume(request.volume.name, source.path)


def check(path: str, kind: str) -> str:
    """What is wrong with the path; creates it where its type says so. Blocking."""
    if not kind:
        return ""
    if kind not in _CHECKS:
        return f"{kind} is an invalid volume type"
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        try:
            if kind == "DirectoryOrCreate":
                Path(path).mkdir(parents=True)
                os.chmod(path, 0o755)
                return ""
            if kind == "FileOrCreate":
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
                return ""
        except OSError as error:
            return f"hostPath {path} cannot be created: {error.strerror}"
        return f"hostPath type check failed: {path} {_CHECKS[kind][1]}"
    except OSError as error:
        return f"hostPath {path} cannot be checked: {error.strerror}"
    holds, otherwise = _CHECKS[kind]
    return "" if holds(facts.st_mode) else f"hostPath type check failed: {path} {otherwise}"
