"""Remains of pods that no worker knows: directories with their mounts, cgroups, logs. Swept every half minute.

Workers clean up after their own pods; this finds what a crash left behind.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from kybern.kubelet.cgroups.tree import CgroupTree
from kybern.kubelet.cri.contract import CriError
from kybern.kubelet.sync import logs
from kybern.kubelet.volumes.pod_volumes import PodVolumes
from kybern.machinery.clock import Clock

PERIOD = 30.0
log = structlog.get_logger(__name__)


class OrphanSweep:
    def __init__(
        self,
        volumes: PodVolumes,
        cgroups: CgroupTree,
        log_root: str,
        log_links: str,
        clock: Clock,
        known: Callable[[], set[str] | None],
    ) -> None:
        """`known`: uids of pods that have a worker; None while that is not known."""
        self._volumes = volumes
        self._cgroups = cgroups
        self._log_root = log_root
        self._log_links = log_links
        self._clock = clock
        self._known = known
        self._suspects: set[str] = set()

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what was an orphan at the last sweep and still is."""
        found = set(await asyncio.to_thread(self._volumes.pods_on_disk)) | await self._cgroups.pods()
        found |= await asyncio.to_thread(self._logged)
        known = self._known()
        if known is None:
            return
        orphans = found - known
        for uid in orphans & self._suspects:
            try:
                await self._cgroups.remove(uid)
                await self._volumes.tear_down(uid)
                await asyncio.to_thread(self._remove_logs, uid)
                log.info("removed the remains of a pod", uid=uid)
            except (OSError, CriError) as error:
                log.warning("could not remove the remains of a pod", uid=uid, error=str(error))
        self._suspects = orphans
        await asyncio.to_thread(logs.remove_dead_links, self._log_links)

    def _logged(self) -> set[str]:
        where = Path(self._log_root)
        return {entry.name.rpartition("_")[2] for entry in where.iterdir()} if where.is_dir() else set()

    def _remove_logs(self, uid: str) -> None:
        for entry in Path(self._log_root).glob(f"*_{uid}"):
            shutil.rmtree(entry, ignore_errors=True)
