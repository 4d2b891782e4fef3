"""What controllers want to know of a pod: whether it runs, is ready, is available, and how to make one.

Pure. Read by the plans of all controllers of pods.
"""

from __future__ import annotations

import datetime
from typing import Any

from kybern.api import codec, scalars
from kybern.api.core_v1 import Pod, PodCondition, PodTemplateSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import ownership

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def is_finished(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Runs, or will."""
    return not is_finished(pod) and pod.metadata.deletionTimestamp is None


def is_terminating(pod: Pod) -> bool:
    """Still runs, but was told to stop."""
    return not is_finished(pod) and pod.metadata.deletionTimestamp is not None


def condition_of(pod: Pod, type_: str) -> PodCondition | None:
    for condition in pod.status.conditions:
        if condition.type == type_:
            return condition
    return None


def is_ready(pod: Pod) -> bool:
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.status == "True"


def ready_since(pod: Pod) -> datetime.datetime | None:
    condition = condition_of(pod, "Ready")
    if condition is None or condition.status != "True" or condition.lastTransitionTime is None:
        return None
    return scalars.parse_time(condition.lastTransitionTime)


def available_in(pod: Pod, min_ready_seconds: int, now: datetime.datetime) -> float | None:
    """Seconds until the pod has been ready for long enough: 0 if it has; None if it is not ready at all."""
    if not is_ready(pod):
        return None
    if min_ready_seconds <= 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def is_available(pod: Pod, min_ready_seconds: int, now: datetime.datetime) -> bool:
    return available_in(pod, min_ready_seconds, now) == 0.0


def from_template(template: PodTemplateSpec, owner: Any, *, name: str = "") -> Pod:
    """A new pod of an owner; the server makes up the name's end unless one is given."""
    meta = template.metadata
    pod = codec.clone(Pod(spec=template.spec))  # the template is shared: never lend its parts to a new object
    pod.metadata = ObjectMeta(
        name=name,
        generateName="" if name else f"{owner.metadata.name}-",
        namespace=owner.metadata.namespace,
        labels=dict(meta.labels),
        annotations=dict(meta.annotations),
        finalizers=list(meta.finalizers),
        ownerReferences=[ownership.reference_to(owner)],
    )
    return pod


def restarts(pod: Pod) -> int:
    return max((status.restartCount for status in pod.status.containerStatuses), default=0)
