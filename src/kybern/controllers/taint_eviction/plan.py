"""How long a pod may stay on a tainted node. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kybern.api.core_v1 import Pod, Taint
from kybern.controllers import taints

FOR_EVER = float("inf")


def seconds_left(pod: Pod, node_taints: Sequence[Taint]) -> float:
    """Seconds it tolerates these taints, from when they came: 0 for not at all, FOR_EVER for no limit."""
    evicting = [taint for taint in node_taints if taint.effect == "NoExecute"]
    limits = []
    for taint in evicting:
        matching = [t for t in pod.spec.tolerations if taints.tolerates(t, taint)]
        if not matching:
            return 0.0
        limits += [max(0, t.tolerationSeconds) for t in matching if t.tolerationSeconds is not None]
    return float(min(limits)) if limits else FOR_EVER
