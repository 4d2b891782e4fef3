"""Keep container logs small: rename what has grown too large, have the runtime open a new file, compress and drop.

Run by kubelet every ten seconds. Names are upstream's: `0.log`, `0.log.20260102-150405`, `0.log.20260102-140000.gz`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from kybern.kubelet.cri.contract import ContainerId, ContainerState, Cri, CriError
from kybern.machinery.clock import Clock

PERIOD = 10.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    size: int = 10 << 20  # bytes, --container-log-max-size
    files: int = 5  # with the one in use, --container-log-max-files


DEFAULT = Limits()


def plan_removal(rotated: list[str], limits: Limits) -> list[str]:
    """Which rotated files (names sort by time) are too many once another is added."""
    keep = max(0, limits.files - 2)
    return sorted(rotated)[: max(0, len(rotated) - keep)]


class LogRotation:
    def __init__(self, cri: Cri, clock: Clock, limits: Limits) -> None:
        self._cri = cri
        self._clock = clock
        self._limits = limits

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            try:
                await self.rotate_all()
            except (CriError, OSError) as error:
                log.warning("could not rotate logs", error=str(error))

    async def rotate_all(self) -> None:
        """One pass over all running containers. Raises CriError, OSError."""
        for container in await self._cri.list_containers():
            if container.state is not ContainerState.RUNNING:
                continue
            with contextlib.suppress(CriError):
                path = (await self._cri.container_status(container.id)).log_path
                if path and await asyncio.to_thread(_size, Path(path)) > self._limits.size:
                    await self._rotate(container.id, Path(path))

    async def _rotate(self, container: ContainerId, path: Path) -> None:
        now = self._clock.now()
        moved = await asyncio.to_thread(_make_room, path, self._limits, now)
        try:
            await self._cri.reopen_log(container)
        except CriError:
            # The runtime still writes to the old file: give it its name back, or lines are lost to readers.
            await asyncio.to_thread(os.rename, moved, path)
            raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _make_room(path: Path, limits: Limits, now: datetime.datetime) -> Path:
    rotated = [p.name for p in path.parent.glob(f"{path.name}.*") if not p.name.endswith(".tmp")]
    doomed = set(plan_removal(rotated, limits))
    for name in doomed:
        (path.parent / name).unlink(missing_ok=True)
    for name in rotated:
        # The newest rotated file may still be read by followers: compress the older ones only.
        if name not in doomed and not name.endswith(".gz"):
            _compress(path.parent / name)
    moved = path.with_name(f"{path.name}.{now:%Y%m%d-%H%M%S}")
    os.rename(path, moved)
    return moved


def _compress(path: Path) -> None:
    draft = path.with_name(path.name + ".tmp")
    with path.open("rb") as source, gzip.open(draft, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target)
    os.rename(draft, path.with_name(path.name + ".gz"))
    path.unlink()
