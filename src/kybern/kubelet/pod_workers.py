"""All pod workers of the node: one a UID, started when a pod is first seen, ended when nothing of it is left.

Fed by the pod sources (API informer, static files), by pleg (runtime events) and by objects (changed content).
Read by the server, the node's status and admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from kybern.api.core_v1 import Container, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract, labels
from kybern.kubelet.pod_worker import PodWorker, Stage, Tools
from kybern.kubelet.podkeys import PodUid
from kybern.kubelet.status.generate import Verdict

log = structlog.get_logger(__name__)


class PodWorkers:
    """The set of workers. `run` owns their tasks."""

    def __init__(self, tools: Callable[[], Tools]) -> None:
        self._tools = tools
        self._workers: dict[PodUid, PodWorker] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._waiting: list[PodWorker] = []
        self._mirrors: dict[tuple[str, str], Pod] = {}  # the API's pictures of static pods
        self._suspects: set[str] = set()
        self._next_life: dict[PodUid, Pod] = {}  # a static pod that came back while it was ending

    async def run(self) -> None:
        """Keep the workers going, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for worker in self._waiting:
                    self._start(worker)
                self._waiting.clear()
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    # Sources.

    def update(self, pod: Pod) -> None:
        """A pod of this node, new or changed."""
        if podkeys.is_mirror(pod):
            self._update_mirror(pod)
            return
        uid = podkeys.uid_of(pod)
        worker = self._workers.get(uid)
        if worker is None:
            self._add(PodWorker(pod, self._tools(), self._mirrors.get((pod.metadata.namespace, pod.metadata.name))))
        elif podkeys.is_static(pod) and worker.is_ending:
            self._next_life[uid] = pod
        else:
            worker.update(pod)

    def remove(self, pod: Pod) -> None:
        """Its source no longer has it."""
        if podkeys.is_mirror(pod):
            self._mirrors.pop((pod.metadata.namespace, pod.metadata.name), None)
            return
        uid = podkeys.uid_of(pod)
        self._next_life.pop(uid, None)
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            worker.vanish()

    def _update_mirror(self, pod: Pod) -> None:
        self._mirrors[(pod.metadata.namespace, pod.metadata.name)] = pod
        worker = self._workers.get(PodUid(pod.metadata.annotations.get(labels.MIRROR, "")))
        if worker is not None:
            worker.mirror = pod
            worker.poke()

    def adopt_orphans(self, sandboxes: Sequence[contract.Sandbox], containers: Sequence[contract.Container]) -> None:
        """End what runs for pods that nobody asks for any more (they were deleted while the kubelet was away)."""
        unknown: dict[str, Pod] = {}
        for sandbox in sandboxes:
            if PodUid(sandbox.uid) not in self._workers and sandbox.uid not in unknown:
                unknown[sandbox.uid] = _reconstructed(sandbox, [c for c in containers if c.sandbox_id == sandbox.id])
        # The listing may be older than the end of a worker: only what was unknown twice is an orphan.
        suspects, self._suspects = self._suspects, set(unknown)
        for uid, pod in unknown.items():
            if uid not in suspects:
                continue
            log.info("ending a pod that the API no longer has", pod=podkeys.key_of(pod), uid=uid)
            worker = PodWorker(pod, self._tools())
            worker.vanish()
            self._add(worker)

    def _add(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        if self._tasks is None:
            self._waiting.append(worker)
        else:
            self._start(worker)

    def _start(self, worker: PodWorker) -> None:
        assert self._tasks is not None
        self._tasks.create_task(self._live(worker), name=f"pod:{podkeys.key_of(worker.pod)}")

    async def _live(self, worker: PodWorker) -> None:
        """Supervised: a fault in one pod's worker is not the others'. It starts over from what the runtime tells."""
        while True:
            try:
                await worker.run()
                return
            except Exception:
                log.exception("the worker of a pod failed, and starts again", pod=podkeys.key_of(worker.pod))
            await self._tools().clock.sleep(1.0)
            worker = worker.reborn()
            self._workers[worker.uid] = worker

    def forget(self, uid: PodUid) -> None:
        """Nothing is left of it (called by the worker itself)."""
        self._workers.pop(uid, None)
        again = self._next_life.pop(uid, None)
        if again is not None:
            self.update(again)

    # Events.

    def poke(self, uid: str) -> None:
        worker = self._workers.get(PodUid(uid))
        if worker is not None:
            worker.poke()

    def end(self, uid: str, verdict: Verdict) -> None:
        """Evict a pod."""
        worker = self._workers.get(PodUid(uid))
        if worker is not None:
            worker.end(verdict)

    def refresh(self, uids: Iterable[PodUid]) -> None:
        for uid in uids:
            worker = self._workers.get(uid)
            if worker is not None:
                worker.refresh()

    # Reading.

    def __len__(self) -> int:
        return len(self._workers)

    def find_worker(self, uid: str) -> PodWorker | None:
        return self._workers.get(PodUid(uid))

    def uids(self) -> set[str]:
        return set(self._workers)

    def list(self) -> Sequence[Pod]:
        """Every pod with its newest status, read-only (server's PodSource)."""
        return [worker.shown() for worker in self._workers.values()]

    def find(self, namespace: str, name: str) -> Pod | None:
        """The newest pod of that name."""
        found = [
            w for w in self._workers.values() if w.pod.metadata.namespace == namespace and w.pod.metadata.name == name
        ]
        found.sort(key=lambda w: w.pod.metadata.creationTimestamp or "", reverse=True)
        return found[0].shown() if found else None

    def running(self) -> Sequence[Pod]:
        """Admitted pods that are not ending."""
        return [w.pod for w in self._workers.values() if w.is_admitted and w.stage is Stage.SYNCING]

    def occupying(self, but: PodUid) -> Sequence[Pod]:
        """Admitted pods that still take room, besides one."""
        return [
            worker.granted()
            for uid, worker in self._workers.items()
            if uid != but and worker.is_admitted and worker.stage in (Stage.SYNCING, Stage.TERMINATING)
        ]


def _reconstructed(sandbox: contract.Sandbox, containers: Sequence[contract.Container]) -> Pod:
    """As much of a pod as its remains tell: enough to end it."""
    grace = 30
    for container in containers:
        text = container.annotations.get(labels.POD_GRACE) or container.annotations.get(labels.CONTAINER_GRACE) or ""
        if text.isdigit():
            grace = int(text)
    names = dict.fromkeys(c.name for c in containers)
    return Pod(
        metadata=ObjectMeta(
            name=sandbox.name,
            namespace=sandbox.namespace,
            uid=sandbox.uid,
            deletionGracePeriodSeconds=grace,
            annotations={labels.SOURCE: sandbox.annotations.get(labels.SOURCE, "api")},
        ),
        spec=PodSpec(containers=[Container(name=name) for name in names], terminationGracePeriodSeconds=grace),
    )
