"""What a deployment's status tells: counts, Available, Progressing and ReplicaFailure. Pure.

Read by plan. Reasons and messages are those that `kubectl rollout status` and people know.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from kybern.api import codec, scalars
from kybern.api.apps_v1 import Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet
from kybern.controllers.deployment import rollout

NO_DEADLINE = 2**31 - 1
AVAILABLE = "Available"
PROGRESSING = "Progressing"
FAILURE = "ReplicaFailure"
COMPLETE_REASON = "NewReplicaSetAvailable"
EXPIRED_REASON = "ProgressDeadlineExceeded"
PAUSED_REASON = "DeploymentPaused"


def has_deadline(deployment: Deployment) -> bool:
    return deployment.spec.progressDeadlineSeconds not in (None, NO_DEADLINE)


def find(status: DeploymentStatus, type_: str) -> DeploymentCondition | None:
    for condition in status.conditions:
        if condition.type == type_:
            return condition
    return None


def put(
    status: DeploymentStatus,
    type_: str,
    value: str,
    reason: str,
    message: str,
    now: datetime.datetime,
    *,
    touch: bool = False,
) -> None:
    """Set a condition. One that says the same keeps its times; `touch` renews lastUpdateTime all the same."""
    stamp = scalars.render_time(now)
    old = find(status, type_)
    if old is not None and old.status == value and old.reason == reason and not touch:
        return
    since = old.lastTransitionTime if old is not None and old.status == value else stamp
    new = DeploymentCondition(
        type=type_, status=value, reason=reason, message=message, lastUpdateTime=stamp, lastTransitionTime=since
    )
    status.conditions = [*(c for c in status.conditions if c.type != type_), new]


def drop(status: DeploymentStatus, type_: str) -> None:
    status.conditions = [c for c in status.conditions if c.type != type_]


def count(
    deployment: Deployment, new: ReplicaSet | None, sets: Sequence[ReplicaSet], now: datetime.datetime
) -> DeploymentStatus:
    """A fresh status: the numbers as the ReplicaSets report them, and Available."""
    status = codec.clone(deployment.status)
    available = rollout.available_of(sets)
    total = sum(rs.status.replicas for rs in sets)
    terminating = [rs.status.terminatingReplicas for rs in sets]
    status.observedGeneration = deployment.metadata.generation
    status.replicas = total or None
    status.updatedReplicas = (new.status.replicas if new is not None else 0) or None
    status.readyReplicas = sum(rs.status.readyReplicas or 0 for rs in sets) or None
    status.availableReplicas = available or None
    status.unavailableReplicas = max(0, total - available) or None
    status.terminatingReplicas = None if None in terminating else sum(t or 0 for t in terminating)
    if available >= rollout.replicas_of(deployment) - rollout.max_unavailable(deployment):
        message = "Deployment has minimum availability."
        put(status, AVAILABLE, "True", "MinimumReplicasAvailable", message, now)
    else:
        message = "Deployment does not have minimum availability."
        put(status, AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
    return status


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """All replicas are of the newest template and available, and none of another is left."""
    wanted = rollout.replicas_of(deployment)
    return (
        (status.updatedReplicas or 0) == wanted
        and (status.replicas or 0) == wanted
        and (status.availableReplicas or 0) == wanted
        and (status.observedGeneration or 0) >= (deployment.metadata.generation or 0)
    )


def _is_progressing(old: DeploymentStatus, new: DeploymentStatus) -> bool:
    def outdated(status: DeploymentStatus) -> int:
        return (status.replicas or 0) - (status.updatedReplicas or 0)

    return (
        (new.updatedReplicas or 0) > (old.updatedReplicas or 0)
        or outdated(new) < outdated(old)
        or (new.readyReplicas or 0) > (old.readyReplicas or 0)
        or (new.availableReplicas or 0) > (old.availableReplicas or 0)
    )


def deadline_in(deployment: Deployment, status: DeploymentStatus, now: datetime.datetime) -> float | None:
    """Seconds until the rollout counts as stuck (0: it does); None if it cannot."""
    condition = find(status, PROGRESSING)
    if condition is None or not has_deadline(deployment) or condition.reason == COMPLETE_REASON:
        return None
    if condition.reason == EXPIRED_REASON:
        return 0.0
    if condition.lastUpdateTime is None or condition.reason == PAUSED_REASON:
        return None
    since = scalars.parse_time(condition.lastUpdateTime)
    return max(0.0, (deployment.spec.progressDeadlineSeconds or 0) - (now - since).total_seconds())


def report_progress(
    deployment: Deployment,
    status: DeploymentStatus,
    new: ReplicaSet | None,
    sets: Sequence[ReplicaSet],
    now: datetime.datetime,
) -> None:
    """Set Progressing and ReplicaFailure in a counted status."""
    shown = f'ReplicaSet "{new.metadata.name}"' if new is not None else f'Deployment "{deployment.metadata.name}"'
    current = find(status, PROGRESSING)
    if not has_deadline(deployment):
        drop(status, PROGRESSING)
    elif not (_settled(status) and current is not None and current.reason == COMPLETE_REASON):
        if is_complete(deployment, status):
            message = f"{shown} has successfully progressed."
            put(status, PROGRESSING, "True", COMPLETE_REASON, message, now)
        elif _is_progressing(deployment.status, status):
            message = f"{shown} is progressing."
            put(status, PROGRESSING, "True", "ReplicaSetUpdated", message, now, touch=True)
        elif deadline_in(deployment, status, now) == 0.0:
            message = f"{shown} has timed out progressing."
            put(status, PROGRESSING, "False", EXPIRED_REASON, message, now)
    failure = next((c for rs in sets for c in rs.status.conditions if c.type == FAILURE), None)
    if failure is None:
        drop(status, FAILURE)
    else:
        put(status, FAILURE, failure.status, failure.reason or "", failure.message or "", now)


def _settled(status: DeploymentStatus) -> bool:
    return (status.replicas or 0) == (status.updatedReplicas or 0)
