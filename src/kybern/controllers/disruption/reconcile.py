"""Keep the status of PodDisruptionBudgets, which evictions draw from.

Woken by budgets and pods; decides in plan. How many pods there should be is asked of their controllers, of custom
ones through their scale subresource.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.apps_v1 import Deployment, ReplicaSet, StatefulSet
from kybern.api.core_v1 import Pod, ReplicationController
from kybern.api.meta_v1 import OwnerReference
from kybern.api.policy_v1 import PodDisruptionBudget
from kybern.client import rest, shapes
from kybern.controllers import ownership, runtime
from kybern.controllers.disruption import plan
from kybern.machinery import labels
from kybern.machinery.status import ApiError

NAME = "disruption-controller"
_KINDS: dict[tuple[str, str], type[Any]] = {
    ("apps", "ReplicaSet"): ReplicaSet,
    ("apps", "StatefulSet"): StatefulSet,
    ("apps", "Deployment"): Deployment,
    ("", "ReplicationController"): ReplicationController,
}


class DisruptionController(runtime.Looped):
    """runtime.Controller; keys are those of budgets."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder("controllermanager")
        self._budgets = context.informers.of(PodDisruptionBudget)
        self._pods = context.informers.of(Pod)
        self._owners = {key: context.informers.of(kind) for key, kind in _KINDS.items()}
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._budgets)
        self._pods.on_change(self._pod_changed)
        for informer in self._owners.values():
            informer.on_change(self._owner_changed)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        seen = [pod for pod in (old, new) if pod is not None]
        for budget in self._budgets.list(seen[0].metadata.namespace):
            selector = labels.from_label_selector(budget.spec.selector)
            if any(selector.matches(pod.metadata.labels) for pod in seen):
                self.loop.queue.add(shapes.key_of(budget))

    def _owner_changed(self, old: Any, new: Any) -> None:
        if old is not None and new is not None and old.spec.replicas != new.spec.replicas:
            for budget in self._budgets.list(new.metadata.namespace):
                if plan.needs_scale(budget):
                    self.loop.queue.add(shapes.key_of(budget))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        budget = self._budgets.by_key(key)
        if budget is None or budget.metadata.deletionTimestamp is not None:
            return None
        selector = labels.from_label_selector(budget.spec.selector)
        selected = self._pods.list(budget.metadata.namespace, selector)
        if not selected:
            self._recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        scale = await self._expected(budget, selected) if plan.needs_scale(budget) else 0
        expected = plan.Expected(scale, len(selected))
        status, again = plan.plan_status(budget, selected, expected, self._context.clock.now())
        if status != budget.status:
            fresh = codec.clone(budget)
            fresh.status = status
            await self._context.update_status(fresh)
        return runtime.RequeueAfter(again) if again is not None else None

    async def _expected(self, budget: PodDisruptionBudget, selected: list[Pod]) -> int:
        """The sum of what the controllers of these pods want; pods without one cannot be counted on."""
        sizes: dict[str, int] = {}
        for pod in selected:
            reference = ownership.controller_of(pod)
            if reference is None:
                continue
            found = await self._size(pod.metadata.namespace, reference)
            if found is not None:
                sizes[found[0]] = found[1]
        return sum(sizes.values())

    async def _size(self, namespace: str, reference: OwnerReference) -> tuple[str, int] | None:
        """(uid, replicas) of a controller, or of the one above it."""
        group = reference.apiVersion.rpartition("/")[0]
        informer = self._owners.get((group, reference.kind))
        if informer is None:
            return await self._scale_of(namespace, reference)
        owner = informer.get(namespace, reference.name)
        if owner is None or owner.metadata.uid != reference.uid:
            return None
        above = ownership.controller_of(owner)
        if above is not None and reference.kind == "ReplicaSet":
            return await self._size(namespace, above)
        return reference.uid, 1 if owner.spec.replicas is None else owner.spec.replicas

    async def _scale_of(self, namespace: str, reference: OwnerReference) -> tuple[str, int] | None:
        found = await self._context.discover()
        for resource in found.resources:
            if (resource.api_version, resource.kind) != (reference.apiVersion, reference.kind):
                continue
            if not any(sub.name == "scale" for sub in resource.subresources):
                return None
            path = rest.path_of(resource, namespace, reference.name, "scale")
            try:
                scale = msgspec.json.decode((await self._context.client.request("GET", path)).body)
            except ApiError as error:
                if error.is_not_found:
                    return None
                raise
            return reference.uid, int(scale.get("spec", {}).get("replicas", 0))
        return None


def build(context: runtime.Context) -> DisruptionController:
    return DisruptionController(context)
