"""Bring the files of one pod that show the API up to date: changed ConfigMaps, Secrets and labels, ageing tokens.

Owned by pod_worker, which starts `run` in a task when `is_due`. Also makes the volumes known of a pod that was there
before this kubelet.
"""

from __future__ import annotations

from kybern.api.core_v1 import Pod
from kybern.kubelet import objects
from kybern.kubelet.failures import VolumeFailed
from kybern.kubelet.sync.apply import Applier, PodWork, SandboxFailed
from kybern.kubelet.sync.facts import PodFacts
from kybern.kubelet.volumes.tokens import TokenSource
from kybern.machinery.clock import Clock

PAUSE = 10.0  # seconds after a failure


class ContentRefresh:
    def __init__(self, uid: str, applier: Applier, work: PodWork, tokens: TokenSource, clock: Clock) -> None:
        self._uid = uid
        self._applier = applier
        self._work = work
        self._tokens = tokens
        self._clock = clock
        self._is_stale = False
        self._is_running = False
        self._not_before = float("-inf")  # monotonic

    def note_change(self) -> None:
        self._is_stale = True

    def is_due(self, facts: PodFacts) -> bool:
        if self._is_running or not facts.running or self._clock.monotonic() < self._not_before:
            return False
        renewal = self._tokens.renew_in(self._uid)
        return self._is_stale or self._work.volumes is None or (renewal is not None and renewal <= 0)

    def due_in(self) -> float | None:
        """Seconds until it is worth asking `is_due` again; None: nothing is known to change."""
        waits = []
        renewal = self._tokens.renew_in(self._uid)
        if renewal is not None:
            waits.append(max(1.0, renewal))
        if self._is_stale and not self._is_running:
            waits.append(max(0.1, self._not_before - self._clock.monotonic()))
        return min(waits, default=None)

    async def run(self, pod: Pod, facts: PodFacts, node_ips: tuple[str, ...]) -> None:
        """Never raises but for cancellation; what failed is due again after a pause."""
        self._is_stale, self._is_running = False, True
        if facts.ready_sandbox is not None and not self._work.pod_ips:
            self._work.pod_ips = node_ips if pod.spec.hostNetwork else facts.ready_sandbox.ips
        try:
            if self._work.volumes is None:
                await self._applier.prepare_volumes(pod, self._work)
                return
            await self._applier.references.wait_known(objects.references_of(pod))
            await self._applier.volumes.set_up(pod, self._work.pod_ips, only_live=True)
        except VolumeFailed as error:
            message = f'MountVolume.SetUp failed for volume "{error.volume}" : {error.message}'
            self._applier.recorder.event(pod, "Warning", "FailedMount", message)
            self._fail()
        except (SandboxFailed, objects.NotSynced):
            self._fail()
        finally:
            self._is_running = False

    def _fail(self) -> None:
        self._is_stale = True
        self._not_before = self._clock.monotonic() + PAUSE
