"""An informer for every resource that can be collected, custom ones too, feeding the graph.

Resources are discovered again every RESYNC seconds, and at once when a CustomResourceDefinition changes. Typed
informers of other controllers are shared; the rest hold PartialViews only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from kybern.api.resource import Resource
from kybern.client import clock as client_clock
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.controllers import runtime
from kybern.controllers.garbage_collector.graph import Graph
from kybern.machinery.status import ApiError

RESYNC = 30.0
SYNC_PATIENCE = 30.0  # seconds after which a resource that cannot be listed no longer holds up the others
# Nothing owns or is owned by events worth a watch (upstream ignores them too).
IGNORED = frozenset((("", "events"), ("events.k8s.io", "events")))

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Monitor:
    informer: Informer[Any]
    shared: bool
    since: float
    live: bool = True


class Monitors:
    """Keeps the graph; calls `look_at(uid)` for objects that may need something done."""

    def __init__(self, context: runtime.Context, graph: Graph, look_at: Callable[[str], None]) -> None:
        self._context = context
        self._graph = graph
        self._look_at = look_at
        self._monitors: dict[Resource, _Monitor] = {}
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._again = asyncio.Event()

    async def run(self) -> None:
        while True:
            self._again.clear()
            try:
                await self._sync()
            except ApiError as error:
                log.warning("cannot discover resources", error=str(error))
            await client_clock.wait_for_event(self._context.clock, self._again, RESYNC)
            if self._again.is_set():
                await self._context.clock.sleep(0.5)  # a CRD takes a moment to be served

    def resource_of(self, api_version: str, kind: str) -> Resource | None:
        """Where objects of a kind are served."""
        return self._kinds.get((api_version, kind))

    def rediscover(self) -> None:
        """Somebody met a kind that is not known."""
        self._again.set()

    @property
    def has_synced(self) -> bool:
        """What is in the graph is all there is, but for resources that cannot be listed."""
        now = self._context.clock.monotonic()
        return bool(self._monitors) and all(
            m.informer.has_synced or now - m.since > SYNC_PATIENCE for m in self._monitors.values()
        )

    async def _sync(self) -> None:
        found = await self._context.discover()
        self._kinds = {(r.api_version, r.kind): r for r in found.resources}
        wanted = {
            r
            for r in found.preferred()
            if {"list", "watch", "delete"} <= set(r.verbs) and (r.group, r.plural) not in IGNORED
        }
        stale = set(found.stale)
        for resource in sorted(wanted - self._monitors.keys(), key=lambda r: (r.group, r.plural)):
            self._start(resource)
        for resource in list(self._monitors.keys() - wanted):
            if f"{resource.group}/{resource.version}" not in stale:
                self._stop(resource)

    def _start(self, resource: Resource) -> None:
        shared = self._context.informers.find_for(resource)
        informer = shared if shared is not None else self._context.informers.of(shapes.partial(resource))
        monitor = _Monitor(informer, shared is not None, self._context.clock.monotonic())
        self._monitors[resource] = monitor

        def changed(old: Any, new: Any) -> None:
            if not monitor.live:
                return
            graph = self._graph
            affected = graph.remove(shapes.meta_of(old).uid) if new is None else graph.upsert(resource, new)
            for uid in affected:
                self._look_at(uid)
            if resource.plural == "customresourcedefinitions":
                self._again.set()

        informer.on_change(changed)

    def _stop(self, resource: Resource) -> None:
        """Its objects went with it: what they owned is looked at."""
        monitor = self._monitors.pop(resource)
        monitor.live = False
        if not monitor.shared:
            self._context.informers.stop(monitor.informer)
        for uid in self._graph.of_resource(resource):
            for affected in self._graph.remove(uid):
                self._look_at(affected)
