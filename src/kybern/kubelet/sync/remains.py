"""What a pod leaves when nothing of it runs any more, and taking it away. Used by pod_worker."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from kybern.api.core_v1 import Pod
from kybern.kubelet import podkeys
from kybern.kubelet.cri import labels
from kybern.kubelet.cri.contract import ContainerId
from kybern.kubelet.sync import logs, mounts
from kybern.kubelet.sync.apply import Applier
from kybern.kubelet.sync.facts import ContainerFact, PodFacts


class LastWords:
    """Termination messages of a pod's containers, kept when the files are gone."""

    def __init__(self, pod: Pod, applier: Applier) -> None:
        self._applier = applier
        self.by_id: dict[ContainerId, str] = _told(pod)
        self._has_looked = False

    async def collect(self, pod: Pod, facts: PodFacts) -> None:
        """Read those of containers that ended since the last time."""
        for fact in facts.containers:
            if fact.is_exited and fact.id not in self.by_id:
                self.by_id[fact.id] = await asyncio.to_thread(self._read, pod, fact)
                found = podkeys.find_container(pod, fact.name)
                if found is not None and self._has_looked:  # at first sight it may have been counted before
                    self._applier.metrics.count_end(found[0], fact.status.exit_code)
        self._has_looked = True

    def _read(self, pod: Pod, fact: ContainerFact) -> str:
        place = mounts.Place(self._applier.volumes.directory(pod.metadata.uid))
        policy = fact.status.annotations.get(labels.TERMINATION_POLICY, "File")
        log_file: Path | None = None
        if policy == "FallbackToLogsOnError" and fact.status.exit_code != 0:
            directory = logs.pod_directory(self._applier.settings.log_root, pod)
            log_file = directory / logs.relative_path(fact.name, fact.status.attempt)
        return logs.read_last_words(place.last_words(fact.name, fact.status.attempt), log_file)


def _told(pod: Pod) -> dict[ContainerId, str]:
    """Messages the API has: the files may be gone since."""
    found: dict[ContainerId, str] = {}
    status = pod.status
    for shown in [*status.containerStatuses, *status.initContainerStatuses, *status.ephemeralContainerStatuses]:
        for ended in (shown.state.terminated, shown.lastState.terminated):
            if ended is not None and ended.containerID and ended.message:
                found[ContainerId(ended.containerID.partition("://")[2])] = ended.message
    return found


async def clean_up(applier: Applier, uid: str) -> None:
    """Volumes and cgroup. Containers stay, for their logs. Raises OSError, CriError."""
    await applier.volumes.tear_down(uid)
    await applier.cgroups.remove(uid)


async def remove(applier: Applier, pod: Pod, facts: PodFacts) -> None:
    """The last traces: sandboxes, containers, logs. Raises CriError."""
    for sandbox in facts.sandboxes:
        await applier.cri.remove_sandbox(sandbox.sandbox.id)
    for fact in facts.containers:
        await applier.cri.remove_container(fact.id)
    await asyncio.to_thread(_remove_logs, applier, pod, facts)


def _remove_logs(applier: Applier, pod: Pod, facts: PodFacts) -> None:
    for fact in facts.containers:
        logs.remove_links(applier.settings.log_links, fact.id)
    shutil.rmtree(logs.pod_directory(applier.settings.log_root, pod), ignore_errors=True)
