"""Keep one pod of a DaemonSet on every node that fits, and roll out new templates.

Woken by DaemonSets, their pods, their revisions and by nodes; decides in plan.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.apps_v1 import ControllerRevision, DaemonSet
from kybern.api.core_v1 import Node, Pod
from kybern.client import shapes
from kybern.client.workqueue import RateLimit
from kybern.controllers import history, ownership, pods, runtime
from kybern.controllers.daemonset import placement, plan
from kybern.machinery import labels
from kybern.machinery.status import ApiError

NAME = "daemonset-controller"
GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"


class DaemonSetController(runtime.Looped):
    """runtime.Controller; keys are those of DaemonSets."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._recorder = context.recorder(NAME)
        self._sets = context.informers.of(DaemonSet)
        self._revisions = context.informers.of(ControllerRevision)
        self._pods = context.informers.of(Pod)
        self._nodes = context.informers.of(Node)
        ownership.add_index(self._pods)
        ownership.add_index(self._revisions)
        self._failures: dict[str, tuple[int, float]] = {}  # set uid / node -> (count, last, monotonic)
        self._failure_limit = RateLimit(first=1.0, longest=900.0)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock)
        super().__init__(NAME, self.loop)
        runtime.enqueue_on_change(self.loop, self._sets)
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            reference = ownership.controller_of(pod) if pod is not None else None
            if pod is not None and reference is not None and reference.kind == "DaemonSet":
                self.loop.queue.add(f"{pod.metadata.namespace}/{reference.name}")
        if new is None or ownership.controller_of(new) is not None:
            return
        for found in self._sets.list(new.metadata.namespace):
            if labels.from_label_selector(found.spec.selector).matches(new.metadata.labels):
                self.loop.queue.add(shapes.key_of(found))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """Sets that fit the node now, and did not, or the other way round."""
        for found in self._sets.list():
            before = placement.judge(found, old) if old is not None else None
            after = placement.judge(found, new) if new is not None else None
            if before != after:
                self.loop.queue.add(shapes.key_of(found))

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        daemonset = self._sets.by_key(key)
        if daemonset is None:
            return None
        selector = labels.from_label_selector(daemonset.spec.selector)
        if selector.is_empty:
            return None
        uid = daemonset.metadata.uid
        claim = ownership.plan_claim(
            daemonset,
            selector,
            ownership.owned(self._pods, uid),
            ownership.orphans(self._pods, daemonset.metadata.namespace),
        )
        own = await ownership.apply_claim(self._context, daemonset, claim)
        current = await self._current_revision(daemonset, selector)
        if current is None:
            return None
        hash_ = history.hash_label(current)
        again: float | None = None
        if daemonset.metadata.deletionTimestamp is None:
            again = await self._manage(daemonset, self._seen(daemonset, own, hash_))
            own = [p for p in ownership.owned(self._pods, uid) if selector.matches(p.metadata.labels)]
            await self._trim_history(daemonset, own, hash_)
        status, soonest = plan.plan_status(self._seen(daemonset, own, hash_))
        if status != daemonset.status:
            fresh = codec.clone(daemonset)
            fresh.status = status
            await self._context.update_status(fresh)
        waits = [seconds for seconds in (again, soonest) if seconds is not None]
        return runtime.RequeueAfter(min(waits)) if waits else None

    def _seen(self, daemonset: DaemonSet, own: list[Pod], hash_: str) -> plan.Seen:
        return plan.Seen(daemonset, self._nodes.list(), plan.group(own), hash_, self._context.clock.now())

    async def _current_revision(self, daemonset: DaemonSet, selector: labels.Selector) -> ControllerRevision | None:
        """The revision of the present template; None after a collision, which another turn resolves."""
        claim = ownership.plan_claim(
            daemonset,
            selector,
            ownership.owned(self._revisions, daemonset.metadata.uid),
            ownership.orphans(self._revisions, daemonset.metadata.namespace),
        )
        revisions = await ownership.apply_claim(self._context, daemonset, claim)
        found = history.plan_history(daemonset, revisions)
        if daemonset.metadata.deletionTimestamp is not None:
            return found.current
        stored = await history.apply_history(self._context, daemonset, found)
        if stored is None:
            fresh = codec.clone(daemonset)
            fresh.status.collisionCount = (daemonset.status.collisionCount or 0) + 1
            await self._context.update_status(fresh)
        return stored

    async def _manage(self, daemonset: DaemonSet, seen: plan.Seen) -> float | None:
        """Make and take away pods. Returns in how many seconds a failed pod may be replaced."""
        step = plan.plan_pods(seen)
        again = self._hold_back(daemonset, step)
        await self._apply(daemonset, step, seen.hash_)
        if step.create or step.delete or daemonset.spec.updateStrategy.type == "OnDelete":
            return again
        await self._apply(daemonset, plan.plan_update(seen), seen.hash_)
        return again

    def _hold_back(self, daemonset: DaemonSet, step: plan.Plan) -> float | None:
        """A pod that fails again and again is replaced more and more slowly."""
        now = self._context.clock.monotonic()
        soonest: float | None = None
        for pod in step.failed:
            key = f"{daemonset.metadata.uid}/{placement.node_of(pod)}"
            count, last = self._failures.get(key, (0, float("-inf")))
            if now - last > 2 * self._failure_limit.longest:
                count = 0
            left = last + (self._failure_limit.pause(count - 1) if count else 0.0) - now
            if left > 0:
                step.delete.remove(pod)
                soonest = left if soonest is None else min(soonest, left)
                continue
            self._failures[key] = (count + 1, now)
            message = f"Found failed daemon pod {shapes.key_of(pod)} on node {pod.spec.nodeName}, will try to kill it"
            self._recorder.event(daemonset, "Warning", "FailedDaemonPod", message)
        return soonest

    async def _apply(self, daemonset: DaemonSet, step: plan.Plan, hash_: str) -> None:
        failure = await runtime.slow_start(step.create, lambda node: self._create(daemonset, node, hash_))
        errors = await runtime.fan_out(step.delete, lambda pod: self._delete(daemonset, pod))
        failure = failure or (errors[0] if errors else None)
        if failure is not None and not runtime.is_namespace_ending(failure):
            raise failure

    async def _create(self, daemonset: DaemonSet, node: str, hash_: str) -> None:
        pod = pods.from_template(daemonset.spec.template, daemonset)
        pod.metadata.labels[history.HASH] = hash_
        generation = daemonset.metadata.annotations.get(GENERATION) or str(daemonset.metadata.generation or 1)
        pod.metadata.labels[GENERATION_LABEL] = generation
        placement.pin(pod, node)
        try:
            made = await self._context.create(pod)
        except ApiError as error:
            if not runtime.is_namespace_ending(error):
                self._recorder.event(daemonset, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(daemonset, "Normal", "SuccessfulCreate", f"Created pod: {made.metadata.name}")

    async def _delete(self, daemonset: DaemonSet, pod: Pod) -> None:
        try:
            if await self._context.delete(pod):
                self._recorder.event(daemonset, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
        except ApiError as error:
            self._recorder.event(daemonset, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise

    async def _trim_history(self, daemonset: DaemonSet, own: list[Pod], hash_: str) -> None:
        live = {pod.metadata.labels.get(history.HASH, "") for pod in own} | {hash_}
        revisions = ownership.owned(self._revisions, daemonset.metadata.uid)
        for gone in history.plan_surplus(revisions, live, daemonset.spec.revisionHistoryLimit):
            await self._context.delete(gone)


def build(context: runtime.Context) -> DaemonSetController:
    return DaemonSetController(context)
