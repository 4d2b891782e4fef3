"""Volumes that the kubelet fills from the API: configMap, secret, downwardAPI, projected.

Called by pod_volumes, at first and whenever something they show has changed. Payloads are computed in the loop;
directories, mounts and files are made in a thread.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path

from kybern.api.core_v1 import KeyToPath, Pod, ServiceAccountTokenProjection, VolumeProjection
from kybern.kubelet import security
from kybern.kubelet.podkeys import containers_of
from kybern.kubelet.volumes import atomic, mount, ownership, payload
from kybern.kubelet.volumes.contract import File, HostVolume, Request
from kybern.kubelet.volumes.payload import DEFAULT_MODE, Payload

TOKEN_LIFETIME = 3600


async def set_up_config_map(request: Request) -> HostVolume:
    source = request.volume.configMap
    assert source is not None
    files = _config_map(request, source.name or "", source.items, _mode(source.defaultMode), bool(source.optional))
    return await _write(request, "kubernetes.io/configmap", files, in_memory=False)


async def set_up_secret(request: Request) -> HostVolume:
    source = request.volume.secret
    assert source is not None
    files = _secret(request, source.secretName or "", source.items, _mode(source.defaultMode), bool(source.optional))
    return await _write(request, "kubernetes.io/secret", files, in_memory=True)


async def set_up_downward_api(request: Request) -> HostVolume:
    source = request.volume.downwardAPI
    assert source is not None
    try:
        files = payload.of_downward_api(
            request.pod, source.items, _mode(source.defaultMode), request.node, request.pod_ips
        )
    except ValueError as error:
        raise request.failed(str(error)) from None
    return await _write(request, "kubernetes.io/downward-api", files, in_memory=False)


async def set_up_projected(request: Request) -> HostVolume:
    source = request.volume.projected
    assert source is not None
    mode = _mode(source.defaultMode)
    files: Payload = {}
    for part in source.sources:
        files.update(await _project(request, part, mode))
    return await _write(request, "kubernetes.io/projected", files, in_memory=True)


async def _project(request: Request, part: VolumeProjection, mode: int) -> Payload:
    try:
        if part.configMap:
            chosen = part.configMap
            return _config_map(request, chosen.name or "", chosen.items, mode, bool(chosen.optional))
        if part.secret:
            wanted = part.secret
            return _secret(request, wanted.name or "", wanted.items, mode, bool(wanted.optional))
        if part.downwardAPI:
            return payload.of_downward_api(request.pod, part.downwardAPI.items, mode, request.node, request.pod_ips)
        if part.clusterTrustBundle:
            trusted = part.clusterTrustBundle
            found = request.node.trust_bundles(trusted.name or "", trusted.signerName or "")
            return payload.of_trust_bundles(found, trusted, mode)
    except ValueError as error:
        raise request.failed(str(error)) from None
    if part.serviceAccountToken:
        return await _token(request, part.serviceAccountToken, mode)
    raise request.failed("this node supports no pod certificates")


async def _token(request: Request, wanted: ServiceAccountTokenProjection, mode: int) -> Payload:
    text = await request.node.tokens.token(
        request.pod, wanted.audience or "", wanted.expirationSeconds or TOKEN_LIFETIME
    )
    # A token is for its pod alone: it belongs to the one user of all containers, and to the group of the volume, which
    # may read it as well.
    owner = _only_user(request.pod)
    if owner is not None or request.fs_group is not None:
        mode = 0o600
    return {wanted.path: File(text.encode(), mode, owner)}


def _only_user(pod: Pod) -> int | None:
    """The user all containers run as, if they say so and agree."""
    users = {security.effective(pod, container).runAsUser for _, container in containers_of(pod)}
    return users.pop() if len(users) == 1 else None


def _mode(value: int | None) -> int:
    return DEFAULT_MODE if value is None else value


def _config_map(request: Request, name: str, items: list[KeyToPath], mode: int, optional: bool) -> Payload:
    found = request.node.config_map(request.pod.metadata.namespace, name)
    if found is None and not optional:
        raise request.failed(f'configmap "{name}" not found')
    try:
        return payload.of_config_map(found, items, mode, optional)
    except ValueError as error:
        raise request.failed(str(error)) from None


def _secret(request: Request, name: str, items: list[KeyToPath], mode: int, optional: bool) -> Payload:
    found = request.node.secret(request.pod.metadata.namespace, name)
    if found is None and not optional:
        raise request.failed(f'secret "{name}" not found')
    try:
        return payload.of_secret(found, items, mode, optional)
    except ValueError as error:
        raise request.failed(str(error)) from None


async def _write(request: Request, plugin: str, files: Payload, *, in_memory: bool) -> HostVolume:
    directory = request.directory(plugin)
    try:
        await asyncio.to_thread(_write_blocking, directory, files, request.fs_group, in_memory)
    except (OSError, ValueError) as error:
        raise request.failed(str(error)) from None
    return HostVolume(request.volume.name, str(directory), readonly=True)


def _write_blocking(directory: Path, files: Payload, group: int | None, in_memory: bool) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
    if in_memory and not mount.is_mounted(str(directory)):
        # Nothing of a secret may reach a disk.
        mount.mount_tmpfs(str(directory), "mode=0777,noswap" if _has_noswap() else "mode=0777")
    directory.chmod(0o777)
    if group is not None and not (directory / atomic.DATA).exists():
        ownership.apply(directory, group, readonly=True)
    own = None if group is None else (lambda fresh: ownership.apply(fresh, group, readonly=True))
    atomic.write(directory, files, datetime.datetime.now(datetime.UTC), own)


def _has_noswap() -> bool:
    """tmpfs knows `noswap` since Linux 6.3."""
    major, minor = (int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return (major, minor) >= (6, 4)
