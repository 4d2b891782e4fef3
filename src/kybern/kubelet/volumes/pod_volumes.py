"""All volumes of a pod: made ready before its sandbox, kept up to date, taken away after its last container.

Used by sync/apply and pod_workers. Everything under <root>/pods/<uid> belongs to the pod and goes with it; what is
mounted there is unmounted first, so that nothing of a volume is ever deleted with the directory.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from kybern.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod, Volume
from kybern.client.rest import RestClient
from kybern.kubelet.failures import VolumeFailed
from kybern.kubelet.volumes import content, empty_dir, host_path, image, mount, persistent
from kybern.kubelet.volumes.contract import HostVolume, NodeView, Request
from kybern.machinery.status import ApiError


class ApiClaims:
    """`persistent.Claims` from the API server."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def claim(self, namespace: str, name: str) -> PersistentVolumeClaim:
        return await self._client.get(PersistentVolumeClaim, namespace, name)

    async def volume(self, name: str) -> PersistentVolume:
        return await self._client.get(PersistentVolume, "", name)


def is_live(volume: Volume) -> bool:
    """Does its content follow the API?"""
    return bool(volume.configMap or volume.secret or volume.downwardAPI or volume.projected)


class PodVolumes:
    """Volumes of all pods of a node."""

    def __init__(self, root: Path, node: NodeView, claims: persistent.Claims, images: image.ImageVolumes) -> None:
        self._root = root
        self.node = node
        self._claims = claims
        self._images = images

    def directory(self, uid: str) -> Path:
        return self._root / "pods" / uid

    async def set_up(
        self, pod: Pod, pod_ips: tuple[str, ...] = (), *, only_live: bool = False
    ) -> dict[str, HostVolume]:
        """Every volume ready, or VolumeFailed for the first that is not. `only_live`: just bring content up to date."""
        chosen = [v for v in pod.spec.volumes if not only_live or is_live(v)]
        results = await asyncio.gather(*(self._one(pod, v, pod_ips) for v in chosen), return_exceptions=True)
        ready: dict[str, HostVolume] = {}
        for volume, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            ready[volume.name] = result
        return ready

    async def _one(self, pod: Pod, volume: Volume, pod_ips: tuple[str, ...]) -> HostVolume:
        request = Request(pod, volume, self.directory(pod.metadata.uid), self.node, pod_ips)
        try:
            return await self._by_kind(request, volume)
        except ApiError as error:
            raise VolumeFailed(volume.name, str(error)) from None

    async def _by_kind(self, request: Request, volume: Volume) -> HostVolume:
        if volume.configMap:
            return await content.set_up_config_map(request)
        if volume.secret:
            return await content.set_up_secret(request)
        if volume.projected:
            return await content.set_up_projected(request)
        if volume.downwardAPI:
            return await content.set_up_downward_api(request)
        if volume.hostPath:
            return await host_path.set_up(request)
        if volume.persistentVolumeClaim or volume.ephemeral:
            return await persistent.set_up(request, self._claims)
        if volume.nfs:
            directory = request.directory("kubernetes.io/nfs")
            readonly = bool(volume.nfs.readOnly)
            try:
                source = f"{volume.nfs.server}:{volume.nfs.path}"
                await persistent.mount_nfs(source, directory, ["ro"] if readonly else [])
            except OSError as error:
                raise request.failed(str(error)) from None
            return HostVolume(volume.name, str(directory), readonly)
        if volume.image:
            return await self._images.set_up(request)
        if volume.emptyDir or not _has_source(volume):
            return await empty_dir.set_up(request)
        raise request.failed("no volume plugin matched")

    async def tear_down(self, uid: str) -> None:
        """Nothing of the pod is left on the node. Raises OSError, CriError when something is still in use."""
        await asyncio.to_thread(mount.unmount_below, str(self.directory(uid)))
        await self._images.tear_down(self.directory(uid))
        await asyncio.to_thread(_remove, self.directory(uid))

    def pods_on_disk(self) -> list[str]:
        """Uids with a directory here, whether or not they still exist."""
        where = self._root / "pods"
        return sorted(entry.name for entry in where.iterdir()) if where.is_dir() else []


def _has_source(volume: Volume) -> bool:
    return any(getattr(volume, name) is not None for name in volume.__struct_fields__ if name != "name")


def _remove(directory: Path) -> None:
    if directory.exists():
        mount.unmount_below(str(directory))  # again: nothing of a volume may be deleted with the directory
        shutil.rmtree(directory)
