"""Carry out the steps of StatefulSets: pods, their claims, revisions and status.

Woken by sets and pods; decides in plan. Pods of an older revision are made from that revision's data.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.apps_v1 import ControllerRevision, StatefulSet
from kybern.api.core_v1 import PersistentVolumeClaim, Pod, PodTemplateSpec
from kybern.api.meta_v1 import OwnerReference
from kybern.client import shapes
from kybern.controllers import history, ownership, runtime
from kybern.controllers.statefulset import identity, plan
from kybern.machinery import labels
from kybern.machinery.status import ApiError

NAME = "statefulset-controller"


class StatefulSetController(runtime.Looped):
    """runtime.Controller; keys are those of StatefulSets."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder(NAME)
        self._sets = context.informers.of(StatefulSet)
        self._revisions = context.informers.of(ControllerRevision)
        self._pods = context.informers.of(Pod)
        self._claims = context.informers.of(PersistentVolumeClaim)
        ownership.add_index(self._pods)
        ownership.add_index(self._revisions)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._sets)
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            reference = ownership.controller_of(pod) if pod is not None else None
            if pod is not None and reference is not None and reference.kind == "StatefulSet":
                self.loop.queue.add(f"{pod.metadata.namespace}/{reference.name}")
        if new is None or ownership.controller_of(new) is not None:
            return
        for found in self._sets.list(new.metadata.namespace):
            if labels.from_label_selector(found.spec.selector).matches(new.metadata.labels):
                self.loop.queue.add(shapes.key_of(found))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        owner = self._sets.by_key(key)
        if owner is None:
            return None
        selector = labels.from_label_selector(owner.spec.selector)
        own = await self._claim_pods(owner, selector)
        revisions = await self._claim_revisions(owner, selector)
        found = history.plan_history(owner, revisions)
        update: ControllerRevision | None = found.current
        if owner.metadata.deletionTimestamp is None:
            update = await history.apply_history(self._context, owner, found)
        if update is None:
            fresh = codec.clone(owner)
            fresh.status.collisionCount = (owner.status.collisionCount or 0) + 1
            await self._context.update_status(fresh)
            return None
        names = {revision.metadata.name for revision in revisions}
        current = owner.status.currentRevision or ""
        if current not in names:
            current = update.metadata.name
        if owner.metadata.deletionTimestamp is None:
            await self._keep_claims(owner, own)
        seen = plan.Seen(owner, own, current, update.metadata.name, self._context.clock.now())
        step = plan.plan_pods(seen)
        try:
            await self._apply(owner, step, [*revisions, update])
        finally:
            own = [p for p in ownership.owned(self._pods, owner.metadata.uid) if selector.matches(p.metadata.labels)]
            await self._report(owner, plan.Seen(owner, own, current, update.metadata.name, seen.now))
        await self._trim_history(owner, own, (current, update.metadata.name))
        return runtime.RequeueAfter(step.again_in) if step.again_in is not None else None

    async def _claim_pods(self, owner: StatefulSet, selector: labels.Selector) -> list[Pod]:
        """Only pods with a name of this set can be its own."""
        namespace = owner.metadata.namespace
        claim = ownership.plan_claim(
            owner,
            selector,
            ownership.owned(self._pods, owner.metadata.uid),
            [p for p in ownership.orphans(self._pods, namespace) if identity.ordinal_of(owner, p) is not None],
        )
        return await ownership.apply_claim(self._context, owner, claim)

    async def _claim_revisions(self, owner: StatefulSet, selector: labels.Selector) -> list[ControllerRevision]:
        claim = ownership.plan_claim(
            owner,
            selector,
            ownership.owned(self._revisions, owner.metadata.uid),
            ownership.orphans(self._revisions, owner.metadata.namespace),
        )
        return await ownership.apply_claim(self._context, owner, claim)

    async def _apply(self, owner: StatefulSet, step: plan.Plan, revisions: list[ControllerRevision]) -> None:
        for pod in (*step.delete, *step.replace):
            if await self._context.delete(pod):
                message = f"delete Pod {pod.metadata.name} in StatefulSet {owner.metadata.name} successful"
                self._recorder.event(owner, "Normal", "SuccessfulDelete", message)
        templates = {r.metadata.name: r for r in revisions}
        failure = await runtime.slow_start(step.create, lambda new: self._create(owner, new[0], templates[new[1]]))
        if failure is not None and not runtime.is_namespace_ending(failure):
            raise failure

    async def _create(self, owner: StatefulSet, ordinal: int, revision: ControllerRevision) -> None:
        for claim in identity.claims_of(owner, ordinal):
            await self._create_claim(owner, claim)
        template = _template_of(revision)
        pod = identity.make_pod(owner, template, ordinal, revision.metadata.name)
        try:
            made = await self._context.create(pod)
        except ApiError as error:
            if not runtime.is_namespace_ending(error):
                message = f"create Pod {pod.metadata.name} in StatefulSet {owner.metadata.name} failed error: {error}"
                self._recorder.event(owner, "Warning", "FailedCreate", message)
            raise
        message = f"create Pod {made.metadata.name} in StatefulSet {owner.metadata.name} successful"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _create_claim(self, owner: StatefulSet, claim: PersistentVolumeClaim) -> None:
        """Make it unless it is there. Raises ApiError (conflict) if one of an earlier pod is still on its way out."""
        there = self._claims.get(claim.metadata.namespace, claim.metadata.name)
        if there is not None:
            if identity.is_leaving(owner, there):
                why = "it goes with an earlier pod; the new one has to wait"
                raise ApiError.conflict("", "persistentvolumeclaims", claim.metadata.name, why)
            return
        try:
            await self._context.create(claim)
        except ApiError as error:
            if not error.is_already_exists:
                raise
            return
        message = f"create Claim {claim.metadata.name} in StatefulSet {owner.metadata.name} success"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _keep_claims(self, owner: StatefulSet, own: list[Pod]) -> None:
        """Let claims go with what the retention policy says they go with: before any pod is taken away."""
        if not owner.spec.volumeClaimTemplates:
            return
        wanted = identity.ordinals_of(owner)
        for pod in own:
            ordinal = identity.ordinal_of(owner, pod)
            if ordinal is None:
                continue
            for made in identity.claims_of(owner, ordinal):
                claim = self._claims.get(made.metadata.namespace, made.metadata.name)
                if claim is None:
                    if pod.status.phase == "Pending" and pod.metadata.deletionTimestamp is None:
                        await self._create_claim(owner, made)  # the pod waits for it
                    continue
                owners = identity.plan_claim_owners(owner, claim, pod, condemned=ordinal not in wanted)
                if owners is not None:
                    await self._set_owners(claim, owners)

    async def _set_owners(self, claim: PersistentVolumeClaim, owners: list[OwnerReference]) -> None:
        meta = {"resourceVersion": claim.metadata.resourceVersion, "ownerReferences": codec.to_json(owners)}
        namespace, name = claim.metadata.namespace, claim.metadata.name
        await self._context.patch(PersistentVolumeClaim, namespace, name, {"metadata": meta})

    async def _report(self, owner: StatefulSet, seen: plan.Seen) -> None:
        status = plan.plan_status(seen)
        if status != owner.status:
            fresh = codec.clone(owner)
            fresh.status = status
            await self._context.update_status(fresh)

    async def _trim_history(self, owner: StatefulSet, own: list[Pod], kept: tuple[str, str]) -> None:
        live = {plan.revision_of(pod) for pod in own} | set(kept)
        revisions = ownership.owned(self._revisions, owner.metadata.uid)
        for gone in history.plan_surplus(revisions, live, owner.spec.revisionHistoryLimit):
            await self._context.delete(gone)


def _template_of(revision: ControllerRevision) -> PodTemplateSpec:
    value = revision.data["spec"]["template"]
    template, _ = codec.from_json(PodTemplateSpec, {k: v for k, v in value.items() if k != "$patch"})
    return template


def build(context: runtime.Context) -> StatefulSetController:
    return StatefulSetController(context)
