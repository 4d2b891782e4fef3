"""One step of a deployment: which ReplicaSets to make, scale or delete, and what to report. Pure.

Fed by reconcile with what the informers hold; each written step wakes the next. Rooms: paused and resized
deployments are scaled in proportion; others move by their strategy; finished ones lose their oldest history.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from kybern.api import codec
from kybern.api.apps_v1 import Deployment, DeploymentStatus, ReplicaSet
from kybern.controllers.deployment import conditions, revision, rollout


@dataclass(frozen=True, slots=True)
class Seen:
    """A deployment and its world. `old_pods_run`: pods of older ReplicaSets that have not ended."""

    deployment: Deployment
    sets: Sequence[ReplicaSet]  # controlled by the deployment
    old_pods_run: bool
    now: datetime.datetime


@dataclass(frozen=True, slots=True)
class Resize:
    """A changed ReplicaSet to write; `before` is its present size."""

    rs: ReplicaSet
    before: int


@dataclass(frozen=True, slots=True)
class Plan:
    """In this order: create or update sets, delete sets, revision annotation, status."""

    status: DeploymentStatus
    create: ReplicaSet | None = None
    update: tuple[Resize, ...] = ()
    delete: tuple[ReplicaSet, ...] = ()
    revision: str = ""  # to annotate the deployment with; "" for none
    again_in: float | None = None  # seconds


def plan(seen: Seen) -> Plan:
    """The next step."""
    deployment = seen.deployment
    new = revision.find_new(deployment, seen.sets)
    old = [rs for rs in revision.by_age(seen.sets) if rs is not new]
    if deployment.metadata.deletionTimestamp is not None:
        return _report(seen, new, Plan(deployment.status))
    if deployment.spec.paused:
        step = Plan(deployment.status, update=_scale(seen, new, old))
        return _report(seen, new, _with_cleanup(seen, step, old) if not step.update else step)
    if _was_resized(seen):
        return _report(seen, new, Plan(deployment.status, update=_scale(seen, new, old)))
    if rollout.is_rolling(deployment):
        return _roll(seen, new, old)
    return _recreate(seen, new, old)


def _roll(seen: Seen, new: ReplicaSet | None, old: list[ReplicaSet]) -> Plan:
    deployment = seen.deployment
    if new is None:
        return _create(seen, old)
    new, changed = _refresh(deployment, new, old)
    size = rollout.size_of_new(deployment, new, [*old, new])
    if size != rollout.replicas_of(new):
        resized = _resized(deployment, new, size)
        return _report(seen, new, _with_revision(Plan(deployment.status, update=(resized,)), deployment, resized.rs))
    updates = [Resize(new, size)] if changed else []
    sizes = rollout.sizes_of_old(deployment, new, old)
    updates += [_resized(deployment, rs, sizes[rs.metadata.uid]) for rs in old if rs.metadata.uid in sizes]
    step = _with_revision(Plan(deployment.status, update=tuple(updates)), deployment, new)
    return _report(seen, new, step if sizes else _with_cleanup(seen, step, old))


def _recreate(seen: Seen, new: ReplicaSet | None, old: list[ReplicaSet]) -> Plan:
    deployment = seen.deployment
    active = [rs for rs in old if rollout.replicas_of(rs) > 0]
    if active:
        update = tuple(_resized(deployment, rs, 0) for rs in active)
        return _report(seen, new, Plan(deployment.status, update=update))
    if seen.old_pods_run:
        return _report(seen, new, Plan(deployment.status))
    if new is None:
        return _create(seen, old)
    new, changed = _refresh(deployment, new, old)
    size = rollout.replicas_of(deployment)
    if size != rollout.replicas_of(new):
        step = Plan(deployment.status, update=(_resized(deployment, new, size),))
    else:
        step = Plan(deployment.status, update=(Resize(new, size),) if changed else ())
        step = _with_cleanup(seen, step, old)
    return _report(seen, new, _with_revision(step, deployment, new))


def _create(seen: Seen, old: list[ReplicaSet]) -> Plan:
    made = revision.make(seen.deployment, old)
    step = _with_revision(Plan(seen.deployment.status, create=made), seen.deployment, made)
    return _report(seen, None, step)


def _refresh(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> tuple[ReplicaSet, bool]:
    """The newest set with the annotations it should have (after a rollback: a higher revision)."""
    fresh = codec.clone(new)
    revision.annotate(deployment, fresh, revision.next_revision(old), is_new=False)
    fresh.spec.minReadySeconds = deployment.spec.minReadySeconds
    return fresh, fresh != new


def _resized(deployment: Deployment, rs: ReplicaSet, size: int) -> Resize:
    fresh = codec.clone(rs)
    before = rollout.replicas_of(rs)
    fresh.spec.replicas = size
    revision.annotate_size(deployment, fresh)
    return Resize(fresh, before)


def _was_resized(seen: Seen) -> bool:
    """The deployment's size changed since its active ReplicaSets were scaled."""
    wanted = rollout.replicas_of(seen.deployment)
    active = [rs for rs in seen.sets if rollout.replicas_of(rs) > 0]
    if len(active) > 1 and not rollout.is_rolling(seen.deployment):
        return False  # proportions mean nothing to Recreate: it takes all but one down anyway
    return any(revision.desired_of(rs) not in (None, wanted) for rs in active)


