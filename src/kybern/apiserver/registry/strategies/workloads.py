"""Deployments, StatefulSets, DaemonSets and what they are made of."""

from __future__ import annotations

from typing import Any

from kybern.api.apps_v1 import DaemonSet, StatefulSet
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User

_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


class ReplicationControllers(Strategy):
    selected_from = ("status.replicas",)

    def selectable_fields(self, obj: Any) -> dict[str, str]:
        return super().selectable_fields(obj) | {"status.replicas": str(obj.status.replicas)}


class Deployments(Strategy):
    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        # Annotations count: they are copied to what it makes.
        if obj.metadata.generation == old.metadata.generation and obj.metadata.annotations != old.metadata.annotations:
            obj.metadata.generation = (old.metadata.generation or 0) + 1

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        obj.metadata.labels = old.metadata.labels


class DaemonSets(Strategy):
    def apply_defaults(self, obj: Any) -> None:
        super().apply_defaults(obj)
        # Written by whoever writes the object, as upstream: the number itself is ours.
        obj.metadata.annotations.setdefault(_TEMPLATE_GENERATION, "0")

    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        obj.metadata.annotations[_TEMPLATE_GENERATION] = "1"

    def prepare_status_update(self, obj: Any, old: Any) -> None:
        super().prepare_status_update(obj, old)
        obj.metadata.annotations[_TEMPLATE_GENERATION] = old.metadata.annotations.get(_TEMPLATE_GENERATION, "0")

    def prepare_update(self, obj: Any, old: Any) -> None:
        super().prepare_update(obj, old)
        new: DaemonSet = obj
        previous: DaemonSet = old
        written = previous.metadata.annotations.get(_TEMPLATE_GENERATION, "")
        generation = int(written) if written.isdecimal() and len(written) < 19 else 0
        if new.spec.template != previous.spec.template:
            generation += 1
        new.metadata.annotations[_TEMPLATE_GENERATION] = str(generation)


class StatefulSets(Strategy):
    def prepare_create(self, obj: Any, user: User) -> None:
        super().prepare_create(obj, user)
        obj.status.availableReplicas = 0
        _drop_max_unavailable(obj, None)

    def prepare_update(self, obj: Any, old: Any) -> None:
        _drop_max_unavailable(obj, old)
        super().prepare_update(obj, old)


def _drop_max_unavailable(stateful_set: StatefulSet, old: StatefulSet | None) -> None:
    """Behind a feature that is off by default: kept only where it was before."""
    rolling = stateful_set.spec.updateStrategy.rollingUpdate
    if rolling is None:
        return
    before = old.spec.updateStrategy.rollingUpdate if old is not None else None
    if before is None or before.maxUnavailable is None:
        rolling.maxUnavailable = None
