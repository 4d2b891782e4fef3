"""Quality of service classes of pods. Read by the pods strategy, validation, quota and the kubelet.

Source: "Pod Quality of Service Classes" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Literal

from kybern.api.core_v1 import Pod, ResourceRequirements
from kybern.api.scalars import Quantity
from kybern.machinery import quantity

Class = Literal["Guaranteed", "Burstable", "BestEffort"]

_COMPUTE = ("cpu", "memory")


def class_of(pod: Pod) -> Class:
    """Guaranteed if all cpu and memory limits are set and requested in full, BestEffort if none is, else Burstable."""
    spec = pod.spec
    whole = spec.resources
    if whole is not None and _amounts(whole.requests, whole.limits):
        holders = [whole]
    else:
        holders = [c.resources for c in (*spec.containers, *spec.initContainers)]
    if not any(_amounts(h.requests, h.limits) for h in holders):
        return "BestEffort"
    return "Guaranteed" if all(_is_guaranteed(h) for h in holders) else "Burstable"


def _amounts(*lists: dict[str, Quantity]) -> bool:
    return any(quantity.nano(amounts[name]) > 0 for amounts in lists for name in _COMPUTE if name in amounts)


def _is_guaranteed(requirements: ResourceRequirements) -> bool:
    for name in _COMPUTE:
        limit = requirements.limits.get(name)
        if limit is None or quantity.nano(limit) == 0:
            return False
        if quantity.compare(requirements.requests.get(name, limit), limit) != 0:
            return False
    return True