def _scale(seen: Seen, new: ReplicaSet | None, old: list[ReplicaSet]) -> tuple[Resize, ...]:
    """Follow a change of `replicas` without going on with the rollout."""
    deployment = seen.deployment
    wanted = rollout.replicas_of(deployment)
    active = [rs for rs in seen.sets if rollout.replicas_of(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else new or (old[-1] if old else None)
        if only is None or rollout.replicas_of(only) == wanted:
            return _noted(deployment, [only] if only is not None else [])
        return (_resized(deployment, only, wanted),)
    if new is not None and _is_saturated(deployment, new):
        return tuple(_resized(deployment, rs, 0) for rs in old if rollout.replicas_of(rs) > 0)
    if not rollout.is_rolling(deployment):
        return ()  # paused amid a Recreate: nothing to keep in proportion
    allowed = wanted + rollout.max_surge(deployment) if wanted > 0 else 0
    growing = allowed > rollout.total_of(active)
    # The largest gets what rounding leaves; among equals the newest when growing, the oldest when shrinking.
    ordered = revision.by_age(active)
    if growing:
        ordered.reverse()
    ordered.sort(key=lambda rs: -rollout.replicas_of(rs))
    before = deployment.status.replicas or 0
    sizes = rollout.shares([(rollout.replicas_of(rs), revision.maximum_of(rs) or before) for rs in ordered], allowed)
    resized = [_resized(deployment, rs, size) for rs, size in zip(ordered, sizes, strict=True)]
    return tuple(change for change, rs in zip(resized, ordered, strict=True) if change.rs != rs)


def _noted(deployment: Deployment, sets: Sequence[ReplicaSet]) -> tuple[Resize, ...]:
    """Sets of the right size whose annotations still tell of another size of the deployment."""
    resized = [_resized(deployment, rs, rollout.replicas_of(rs)) for rs in sets]
    return tuple(change for change, rs in zip(resized, sets, strict=True) if change.rs != rs)


def _is_saturated(deployment: Deployment, rs: ReplicaSet) -> bool:
    wanted = rollout.replicas_of(deployment)
    return (
        rollout.replicas_of(rs) == wanted
        and revision.desired_of(rs) == wanted
        and (rs.status.availableReplicas or 0) == wanted
    )


def _with_revision(step: Plan, deployment: Deployment, new: ReplicaSet) -> Plan:
    wanted = new.metadata.annotations.get(revision.REVISION, "")
    if wanted == deployment.metadata.annotations.get(revision.REVISION, ""):
        return step
    return dataclasses.replace(step, revision=wanted)


def _with_cleanup(seen: Seen, step: Plan, old: list[ReplicaSet]) -> Plan:
    """Once nothing moves any more, forget the oldest revisions beyond the limit."""
    deployment = seen.deployment
    limit = deployment.spec.revisionHistoryLimit
    status = conditions.count(deployment, revision.find_new(deployment, seen.sets), seen.sets, seen.now)
    if limit is None or not (deployment.spec.paused or conditions.is_complete(deployment, status)):
        return step
    kept = [rs for rs in old if rs.metadata.deletionTimestamp is None]
    surplus = sorted(kept, key=revision.revision_of)[: max(0, len(kept) - limit)]
    idle = [
        rs
        for rs in surplus
        if rollout.replicas_of(rs) == 0
        and rs.status.replicas == 0
        and (rs.status.observedGeneration or 0) >= (rs.metadata.generation or 0)
    ]
    return dataclasses.replace(step, delete=tuple(idle))


def _report(seen: Seen, new: ReplicaSet | None, step: Plan) -> Plan:
    """The step with the status to write: from the ReplicaSets as they are, before the step."""
    deployment = seen.deployment
    status = conditions.count(deployment, new, seen.sets, seen.now)
    if conditions.has_deadline(deployment) and deployment.metadata.deletionTimestamp is None:
        _note_progress(deployment, status, new, step, seen.now)
    if not deployment.spec.paused and step.create is None:
        conditions.report_progress(deployment, status, new, seen.sets, seen.now)
    again = conditions.deadline_in(deployment, status, seen.now)
    return dataclasses.replace(step, status=status, again_in=again + 1 if again else None)


def _note_progress(
    deployment: Deployment, status: DeploymentStatus, new: ReplicaSet | None, step: Plan, now: datetime.datetime
) -> None:
    """Progressing, as far as pausing, resuming, and finding or making the newest set tell it."""
    current = conditions.find(status, conditions.PROGRESSING)
    is_paused = current is not None and current.reason == conditions.PAUSED_REASON
    if deployment.spec.paused:
        if not is_paused and not (current is not None and current.reason == conditions.EXPIRED_REASON):
            message = "Deployment is paused"
            conditions.put(status, conditions.PROGRESSING, "Unknown", conditions.PAUSED_REASON, message, now)
    elif is_paused:
        message = "Deployment is resumed"
        conditions.put(status, conditions.PROGRESSING, "Unknown", "DeploymentResumed", message, now)
    elif step.create is not None:
        message = f'Created new replica set "{step.create.metadata.name}"'
        conditions.put(status, conditions.PROGRESSING, "True", "NewReplicaSetCreated", message, now)
    elif new is not None and (current is None or step.revision):
        message = f'Found new replica set "{new.metadata.name}"'
        conditions.put(status, conditions.PROGRESSING, "True", "FoundNewReplicaSet", message, now)
