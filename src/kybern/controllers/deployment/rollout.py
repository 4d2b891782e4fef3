"""How many pods each ReplicaSet of a deployment should have in the next step. Pure arithmetic.

Read by plan. Invariants of a rolling update: never more than `replicas + maxSurge` pods asked for, never fewer
than `replicas - maxUnavailable` available on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kybern.api.apps_v1 import Deployment, ReplicaSet, RollingUpdateDeployment


def replicas_of(obj: Deployment | ReplicaSet) -> int:
    return 1 if obj.spec.replicas is None else obj.spec.replicas


def is_rolling(deployment: Deployment) -> bool:
    return deployment.spec.strategy.type != "Recreate"


def _limits(deployment: Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers; not both 0, or nothing could ever move."""
    rolling = deployment.spec.strategy.rollingUpdate or RollingUpdateDeployment(maxSurge="25%", maxUnavailable="25%")
    total = replicas_of(deployment)
    surge = _resolve(rolling.maxSurge, total, up=True)
    unavailable = _resolve(rolling.maxUnavailable, total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def _resolve(value: int | str | None, total: int, *, up: bool) -> int:
    if value is None:
        return 0
    if isinstance(value, int):
        return max(0, value)
    text = value.removesuffix("%")
    if text == value or not text.isascii() or not text.isdigit():
        return 0
    share = int(text) * total
    return -(-share // 100) if up else share // 100


def max_surge(deployment: Deployment) -> int:
    return _limits(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Deployment) -> int:
    if not is_rolling(deployment) or replicas_of(deployment) == 0:
        return 0
    return _limits(deployment)[1]


def total_of(sets: Sequence[ReplicaSet]) -> int:
    return sum(replicas_of(rs) for rs in sets)


def available_of(sets: Sequence[ReplicaSet]) -> int:
    return sum(rs.status.availableReplicas or 0 for rs in sets)


def size_of_new(deployment: Deployment, new: ReplicaSet, sets: Sequence[ReplicaSet]) -> int:
    """The newest set's next size: as large as the surge leaves room for (`sets` are all, `new` among them)."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment) or replicas_of(new) > wanted:
        return wanted
    room = wanted + max_surge(deployment) - total_of(sets)
    return replicas_of(new) + max(0, min(room, wanted - replicas_of(new)))


def sizes_of_old(deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> dict[str, int]:
    """uid -> next size of old sets (oldest first in `old`) whose size changes in this step of a rolling update."""
    everything = [*old, new] if new is not None else list(old)
    floor = replicas_of(deployment) - max_unavailable(deployment)
    new_unavailable = replicas_of(new) - (new.status.availableReplicas or 0) if new is not None else 0
    spare = total_of(everything) - floor - new_unavailable
    if spare <= 0:
        return {}
    sizes = {rs.metadata.uid: replicas_of(rs) for rs in old}
    # Pods that do not work cost nothing: they go first.
    left = spare
    for rs in old:
        broken = sizes[rs.metadata.uid] - (rs.status.availableReplicas or 0)
        cut = max(0, min(left, broken))
        sizes[rs.metadata.uid] -= cut
        left -= cut
    left = available_of(everything) - floor
    for rs in old:
        cut = max(0, min(left, sizes[rs.metadata.uid]))
        sizes[rs.metadata.uid] -= cut
        left -= cut
    return {rs.metadata.uid: sizes[rs.metadata.uid] for rs in old if sizes[rs.metadata.uid] != replicas_of(rs)}


def shares(sizes: Sequence[tuple[int, int]], allowed: int) -> list[int]:
    """Proportional scaling: new sizes of sets, so that their sum comes to `allowed`.

    `sizes` holds (present size, size of the whole deployment when the set was last scaled), the set that gets
    what rounding leaves over first. No set moves against the direction of the whole.
    """
    missing = allowed - sum(size for size, _ in sizes)
    result = []
    added = 0
    for size, whole in sizes:
        change = 0
        if missing != 0:
            ideal = 0 if allowed == 0 else _round(size * allowed, whole if whole > 0 else max(1, size))
            change = ideal - size
            change = max(0, min(change, missing - added)) if missing > 0 else min(0, max(change, missing - added))
        result.append(size + change)
        added += change
    if result and missing != 0:
        result[0] = max(0, result[0] + missing - added)
    return result


def _round(numerator: int, denominator: int) -> int:
    """Half away from zero."""
    return math.floor(numerator / denominator + 0.5)
