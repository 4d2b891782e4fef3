"""Image volumes: the files of an image, read-only, as a directory of a pod.

A runtime that knows them (containerd 2.1, CRI-O) mounts the image itself. With an older containerd the kubelet asks
it for a read-only view of the image and mounts that; what was asked for is noted beside, to be given back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from kybern.api.core_v1 import Container, Secret
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import Cri, CriError
from kybern.kubelet.failures import StartFailed
from kybern.kubelet.images import Images
from kybern.kubelet.volumes import mount
from kybern.kubelet.volumes.contract import HostVolume, Request

PLUGIN = "kubernetes.io/image"
NOTES = "image-views"


def mounts_images(runtime: contract.Version | None) -> bool:
    """Does the runtime mount image volumes itself?"""
    if runtime is None or runtime.name != "containerd":
        return True
    match = re.match(r"v?(\d+)\.(\d+)", runtime.version)
    return match is None or (int(match[1]), int(match[2])) >= (2, 1)


class ImageVolumes:
    """Image volumes of all pods."""

    def __init__(
        self,
        cri: Cri,
        images: Images,
        secret: Callable[[str, str], Secret | None],
        runtime: Callable[[], contract.Version | None],
    ) -> None:
        self._cri = cri
        self._images = images
        self._secret = secret
        self._runtime = runtime

    async def set_up(self, request: Request) -> HostVolume:
        source = request.volume.image
        assert source is not None
        name = request.volume.name
        as_container = Container(name=name, image=source.reference, imagePullPolicy=source.pullPolicy)
        try:
            image = await self._images.ensure(request.pod, as_container, self._secrets(request), None)
            if mounts_images(self._runtime()):
                return HostVolume(name, "", readonly=True, image=image.id)
            directory = await self._mount(request, image.id)
        except StartFailed as error:
            raise request.failed(f"{error.reason.value}: {error.message}") from None
        except (CriError, OSError) as error:
            raise request.failed(str(error)) from None
        return HostVolume(name, str(directory), readonly=True)

    def _secrets(self, request: Request) -> list[Secret]:
        found = (self._secret(request.pod.metadata.namespace, r.name or "") for r in request.pod.spec.imagePullSecrets)
        return [secret for secret in found if secret is not None]

    async def _mount(self, request: Request, image: str) -> Path:
        directory = request.directory(PLUGIN)
        if await asyncio.to_thread(mount.is_mounted, str(directory)):
            return directory
        key = f"kybern-{request.pod.metadata.uid}-{request.volume.name}"
        # Noted first: a view that nobody knows of would stay for ever.
        await asyncio.to_thread(_note, request.root / NOTES / key)
        views = await self._cri.view_image(image, key)
        await asyncio.to_thread(_mount_all, views, directory)
        return directory

    async def tear_down(self, root: Path) -> None:
        """Give back the views of a pod, whose directory is `root`. Raises CriError."""
        for key in await asyncio.to_thread(_noted, root / NOTES):
            await self._cri.drop_view(key)


def _note(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _noted(where: Path) -> list[str]:
    return sorted(entry.name for entry in where.iterdir()) if where.is_dir() else []


def _mount_all(views: Sequence[contract.HostMount], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for view in views:
        mount.mount_with_options(view.source, str(directory), view.type, [*view.options, "ro"])
