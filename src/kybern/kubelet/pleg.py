"""Tell pod workers that something happened to their containers: by the runtime's events, and by relisting.

Events bring news at once but may be lost; a relist every second finds whatever they missed. Relists also show
what no worker knows (orphans), and whether the runtime answers at all (the node's Ready condition).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from kybern.kubelet import waiting
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import Cri, CriError
from kybern.kubelet.metrics import Metrics
from kybern.machinery.clock import Clock

PERIOD = 1.0
SETTLE = 0.08  # after an event the runtime's own books may lag behind: look again so much later
EVENTS_PAUSE = 1.0
UNHEALTHY_AFTER = 180.0  # kubelet: relist threshold of 3 minutes

log = structlog.get_logger(__name__)
Listing = Callable[[Sequence[contract.Sandbox], Sequence[contract.Container]], None]
_Picture = dict[str, frozenset[tuple[str, int]]]


class Pleg:
    """The pod life-cycle event generator."""

    def __init__(self, cri: Cri, clock: Clock, poke: Callable[[str], None], on_list: Listing, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cri = cri
        self._clock = clock
        self._poke = poke
        self._on_list = on_list
        self._picture: _Picture = {}
        self._pod_of: dict[str, str] = {}  # container and sandbox ids
        self._soon = asyncio.Event()
        self._last_relist = clock.monotonic()

    def problem(self) -> str:
        """Why the runtime cannot be relied on; "" while it can."""
        silent = self._clock.monotonic() - self._last_relist
        if silent < UNHEALTHY_AFTER:
            return ""
        return f"PLEG is not healthy: pleg was last seen active {silent:.0f}s ago; threshold is 3m0s"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_events(), name="runtime events")
            tasks.create_task(self._run_relist(), name="runtime relist")

    async def _run_events(self) -> None:
        while True:
            try:
                async for event in self._cri.events():
                    uid = event.pod_uid or self._pod_of.get(event.container_id, "")
                    if uid:
                        self._poke(uid)
                    self._soon.set()
            except CriError as error:
                log.debug("the runtime's event stream ended", error=str(error))
            await self._clock.sleep(EVENTS_PAUSE)

    async def _run_relist(self) -> None:
        while True:
            try:
                await self.relist()
            except CriError as error:
                log.warning("the runtime could not be listed", error=str(error))
            if await waiting.wait_for(self._soon, PERIOD, self._clock):
                self._soon.clear()
                await self._clock.sleep(SETTLE)

    async def relist(self) -> None:
        """One look at everything. Raises CriError."""
        began = self._clock.monotonic()
        sandboxes, containers = await asyncio.gather(self._cri.list_sandboxes(), self._cri.list_containers())
        self._last_relist = self._clock.monotonic()
        self._metrics.observe_relist(self._last_relist - began)
        pod_of: dict[str, str] = {sandbox.id: sandbox.uid for sandbox in sandboxes}
        gathered: dict[str, set[tuple[str, int]]] = {}
        for sandbox in sandboxes:
            gathered.setdefault(sandbox.uid, set()).add((sandbox.id, sandbox.state.value))
        all_ids: dict[str, str] = {**pod_of}
        for container in containers:
            uid = pod_of.get(container.sandbox_id, "")
            all_ids[container.id] = uid
            gathered.setdefault(uid, set()).add((container.id, container.state.value))
        picture = {uid: frozenset(parts) for uid, parts in gathered.items()}
        before, self._picture, self._pod_of = self._picture, picture, all_ids
        for uid in before.keys() | picture.keys():
            if before.get(uid) != picture.get(uid):
                self._poke(uid)
        self._on_list(sandboxes, containers)
