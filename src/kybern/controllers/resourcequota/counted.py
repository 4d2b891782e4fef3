"""Objects that quotas count, of whatever resource: an informer each, started when the first quota asks for it.

Asked by reconcile. Pods, services and claims are typed (those of devices once a quota is about them); of the rest only
metadata is held, unless another controller holds whole objects. Custom resources are discovered again after a while:
they come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api.core_v1 import PersistentVolumeClaim, Pod, Service
from kybern.api.resource import Resource
from kybern.api.resource_v1 import ResourceClaim
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.controllers import runtime
from kybern.controllers.resourcequota import plan
from kybern.machinery import scheme

REDISCOVER = 10.0  # seconds
_TYPED: dict[str, type[Any]] = {"pods": Pod, "services": Service, "persistentvolumeclaims": PersistentVolumeClaim}
Changed = Callable[[str, Any, Any], None]  # source, old, new


class Counted:
    """Calls `changed(source, old, new)` for each change of what is counted."""

    def __init__(self, context: runtime.Context, changed: Changed) -> None:
        self._context = context
        self._changed = changed
        self._followed: dict[str, Informer[Any]] = {}
        self._custom: dict[str, Resource] = {}
        self._discovered = float("-inf")
        for source, kind in _TYPED.items():
            self._follow(source, context.informers.of(kind))

    async def informer_of(self, source: str) -> Informer[Any] | None:
        """The objects of a source; None if no such resource is served."""
        if source in _TYPED:
            return self._followed[source]
        resource = _BUILT_IN.get(source) or await self._discover(source)
        if resource is None:
            return None
        informers = self._context.informers
        if source == plan.DEVICE_CLAIMS:
            informer: Informer[Any] = informers.of(ResourceClaim)
        else:
            informer = informers.find_for(resource) or informers.of(shapes.partial(resource))
        self._follow(source, informer)
        return informer

    async def _discover(self, source: str) -> Resource | None:
        now = self._context.clock.monotonic()
        if now - self._discovered >= REDISCOVER:
            self._discovered = now
            found = await self._context.discover()
            rows = {
                r.group_resource: r for r in found.preferred() if r.namespaced and {"list", "watch"} <= set(r.verbs)
            }
            stale = {name.rpartition("/")[0] for name in found.stale}
            kept = {name: row for name, row in self._custom.items() if row.group in stale}
            self._custom = kept | rows
        return self._custom.get(source)

    def _follow(self, source: str, informer: Informer[Any]) -> None:
        """Listen to it, once. A resource that went and came back has another informer."""
        if self._followed.get(source) is informer:
            return
        self._followed[source] = informer

        def told(old: Any, new: Any) -> None:
            if self._followed.get(source) is informer:
                self._changed(source, old, new)

        informer.on_change(told)


_BUILT_IN = {
    r.group_resource: r for r in reversed(scheme.RESOURCES) if r.namespaced and {"list", "watch"} <= set(r.verbs)
}
