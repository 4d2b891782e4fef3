"""persistentVolumeClaim and generic ephemeral volumes: what the claim is bound to, of the kinds this node mounts.

hostPath, local (directory, or block device as a file system or raw) and nfs.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Protocol

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from kybern.kubelet.volumes import host_path, mount, ownership
from kybern.kubelet.volumes.contract import HostVolume, Request
from kybern.machinery.status import ApiError

GROUP = "pv.beta.kubernetes.io/gid"


class Claims(Protocol):
    """Reads claims and volumes. Raises ApiError."""

    async def claim(self, namespace: str, name: str) -> PersistentVolumeClaim: ...

    async def volume(self, name: str) -> PersistentVolume: ...


async def set_up(request: Request, claims: Claims) -> HostVolume:
    source = request.volume.persistentVolumeClaim
    pod = request.pod
    name = source.claimName if source else f"{pod.metadata.name}-{request.volume.name}"
    readonly = bool(source and source.readOnly)
    try:
        claim = await claims.claim(pod.metadata.namespace, name)
        if claim.metadata.deletionTimestamp:
            raise request.failed(f"can't start pod because PVC {pod.metadata.namespace}/{name} is being deleted")
        if source is None and not any(
            o.uid == pod.metadata.uid and o.controller for o in claim.metadata.ownerReferences
        ):
            raise request.failed(
                f"PVC {pod.metadata.namespace}/{name} was not created for pod "
                f"{pod.metadata.namespace}/{pod.metadata.name} (pod is not owner)"
            )
        if (claim.status.phase or "") != "Bound" or not claim.spec.volumeName:
            raise request.failed(f"PVC {pod.metadata.namespace}/{name} is not bound")
        volume = await claims.volume(claim.spec.volumeName)
    except ApiError as error:
        raise request.failed(f"error processing PVC {pod.metadata.namespace}/{name}: {error}") from None
    if volume.spec.claimRef is None or volume.spec.claimRef.uid != claim.metadata.uid:
        raise request.failed(f"PersistentVolume {volume.metadata.name} is not bound to PVC {name}")
    return await _mount(request, volume, readonly, claim.spec.volumeMode == "Block")


async def _mount(request: Request, volume: PersistentVolume, readonly: bool, block: bool) -> HostVolume:
    spec = volume.spec
    groups = tuple(int(g) for g in [volume.metadata.annotations.get(GROUP, "")] if g.isdigit())
    name = request.volume.name
    if spec.hostPath:
        problem = await asyncio.to_thread(host_path.check, spec.hostPath.path, spec.hostPath.type or "")
        if problem:
            raise request.failed(problem)
        return HostVolume(name, spec.hostPath.path, readonly, groups=groups)
    try:
        if spec.local:
            if block:
                return HostVolume(name, "", readonly, device=spec.local.path, groups=groups)
            directory = request.directory("kubernetes.io/local-volume")
            await asyncio.to_thread(
                _mount_local, spec.local.path, directory, spec.local.fsType or "ext4", request, readonly
            )
            return HostVolume(name, str(directory), readonly, groups=groups)
        if spec.nfs:
            directory = request.directory("kubernetes.io/nfs")
            readonly = readonly or bool(spec.nfs.readOnly)
            options = [*spec.mountOptions, *(["ro"] if readonly else [])]
            await mount_nfs(f"{spec.nfs.server}:{spec.nfs.path}", directory, options)
            return HostVolume(name, str(directory), readonly, groups=groups)
    except OSError as error:
        raise request.failed(str(error)) from None
    raise request.failed(f"this node cannot mount PersistentVolume {volume.metadata.name}: its type is not supported")


def _mount_local(path: str, directory: Path, kind: str, request: Request, readonly: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if not mount.is_mounted(str(directory)):
        if stat.S_ISBLK(os.stat(path).st_mode):
            mount.mount(path, str(directory), kind, mount.MS_RDONLY if readonly else 0)
        else:
            mount.bind(path, str(directory), readonly=readonly)
    context = request.pod.spec.securityContext
    if request.fs_group is not None and not readonly:
        policy = context.fsGroupChangePolicy if context else None
        ownership.apply(directory, request.fs_group, only_on_mismatch=policy == "OnRootMismatch")


async def mount_nfs(source: str, directory: Path, options: list[str]) -> None:
    """By mount.nfs, which negotiates versions and ports. Raises OSError."""
    if await asyncio.to_thread(_is_ready, directory):
        return
    arguments = ["-t", "nfs", *(["-o", ",".join(options)] if options else []), source, str(directory)]
    process = await asyncio.create_subprocess_exec("mount", *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise OSError(f"mounting {source} failed: {errors.decode(errors='replace').strip()}")


def _is_ready(directory: Path) -> bool:
    """Is something mounted there? Makes the directory to mount at."""
    directory.mkdir(parents=True, exist_ok=True)
    return mount.is_mounted(str(directory))
