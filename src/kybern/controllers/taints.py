"""Taints of nodes and what pods tolerate. Pure. Read by node_lifecycle, taint_eviction and daemonset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kybern.api.core_v1 import Taint, Toleration

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """The rule of "Taints and Tolerations": an empty key with Exists matches all, an empty effect every effect."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(toleration.key) and (toleration.value or "") == (taint.value or "")
        case "Lt" | "Gt" as operator:
            mine, its = _integer(toleration.value), _integer(taint.value)
            if mine is None or its is None:
                return False
            return its < mine if operator == "Lt" else its > mine
        case _:
            return False


def _integer(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def untolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint], effects: Sequence[str]) -> Taint | None:
    """The first taint with one of these effects that nothing tolerates."""
    known = list(tolerations)
    for taint in taints:
        if taint.effect in effects and not any(tolerates(t, taint) for t in known):
            return taint
    return None


def same(a: Taint, b: Taint) -> bool:
    """A node has at most one taint of a key and effect."""
    return a.key == b.key and a.effect == b.effect
