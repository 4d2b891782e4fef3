"""Carry a deployment's plan out: create, scale and delete ReplicaSets, annotate, report.

Woken by informers of deployments, ReplicaSets and pods (a Recreate rollout waits for pods to end). Decides in plan.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.apps_v1 import Deployment, ReplicaSet
from kybern.api.core_v1 import Pod
from kybern.client import shapes
from kybern.controllers import ownership, pods, runtime
from kybern.controllers.deployment import conditions, revision, rollout
from kybern.controllers.deployment.plan import Plan, Resize, Seen, plan
from kybern.machinery import labels
from kybern.machinery.status import ApiError

NAME = "deployment-controller"


class DeploymentController:
    """runtime.Controller of deployments."""

    def __init__(self, context: runtime.Context, *, workers: int = 5) -> None:
        self.name = NAME
        self._context = context
        self._recorder = context.recorder(NAME)
        self._deployments = context.informers.of(Deployment)
        self._sets = context.informers.of(ReplicaSet)
        self._pods = context.informers.of(Pod)
        ownership.add_index(self._sets)
        ownership.add_index(self._pods)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=workers)
        runtime.enqueue_on_change(self.loop, self._deployments)
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)
        self.loops = (self.loop,)

    async def run(self) -> None:
        await self.loop.run()

    def _set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for rs in (old, new):
            reference = ownership.controller_of(rs) if rs is not None else None
            if rs is not None and reference is not None and reference.kind == "Deployment":
                self.loop.queue.add(f"{rs.metadata.namespace}/{reference.name}")
        if new is None or ownership.controller_of(new) is not None:
            return
        for deployment in self._deployments.list(new.metadata.namespace):
            if labels.from_label_selector(deployment.spec.selector).matches(new.metadata.labels):
                self.loop.queue.add(shapes.key_of(deployment))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Only the end of a pod matters here, and only to a Recreate rollout."""
        if old is None or (new is not None and not pods.is_finished(new)):
            return
        reference = ownership.controller_of(old)
        if reference is None or reference.kind != "ReplicaSet":
            return
        rs = self._sets.get(old.metadata.namespace, reference.name)
        owner = ownership.controller_of(rs) if rs is not None else None
        if owner is None:
            return
        deployment = self._deployments.get(old.metadata.namespace, owner.name)
        if deployment is not None and not rollout.is_rolling(deployment):
            self.loop.queue.add(shapes.key_of(deployment))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        deployment = self._deployments.by_key(key)
        if deployment is None or deployment.spec.selector is None:
            return None
        selector = labels.from_label_selector(deployment.spec.selector)
        if selector.is_empty:
            return None  # would adopt everything; validation refuses it, an old object may still be so
        claim = ownership.plan_claim(
            deployment,
            selector,
            ownership.owned(self._sets, deployment.metadata.uid),
            ownership.orphans(self._sets, deployment.metadata.namespace),
        )
        sets = await ownership.apply_claim(self._context, deployment, claim)
        new = revision.find_new(deployment, sets)
        seen = Seen(
            deployment,
            sets,
            any(self._has_live_pods(rs) for rs in sets if rs is not new),
            self._context.clock.now(),
        )
        step = plan(seen)
        await self._apply(deployment, step)
        return runtime.RequeueAfter(step.again_in) if step.again_in is not None else None

    def _has_live_pods(self, rs: ReplicaSet) -> bool:
        return any(not pods.is_finished(pod) for pod in ownership.owned(self._pods, rs.metadata.uid))

    async def _apply(self, deployment: Deployment, step: Plan) -> None:
        if step.create is not None and not await self._create(deployment, step):
            return
        for change in step.update:
            await self._resize(deployment, change)
        for rs in step.delete:
            await self._context.delete(rs)
        if step.revision:
            patch = {
                "metadata": {
                    "resourceVersion": deployment.metadata.resourceVersion,
                    "annotations": {revision.REVISION: step.revision},
                }
            }
            meta = deployment.metadata
            deployment = await self._context.patch(Deployment, meta.namespace, meta.name, patch)
        await self._report(deployment, step)

    async def _report(self, deployment: Deployment, step: Plan) -> None:
        if step.status == deployment.status:
            return
        fresh = codec.clone(deployment)
        fresh.status = step.status
        await self._context.update_status(fresh)

    async def _create(self, deployment: Deployment, step: Plan) -> bool:
        """Whether the ReplicaSet was made. A taken name raises the collision count, for another hash next time."""
        made = step.create
        assert made is not None
        try:
            stored = await self._context.create(made)
        except ApiError as error:
            if not error.is_already_exists:
                if not runtime.is_namespace_ending(error):
                    await self._report_failure(deployment, step, error)
                raise
            await self._resolve_collision(deployment, made)
            return False
        self._told(deployment, stored, 0)
        return True

    async def _resolve_collision(self, deployment: Deployment, made: ReplicaSet) -> None:
        meta = made.metadata
        there = await self._context.client.get(ReplicaSet, meta.namespace, meta.name)
        if ownership.is_controlled_by(there, deployment) and revision.find_new(deployment, [there]) is not None:
            # Made by us before, and not seen yet.
            self._sets.observe(there)
            self.loop.queue.add(shapes.key_of(deployment))
            return
        fresh = codec.clone(deployment)
        fresh.status.collisionCount = (deployment.status.collisionCount or 0) + 1
        await self._context.update_status(fresh)
        self.loop.queue.add(shapes.key_of(deployment))

    async def _report_failure(self, deployment: Deployment, step: Plan, error: ApiError) -> None:
        assert step.create is not None
        message = f'Failed to create new replica set "{step.create.metadata.name}": {error}'
        self._recorder.event(deployment, "Warning", "ReplicaSetCreateError", message)
        if conditions.has_deadline(deployment):
            fresh = codec.clone(deployment)
            conditions.put(
                fresh.status,
                conditions.PROGRESSING,
                "False",
                "ReplicaSetCreateError",
                str(error),
                self._context.clock.now(),
            )
            if fresh.status != deployment.status:
                await self._context.update_status(fresh)

    async def _resize(self, deployment: Deployment, change: Resize) -> None:
        stored = await self._context.update(change.rs)
        if rollout.replicas_of(stored) != change.before:
            self._told(deployment, stored, change.before)

    def _told(self, deployment: Deployment, rs: ReplicaSet, before: int) -> None:
        size = rollout.replicas_of(rs)
        if size == before:
            return
        way = "up" if size > before else "down"
        message = f"Scaled {way} replica set {rs.metadata.name} from {before} to {size}"
        self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)


def build(context: runtime.Context) -> DeploymentController:
    return DeploymentController(context)
