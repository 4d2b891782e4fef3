"""Bring the pods of one ReplicaSet or ReplicationController to the number asked for, and report.

Woken by informers of owners and pods; decides in plan; writes through runtime.Context. `Flavor` holds what differs
between the two kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from kybern.api import codec, scalars
from kybern.api.core_v1 import Pod
from kybern.client import shapes
from kybern.controllers import ownership, pods, runtime
from kybern.controllers.replicas import plan
from kybern.machinery.labels import Selector
from kybern.machinery.status import ApiError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flavor(Generic[T]):
    """One kind of owner."""

    kind: type[T]
    component: str
    selector_of: Callable[[T], Selector]
    condition: type[Any]  # ReplicaSetCondition, ReplicationControllerCondition
    counts_terminating: bool


class ReplicaController(Generic[T]):
    """runtime.Controller for one flavor."""

    def __init__(self, context: runtime.Context, flavor: Flavor[T], *, workers: int = 5) -> None:
        self.name = flavor.component
        self._flavor = flavor
        self._context = context
        self._recorder = context.recorder(flavor.component)
        self._owners = context.informers.of(flavor.kind)
        self._pods = context.informers.of(Pod)
        ownership.add_index(self._pods)
        ownership.add_index(self._owners)
        self.loop = runtime.Loop(flavor.component, self.reconcile, context.clock, workers=workers)
        runtime.enqueue_on_change(self.loop, self._owners)
        self._pods.on_change(self._pod_changed)
        self.loops = (self.loop,)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            reference = ownership.controller_of(pod) if pod is not None else None
            if pod is not None and reference is not None and reference.kind == self._owner_kind:
                self.loop.queue.add(f"{pod.metadata.namespace}/{reference.name}")
        if new is None or ownership.controller_of(new) is not None or new.metadata.deletionTimestamp:
            return
        if old is not None and old.metadata.labels == new.metadata.labels and ownership.controller_of(old) is None:
            return
        for owner in self._owners.list(new.metadata.namespace):
            if self._flavor.selector_of(owner).matches(new.metadata.labels):
                self.loop.queue.add(shapes.key_of(owner))

    @property
    def _owner_kind(self) -> str:
        return shapes.of(self._flavor.kind).resource.kind

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        found = self._owners.by_key(key)
        if found is None:
            return None
        owner = cast("Any", found)
        held = await self._claim(owner)
        failure: ApiError | None = None
        if owner.metadata.deletionTimestamp is None:
            failure = await self._scale(owner, held)
            # What was just written is in the informer: report that.
            selector = self._flavor.selector_of(found)
            mine = ownership.owned(self._pods, owner.metadata.uid)
            held = [pod for pod in mine if selector.matches(pod.metadata.labels)]
        counts = plan.count(held, _template_labels(owner), owner.spec.minReadySeconds or 0, self._context.clock.now())
        await self._report(owner, counts, failure, len([p for p in held if pods.is_active(p)]))
        if failure is not None and not runtime.is_namespace_ending(failure):
            raise failure
        return runtime.RequeueAfter(counts.available_in) if counts.available_in else None

    async def _claim(self, owner: Any) -> list[Pod]:
        claim = ownership.plan_claim(
            owner,
            self._flavor.selector_of(owner),
            ownership.owned(self._pods, owner.metadata.uid),
            [p for p in ownership.orphans(self._pods, owner.metadata.namespace) if pods.is_active(p)],
        )
        return await ownership.apply_claim(self._context, owner, claim)

    async def _scale(self, owner: Any, held: list[Pod]) -> ApiError | None:
        active = [pod for pod in held if pods.is_active(pod)]
        wanted = 1 if owner.spec.replicas is None else owner.spec.replicas
        scale = plan.plan_scale(active, wanted, self._related(owner), self._context.clock.now())
        if scale.create:
            return await runtime.slow_start(range(scale.create), lambda _: self._create(owner))
        errors = await runtime.fan_out(scale.delete, lambda pod: self._delete(owner, pod))
        return errors[0] if errors else None

    def _related(self, owner: Any) -> list[Pod]:
        """Active pods of this owner and of its siblings under the same controller."""
        reference = ownership.controller_of(owner)
        siblings = ownership.owned(self._owners, reference.uid) if reference is not None else [owner]
        return [
            pod
            for sibling in siblings
            for pod in ownership.owned(self._pods, shapes.meta_of(sibling).uid)
            if pods.is_active(pod)
        ]

    async def _create(self, owner: Any) -> None:
        try:
            pod = await self._context.create(pods.from_template(owner.spec.template, owner))
        except ApiError as error:
            if not runtime.is_namespace_ending(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, owner: Any, pod: Pod) -> None:
        try:
            deleted = await self._context.delete(pod)
        except ApiError as error:
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        if deleted:
            self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    async def _report(self, owner: Any, counts: plan.Counts, failure: ApiError | None, active: int) -> None:
        condition = None
        if failure is not None:
            wanted = 1 if owner.spec.replicas is None else owner.spec.replicas
            condition = self._flavor.condition(
                type="ReplicaFailure",
                status="True",
                reason="FailedCreate" if active < wanted else "FailedDelete",
                message=str(failure),
                lastTransitionTime=scalars.render_time(self._context.clock.now()),
            )
        fresh = codec.clone(owner)
        status = fresh.status
        status.replicas = counts.replicas
        status.fullyLabeledReplicas = counts.fully_labeled or None
        status.readyReplicas = counts.ready or None
        status.availableReplicas = counts.available or None
        status.observedGeneration = owner.metadata.generation
        status.conditions = plan.plan_condition(status.conditions, condition)
        if self._flavor.counts_terminating:
            status.terminatingReplicas = counts.terminating
        if status != owner.status:
            await self._context.update_status(fresh)


def _template_labels(owner: Any) -> dict[str, str]:
    return owner.spec.template.metadata.labels if owner.spec.template is not None else {}
