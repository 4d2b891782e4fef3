"""ClusterRoles with an aggregationRule hold the rules of all ClusterRoles that their selectors match."""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api import codec
from kybern.api.rbac_v1 import ClusterRole, PolicyRule
from kybern.controllers import runtime
from kybern.machinery import labels

NAME = "clusterrole-aggregation-controller"


def plan_rules(role: ClusterRole, everything: Iterable[ClusterRole]) -> list[PolicyRule] | None:
    """The rules an aggregated role should have, by name of their source; None if it has them."""
    if role.aggregationRule is None:
        return None
    selectors = [labels.from_label_selector(s) for s in role.aggregationRule.clusterRoleSelectors]
    rules: list[PolicyRule] = []
    for source in sorted(everything, key=lambda r: r.metadata.name):
        if source.metadata.name == role.metadata.name:
            continue
        if not any(selector.matches(source.metadata.labels) for selector in selectors):
            continue
        rules += [rule for rule in source.rules if rule not in rules]
    return None if rules == role.rules else rules


class AggregationController(runtime.Looped):
    """runtime.Controller; keys are names of aggregated roles."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._roles = context.informers.of(ClusterRole)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        self._roles.on_change(self._changed)

    def _changed(self, old: ClusterRole | None, new: ClusterRole | None) -> None:
        for role in self._roles.list():
            if role.aggregationRule is not None:
                self.loop.queue.add(role.metadata.name)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        role = self._roles.by_key(key)
        rules = plan_rules(role, self._roles.list()) if role is not None else None
        if role is None or rules is None:
            return None
        fresh = codec.clone(role)
        fresh.rules = rules
        await self._context.update(fresh)
        return None


def build(context: runtime.Context) -> AggregationController:
    return AggregationController(context)
