"""emptyDir: a directory that lives as long as its pod, on disk, in memory or on huge pages."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kybern.kubelet import resources
from kybern.kubelet.volumes import mount, ownership
from kybern.kubelet.volumes.contract import HostVolume, Request
from kybern.machinery import quantity


async def set_up(request: Request) -> HostVolume:
    source = request.volume.emptyDir
    medium = source.medium or "" if source else ""
    limit = quantity.value(source.sizeLimit) if source and source.sizeLimit else 0
    directory = request.directory("kubernetes.io/empty-dir")
    try:
        await asyncio.to_thread(_make, directory, medium, _size(request, limit), request.fs_group)
    except OSError as error:
        raise request.failed(str(error)) from None
    return HostVolume(request.volume.name, str(directory))


def _size(request: Request, limit: int) -> int:
    """Bytes a memory-backed directory may hold: the least of its limit, the pod's memory and the node's."""
    bounds = [limit, quantity.value(resources.pod_limits(request.pod).get("memory", "0"))]
    bounds.append(quantity.value(request.node.allocatable.get("memory", "0")))
    return min((b for b in bounds if b > 0), default=0)


def _make(directory: Path, medium: str, size: int, group: int | None) -> None:
    made = not directory.is_dir()
    directory.mkdir(parents=True, exist_ok=True)
    if medium == "Memory" and not mount.is_mounted(str(directory)):
        mount.mount_tmpfs(str(directory), f"mode=0777,size={size}" if size else "mode=0777")
        made = True
    elif medium.startswith("HugePages") and not mount.is_mounted(str(directory)):
        page = medium.removeprefix("HugePages").lstrip("-").rstrip("i")
        mount.mount("nodev", str(directory), "hugetlbfs", 0, f"mode=0777,pagesize={page}" if page else "mode=0777")
        made = True
    if not made:
        return  # what containers did to it since is theirs
    directory.chmod(0o777)
    if group is not None:
        ownership.apply(directory, group)
