"""The cgroups of this node's pods. Used by sync/apply, pod_workers (removal) and orphans."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kybern.api.core_v1 import Pod
from kybern.kubelet import resources
from kybern.kubelet.cgroups import plan
from kybern.kubelet.cgroups.hierarchy import Hierarchy
from kybern.kubelet.cgroups.plan import Limits

_CLASSES = (resources.GUARANTEED, resources.BURSTABLE, resources.BEST_EFFORT)


class CgroupTree:
    """kubepods and what is below it."""

    def __init__(self, hierarchy: Hierarchy, root: str = "", pids: int = 0) -> None:
        self.hierarchy = hierarchy
        self._root = root
        self._pids = pids
        self._burstable_shares = 0
        self._limits: dict[str, Limits] = {}  # by pod uid, as last written

    def parent_of(self, pod: Pod) -> str:
        """What the runtime gets as cgroup_parent."""
        return plan.pod_path(self._root, pod)

    async def start(self, allocatable: Limits) -> None:
        """Make the tree's upper levels; pods together get no more than `allocatable`."""
        await asyncio.to_thread(self._start, allocatable)

    def _start(self, allocatable: Limits) -> None:
        self.hierarchy.ensure(plan.class_path(self._root, resources.GUARANTEED), allocatable)
        self.hierarchy.ensure(plan.class_path(self._root, resources.BURSTABLE), Limits(cpu_shares=resources.MIN_SHARES))
        self.hierarchy.ensure(
            plan.class_path(self._root, resources.BEST_EFFORT), Limits(cpu_shares=resources.MIN_SHARES)
        )

    async def weigh(self, pods: Iterable[Pod]) -> None:
        """Burstable pods together weigh what they ask for."""
        shares = plan.burstable_shares(pods)
        if shares != self._burstable_shares:
            self._burstable_shares = shares
            group = plan.class_path(self._root, resources.BURSTABLE)
            await asyncio.to_thread(self.hierarchy.ensure, group, Limits(cpu_shares=shares))

    async def ensure(self, pod: Pod) -> None:
        """Make the pod's group, or bring its limits up to date. Raises OSError."""
        await self._write(pod, plan.pod_limits(pod, self._pids))

    async def grow(self, pod: Pod) -> None:
        """Before a resize: limits that hold what the pod has and what it is to have. Raises OSError."""
        wanted = plan.pod_limits(pod, self._pids)
        await self._write(pod, plan.widest(self._limits.get(pod.metadata.uid, wanted), wanted))

    async def _write(self, pod: Pod, limits: Limits) -> None:
        await asyncio.to_thread(self.hierarchy.ensure, self.parent_of(pod), limits)
        self._limits[pod.metadata.uid] = limits

    async def remove(self, uid: str) -> None:
        """Raises OSError when processes inside will not die."""
        await asyncio.to_thread(self._remove, uid)
        self._limits.pop(uid, None)

    def _remove(self, uid: str) -> None:
        for qos in _CLASSES:
            group = plan.join(plan.class_path(self._root, qos), f"pod{uid}")
            if self.hierarchy.exists(group):
                self.hierarchy.remove(group)

    async def pods(self) -> set[str]:
        """Uids of pods that have a group."""
        return await asyncio.to_thread(self._pods)

    def _pods(self) -> set[str]:
        found = set()
        for qos in _CLASSES:
            for name in self.hierarchy.children(plan.class_path(self._root, qos)):
                if name.startswith("pod"):
                    found.add(name.removeprefix("pod"))
        return found
