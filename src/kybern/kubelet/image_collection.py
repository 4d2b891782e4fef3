"""Throw images away that nobody uses, when the disk fills up.

Run by kubelet every five minutes, and by eviction when the disk is nearly full. Source: "Garbage collection of
unused containers and images" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import structlog

from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import Cri, CriError
from kybern.machinery.clock import Clock

PERIOD = 300.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Percent of the images' disk: collect above `high`, down to `low`; nothing younger than `min_age` seconds."""

    high: int = 85
    low: int = 80
    min_age: float = 120.0


DEFAULT = Thresholds()


@dataclass(frozen=True, slots=True)
class Seen:
    """When an image was first seen and last in use, on the monotonic clock."""

    first: float
    last_used: float


def plan_collection(
    images: Sequence[contract.Image],
    in_use: Set[str],
    seen: Mapping[str, Seen],
    now: float,
    wanted: int,
    min_age: float,
) -> list[contract.Image]:
    """Images to remove, least recently used first, until `wanted` bytes are free."""
    free = [
        image
        for image in images
        if not image.pinned
        and not _names(image) & in_use
        and image.id in seen
        and now - seen[image.id].first >= min_age
    ]
    free.sort(key=lambda image: (seen[image.id].last_used, seen[image.id].first, image.id))
    chosen, freed = [], 0
    for image in free:
        if freed >= wanted:
            break
        chosen.append(image)
        freed += image.size
    return chosen


def _names(image: contract.Image) -> set[str]:
    return {image.id, *image.tags, *image.digests}


class ImageCollection:
    """Knows when images were used, and removes the ones that were not."""

    def __init__(self, cri: Cri, clock: Clock, thresholds: Thresholds = DEFAULT) -> None:
        self._cri = cri
        self._clock = clock
        self._thresholds = thresholds
        self._seen: dict[str, Seen] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.collect()
            except (CriError, OSError) as error:
                log.warning("could not collect images", error=str(error))
            await self._clock.sleep(PERIOD)

    async def collect(self, *, everything: bool = False) -> int:
        """Bytes given back. `everything`: all unused images, whatever the thresholds. Raises CriError, OSError."""
        images, in_use = await self._look()
        wanted = (1 << 62) if everything else await self._excess()
        if wanted <= 0:
            return 0
        min_age = 0.0 if everything else self._thresholds.min_age
        freed = 0
        for image in plan_collection(images, in_use, self._seen, self._clock.monotonic(), wanted, min_age):
            log.info("removing an unused image", image=image.tags[0] if image.tags else image.id, bytes=image.size)
            await self._cri.remove_image(image.id)
            freed += image.size
        return freed

    async def _look(self) -> tuple[Sequence[contract.Image], set[str]]:
        """All images, and the names of those in use."""
        images = await self._cri.list_images()
        in_use: set[str] = set()
        for container in await self._cri.list_containers():
            in_use |= {container.image, container.image_ref}
        in_use.add((await self._cri.status()).sandbox_image)
        now = self._clock.monotonic()
        for image in images:
            known = self._seen.get(image.id)
            used = bool(_names(image) & in_use)
            if known is None:
                self._seen[image.id] = Seen(now, now if used else float("-inf"))
            elif used:
                self._seen[image.id] = Seen(known.first, now)
        alive = {image.id for image in images}
        for gone in [i for i in self._seen if i not in alive]:
            del self._seen[gone]
        return images, in_use

    async def _excess(self) -> int:
        """Bytes above the low mark, if the disk is above the high one."""
        excess = 0
        for filesystem in await self._cri.image_filesystems():
            if not await asyncio.to_thread(os.path.isdir, filesystem.mountpoint):
                continue
            facts = await asyncio.to_thread(os.statvfs, filesystem.mountpoint)
            size, available = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
            used = size - available
            if size and used * 100 >= size * self._thresholds.high:
                excess = max(excess, used - size * self._thresholds.low // 100)
        return excess
