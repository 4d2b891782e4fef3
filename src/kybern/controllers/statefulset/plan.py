"""The next pods of a StatefulSet to make, mend or take away. Pure.

Fed by reconcile. With OrderedReady one pod moves at a time: up in rising order, each when those below are ready; down
in falling order; updates from the highest ordinal down to the partition. Parallel makes and takes away all at once.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from kybern.api import codec
from kybern.api.apps_v1 import StatefulSet, StatefulSetStatus
from kybern.api.core_v1 import Pod
from kybern.controllers import history, pods
from kybern.controllers.statefulset import identity


@dataclass(frozen=True, slots=True)
class Seen:
    """A set, its pods, and the hashes (names of ControllerRevisions) of its revisions."""

    owner: StatefulSet
    own: Sequence[Pod]
    current: str  # revision that the set comes from
    update: str  # revision of its template
    now: datetime.datetime


@dataclass(slots=True)
class Plan:
    create: list[tuple[int, str]] = field(default_factory=list)  # (ordinal, revision)
    delete: list[Pod] = field(default_factory=list)
    replace: list[Pod] = field(default_factory=list)  # ended: to be deleted and made again
    again_in: float | None = None  # seconds


def is_monotonic(owner: StatefulSet) -> bool:
    return owner.spec.podManagementPolicy != "Parallel"


def partition_of(owner: StatefulSet) -> int:
    rolling = owner.spec.updateStrategy.rollingUpdate
    return (rolling.partition or 0) if rolling is not None else 0


def revision_of(pod: Pod) -> str:
    return pod.metadata.labels.get(history.HASH, "")


def new_revision(seen: Seen, ordinal: int) -> str:
    """Which revision a pod made now is of."""
    if seen.owner.spec.updateStrategy.type != "RollingUpdate" or seen.current == seen.update:
        return seen.update if seen.owner.spec.updateStrategy.type != "RollingUpdate" else seen.current
    position = ordinal - identity.start_of(seen.owner)
    rolling = seen.owner.spec.updateStrategy.rollingUpdate
    if rolling is None or rolling.partition is None:
        # Without a partition the first `currentReplicas` stay what they were until it is their turn.
        limit = seen.owner.status.currentReplicas or 0
    else:
        limit = rolling.partition
    return seen.current if position < limit else seen.update


def _available(seen: Seen, pod: Pod) -> bool:
    return pods.is_available(pod, seen.owner.spec.minReadySeconds or 0, seen.now)


def _is_healthy(seen: Seen, pod: Pod) -> bool:
    return pod.metadata.deletionTimestamp is None and pod.status.phase == "Running" and _available(seen, pod)


def plan_pods(seen: Seen) -> Plan:
    """The next step."""
    step = Plan()
    owner = seen.owner
    wanted = identity.ordinals_of(owner)
    by_ordinal: dict[int, Pod] = {}
    condemned: list[tuple[int, Pod]] = []
    for pod in seen.own:
        ordinal = identity.ordinal_of(owner, pod)
        if ordinal is None:
            continue
        if ordinal in wanted:
            by_ordinal[ordinal] = pod
        else:
            condemned.append((ordinal, pod))
    _note_waits(seen, step)
    if owner.metadata.deletionTimestamp is not None:
        return step
    if not _fill(seen, wanted, by_ordinal, step):
        return step
    if not _shrink(seen, condemned, step):
        return step
    if owner.spec.updateStrategy.type == "RollingUpdate":
        _update(seen, wanted, by_ordinal, step)
    return step


def _fill(seen: Seen, wanted: range, by_ordinal: dict[int, Pod], step: Plan) -> bool:
    """Every ordinal has a pod that works. False: this step ends here."""
    monotonic = is_monotonic(seen.owner)
    for ordinal in wanted:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            step.create.append((ordinal, new_revision(seen, ordinal)))
            if monotonic:
                return False
            continue
        if pods.is_finished(pod):
            # Replaced in place, as soon as it is gone; one on its way out is waited for.
            if pod.metadata.deletionTimestamp is None:
                step.replace.append(pod)
            if monotonic:
                return False
            continue
        if monotonic and not _is_healthy(seen, pod):
            return False
    return not step.create


def _shrink(seen: Seen, condemned: list[tuple[int, Pod]], step: Plan) -> bool:
    """Pods beyond the size go, the highest first. False: this step ends here."""
    if not condemned:
        return True
    condemned.sort(key=lambda pair: -pair[0])
    if not is_monotonic(seen.owner):
        step.delete += [pod for _, pod in condemned if pod.metadata.deletionTimestamp is None]
        return True
    first = condemned[0][1]
    if first.metadata.deletionTimestamp is not None:
        return False
    # A pod that does not work stays while a lower one does not work either: the lowest is to be mended first.
    # (Those that remain all work: _fill ends the step otherwise.)
    if _is_healthy(seen, first) or all(_is_healthy(seen, pod) for _, pod in condemned[1:]):
        step.delete.append(first)
    return False


def _update(seen: Seen, wanted: range, by_ordinal: dict[int, Pod], step: Plan) -> None:
    """Old pods are deleted, to be made anew of the newest revision, from the highest ordinal down."""
    room = _max_unavailable(seen.owner)
    lowest = identity.start_of(seen.owner) + partition_of(seen.owner)
    missing = sum(not _is_healthy(seen, pod) for pod in by_ordinal.values())
    for ordinal in reversed(wanted):
        if ordinal < lowest:
            return
        pod = by_ordinal.get(ordinal)
        if pod is None:
            return
        if revision_of(pod) != seen.update:
            if pod.metadata.deletionTimestamp is not None:
                return
            if not _is_healthy(seen, pod):
                step.delete.append(pod)  # a broken one first: it is in the way of its own mending
                return
            if missing >= room:
                return
            step.delete.append(pod)
            missing += 1
            if missing >= room:
                return
        elif not _is_healthy(seen, pod) and missing >= room:
            return


def _max_unavailable(owner: StatefulSet) -> int:
    rolling = owner.spec.updateStrategy.rollingUpdate
    value = rolling.maxUnavailable if rolling is not None else None
    if value is None:
        return 1
    if isinstance(value, int):
        return max(1, value)
    text = value.removesuffix("%")
    share = int(text) * identity.replicas_of(owner) // 100 if text.isascii() and text.isdigit() else 1
    return max(1, share)


def _note_waits(seen: Seen, step: Plan) -> None:
    for pod in seen.own:
        waits = pods.available_in(pod, seen.owner.spec.minReadySeconds or 0, seen.now)
        if waits:
            step.again_in = waits if step.again_in is None else min(step.again_in, waits)


def plan_status(seen: Seen) -> StatefulSetStatus:
    """The numbers; and, once all pods are of the newest revision, that this is the current one."""
    owner = seen.owner
    status = codec.clone(owner.status)
    wanted = identity.ordinals_of(owner)
    living = [p for p in seen.own if not pods.is_finished(p) and identity.ordinal_of(owner, p) is not None]
    standing = [p for p in living if p.metadata.deletionTimestamp is None]
    status.replicas = len(living)
    status.readyReplicas = sum(pods.is_ready(p) and p.status.phase == "Running" for p in living) or None
    status.availableReplicas = sum(_available(seen, p) and p.status.phase == "Running" for p in living) or None
    status.currentReplicas = sum(revision_of(p) == seen.current for p in standing) or None
    status.updatedReplicas = sum(revision_of(p) == seen.update for p in standing) or None
    status.currentRevision, status.updateRevision = seen.current or None, seen.update or None
    status.observedGeneration = owner.metadata.generation
    complete = (
        owner.spec.updateStrategy.type == "RollingUpdate"
        and (status.updatedReplicas or 0) == status.replicas == len(wanted)
        and (status.readyReplicas or 0) == status.replicas
    )
    if complete:
        status.currentRevision = seen.update or None
        status.currentReplicas = status.updatedReplicas
    return status
