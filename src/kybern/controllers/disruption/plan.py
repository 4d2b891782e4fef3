"""The numbers of a budget. Pure. Source: "Specifying a Disruption Budget" in the Kubernetes documentation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kybern.api import codec, scalars
from kybern.api.core_v1 import Pod
from kybern.api.meta_v1 import Condition
from kybern.api.policy_v1 import PodDisruptionBudget, PodDisruptionBudgetStatus
from kybern.api.scalars import Time
from kybern.controllers import pods

DELETION_PATIENCE = 120.0  # seconds an evicted pod may take to be told to stop
ALLOWED = "DisruptionAllowed"


@dataclass(frozen=True, slots=True)
class Expected:
    """How many pods there should be: by the controllers of the pods (`scale`), and as there are (`found`)."""

    scale: int
    found: int


def resolve(value: int | str | None, total: int) -> int:
    """A number or a percentage of `total`, rounded up."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    text = value.removesuffix("%")
    return -(-int(text) * total // 100) if text.isascii() and text.isdigit() else 0


def needs_scale(budget: PodDisruptionBudget) -> bool:
    """Whether the controllers of the pods have to be asked how many there should be."""
    return budget.spec.maxUnavailable is not None or isinstance(budget.spec.minAvailable, str)


def desired(budget: PodDisruptionBudget, expected: Expected) -> tuple[int, int]:
    """(pods expected, healthy pods desired)."""
    if budget.spec.maxUnavailable is not None:
        return expected.scale, max(0, expected.scale - resolve(budget.spec.maxUnavailable, expected.scale))
    if isinstance(budget.spec.minAvailable, str):
        return expected.scale, resolve(budget.spec.minAvailable, expected.scale)
    return expected.found, budget.spec.minAvailable or 0


def still_disrupted(
    disrupted: Mapping[str, Time], selected: Sequence[Pod], now: datetime.datetime
) -> tuple[dict[str, Time], float | None]:
    """Evicted pods that were not told to stop yet, and seconds until the first of them counts as saved."""
    kept: dict[str, Time] = {}
    soonest: float | None = None
    for pod in selected:
        stamp = disrupted.get(pod.metadata.name)
        if stamp is None or pod.metadata.deletionTimestamp is not None:
            continue
        left = DELETION_PATIENCE - (now - scalars.parse_time(stamp)).total_seconds()
        if left > 0:
            kept[pod.metadata.name] = stamp
            soonest = left if soonest is None else min(soonest, left)
    return kept, soonest


def plan_status(
    budget: PodDisruptionBudget, selected: Sequence[Pod], expected: Expected, now: datetime.datetime
) -> tuple[PodDisruptionBudgetStatus, float | None]:
    """The status to write, and when to look again (seconds)."""
    disrupted, again = still_disrupted(budget.status.disruptedPods, selected, now)
    healthy = sum(
        pod.metadata.deletionTimestamp is None and pod.metadata.name not in disrupted and pods.is_ready(pod)
        for pod in selected
    )
    total, wanted = desired(budget, expected)
    allowed = max(0, healthy - wanted) if total > 0 else 0
    status = codec.clone(budget.status)
    status.currentHealthy = healthy
    status.desiredHealthy = wanted
    status.expectedPods = total
    status.disruptionsAllowed = allowed
    status.disruptedPods = disrupted
    status.observedGeneration = budget.metadata.generation
    status.conditions = _conditions(budget, allowed, now)
    return status, again


def _conditions(budget: PodDisruptionBudget, allowed: int, now: datetime.datetime) -> list[Condition]:
    value, reason = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    old = next((c for c in budget.status.conditions if c.type == ALLOWED), None)
    since = old.lastTransitionTime if old is not None and old.status == value else scalars.render_time(now)
    condition = Condition(
        type=ALLOWED,
        status=value,
        reason=reason,
        message="",
        observedGeneration=budget.metadata.generation,
        lastTransitionTime=since,
    )
    return [*(c for c in budget.status.conditions if c.type != ALLOWED), condition]
