"""PersistentVolumes, claims and attachments."""

from __future__ import annotations

from typing import Any

from kybern.api import scalars
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.machinery.defaults import core


class PersistentVolumeClaims(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        obj.status.phase = "Pending"
        self._drop_foreign(obj)

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        if old.spec.dataSourceRef is None:
            self._drop_foreign(obj)

    def _drop_foreign(self, claim: Any) -> None:
        """Data from another namespace is behind a gate that is off."""
        if claim.spec.dataSourceRef is not None and claim.spec.dataSourceRef.namespace:
            claim.spec.dataSourceRef = None
            core.fill_sources(claim.spec)


class CSIDrivers(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        self._drop_gated(obj, None)

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        self._drop_gated(obj, old)
        # Counted from the first change on: new ones have no generation.
        if obj.spec != old.spec:
            obj.metadata.generation = (old.metadata.generation or 0) + 1

    def _drop_gated(self, obj: Any, old: Any) -> None:
        """A field of a feature that is off counts only where it is in use already."""
        is_in_use = old is not None and old.spec.preventPodSchedulingIfMissing is not None
        if not self.context.gates.is_on("VolumeLimitScaling") and not is_in_use:
            obj.spec.preventPodSchedulingIfMissing = None


class PersistentVolumes(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        obj.status.phase = "Pending"
        obj.status.lastPhaseTransitionTime = scalars.render_time(self.context.clock.now())

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        unstamped = obj.status.lastPhaseTransitionTime in (None, old.status.lastPhaseTransitionTime)
        if obj.status.phase == old.status.phase:
            if obj.status.lastPhaseTransitionTime is None:
                obj.status.lastPhaseTransitionTime = old.status.lastPhaseTransitionTime
        elif unstamped:
            obj.status.lastPhaseTransitionTime = scalars.render_time(self.context.clock.now())
