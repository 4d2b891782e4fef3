"""How fast to follow a recommendation. Pure but for the memory of one autoscaler, which is handed in.

Read by reconcile. First the window: down only to the highest recommendation of the last minutes, so that replicas do
not flap; then the policies: so many pods, or so much of them, in so many seconds. Source: "Configurable scaling
behavior" in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from kybern.api.autoscaling_v2 import HorizontalPodAutoscalerSpec, HPAScalingPolicy, HPAScalingRules
from kybern.controllers.horizontalpodautoscaler.proposal import TOLERANCE, Tolerance
from kybern.machinery import quantity

DOWN_WINDOW = 300
LONGEST_PERIOD = 1800.0  # seconds: no policy looks further back
LONGEST_WINDOW = 3600.0


def rules(spec: HorizontalPodAutoscalerSpec) -> tuple[HPAScalingRules, HPAScalingRules]:
    """(up, down), what was not said filled in."""
    behavior = spec.behavior
    up = behavior.scaleUp if behavior is not None else None
    down = behavior.scaleDown if behavior is not None else None
    faster = [
        HPAScalingPolicy(type="Pods", value=4, periodSeconds=15),
        HPAScalingPolicy(type="Percent", value=100, periodSeconds=15),
    ]
    slower = [HPAScalingPolicy(type="Percent", value=100, periodSeconds=15)]
    return _filled(up, 0, faster), _filled(down, DOWN_WINDOW, slower)


def _filled(given: HPAScalingRules | None, window: int, policies: list[HPAScalingPolicy]) -> HPAScalingRules:
    given = given or HPAScalingRules()
    chosen = given.stabilizationWindowSeconds
    return HPAScalingRules(
        policies=given.policies or policies,
        selectPolicy=given.selectPolicy or "Max",
        stabilizationWindowSeconds=window if chosen is None else chosen,
        tolerance=given.tolerance,
    )


def tolerance(up: HPAScalingRules, down: HPAScalingRules) -> Tolerance:
    def of(one: HPAScalingRules) -> float:
        return TOLERANCE if one.tolerance is None else quantity.nano(one.tolerance) / 1e9

    return Tolerance(of(down), of(up))


@dataclass(slots=True)
class Memory:
    """What one autoscaler recommended and did: (monotonic seconds, replicas)."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    removed: list[tuple[float, int]] = field(default_factory=list)

    def note_change(self, before: int, after: int, now: float) -> None:
        if after > before:
            self.added.append((now, after - before))
        elif after < before:
            self.removed.append((now, before - after))

    def forget(self, now: float) -> None:
        self.recommended = [(t, n) for t, n in self.recommended if now - t <= LONGEST_WINDOW]
        self.added = [(t, n) for t, n in self.added if now - t <= LONGEST_PERIOD]
        self.removed = [(t, n) for t, n in self.removed if now - t <= LONGEST_PERIOD]


@dataclass(frozen=True, slots=True)
class Paced:
    """Replicas to have now, whether a window held them, and which limit did (a reason of ScalingLimited, or "")."""

    replicas: int
    stabilized: str = ""  # ScaleUpStabilized, ScaleDownStabilized
    limited: str = ""


def pace(spec: HorizontalPodAutoscalerSpec, memory: Memory, current: int, wanted: int, now: float) -> Paced:
    """The next step from `current` towards `wanted`; notes the recommendation."""
    up, down = rules(spec)
    memory.forget(now)
    if not memory.recommended:
        memory.recommended.append((now, current))
    stable, stabilized = _stabilize(up, down, memory, current, wanted, now)
    lowest = 1 if spec.minReplicas is None else spec.minReplicas
    if stable > current:
        limit = max(current, _limit_up(up, memory, current, now))
        highest = min(spec.maxReplicas, limit)
        if stable > highest:
            return Paced(highest, stabilized, "TooManyReplicas" if limit >= spec.maxReplicas else "ScaleUpLimit")
    elif stable < current:
        limit = min(current, _limit_down(down, memory, current, now))
        floor = max(lowest, limit)
        if stable < floor:
            return Paced(floor, stabilized, "TooFewReplicas" if limit <= lowest else "ScaleDownLimit")
    if stable > spec.maxReplicas:
        return Paced(spec.maxReplicas, stabilized, "TooManyReplicas")
    if stable < lowest:
        return Paced(lowest, stabilized, "TooFewReplicas")
    return Paced(stable, stabilized)


def _stabilize(
    up: HPAScalingRules, down: HPAScalingRules, memory: Memory, current: int, wanted: int, now: float
) -> tuple[int, str]:
    """The recommendation nearest to `current` within the windows."""
    floor = min([wanted, *_within(memory.recommended, up.stabilizationWindowSeconds or 0, now)])
    ceiling = max([wanted, *_within(memory.recommended, down.stabilizationWindowSeconds or 0, now)])
    memory.recommended.append((now, wanted))
    stable = min(max(current, floor), ceiling)
    if stable == wanted:
        return stable, ""
    return stable, "ScaleUpStabilized" if wanted > current else "ScaleDownStabilized"


def _within(noted: Iterable[tuple[float, int]], seconds: float, now: float) -> list[int]:
    return [amount for at, amount in noted if now - at < seconds]


def _at_start(memory: Memory, current: int, period: float, now: float) -> int:
    """Replicas there were when the period began."""
    return current - sum(_within(memory.added, period, now)) + sum(_within(memory.removed, period, now))


def _limit_up(up: HPAScalingRules, memory: Memory, current: int, now: float) -> int:
    if up.selectPolicy == "Disabled":
        return current
    limits = []
    for policy in up.policies:
        start = _at_start(memory, current, policy.periodSeconds, now)
        grown = start + policy.value if policy.type == "Pods" else math.ceil(start * (100 + policy.value) / 100)
        limits.append(grown)
    return min(limits) if up.selectPolicy == "Min" else max(limits)


def _limit_down(down: HPAScalingRules, memory: Memory, current: int, now: float) -> int:
    if down.selectPolicy == "Disabled":
        return current
    limits = []
    for policy in down.policies:
        start = _at_start(memory, current, policy.periodSeconds, now)
        left = start - policy.value if policy.type == "Pods" else start * (100 - policy.value) // 100
        limits.append(left)
    return max(limits) if down.selectPolicy == "Min" else min(limits)
