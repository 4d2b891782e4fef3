"""LimitRanger: fill in what containers do not say about resources, and refuse too much, too little and too uneven.

Source: "Limit Ranges" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from kybern.api.core_v1 import (
    Container,
    LimitRange,
    LimitRangeItem,
    PersistentVolumeClaim,
    Pod,
    ResourceRequirements,
)
from kybern.api.scalars import Quantity
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader
from kybern.machinery import quantity, usage

ANNOTATION = "kubernetes.io/limit-ranger"
Amounts = Mapping[str, int]


class LimitRanger(Rule):
    """Pods when they are made or resized, claims when they are made or grow."""

    name: str = "LimitRanger"
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods", "pods/resize", "persistentvolumeclaims"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def admit(self, a: Attributes) -> None:
        if a.operation != "CREATE" or not isinstance(a.object, Pod):
            return
        for limit_range in self._reader.list("limitranges", a.namespace):
            fill_defaults(a.object, limit_range)

    def validate(self, a: Attributes) -> None:
        if a.operation == "UPDATE" and isinstance(a.object, Pod) and a.subresource != "resize":
            return
        for limit_range in self._reader.list("limitranges", a.namespace):
            faults = find_faults(a.object, limit_range)
            if faults:
                raise forbidden(a, faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")


def fill_defaults(pod: Pod, limit_range: LimitRange) -> None:
    """Give containers the requests and limits they lack, and note it in an annotation."""
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    for item in limit_range.spec.limits:
        if item.type == "Container":
            requests.update(item.defaultRequest)
            limits.update(item.default)
    if not requests and not limits:
        return
    notes = [
        note
        for kind, containers in (("container", pod.spec.containers), ("init container", pod.spec.initContainers))
        for container in containers
        for note in _fill(container, kind, requests, limits)
    ]
    if notes:
        pod.metadata.annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)


def _fill(
    container: Container, kind: str, requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]
) -> Iterator[str]:
    for word, defaults, amounts in (
        ("request", requests, container.resources.requests),
        ("limit", limits, container.resources.limits),
    ):
        lacking = sorted(name for name in defaults if name not in amounts)
        for name in lacking:
            amounts[name] = defaults[name]
        if lacking:
            yield f"{', '.join(lacking)} {word} for {kind} {container.name}"


def find_faults(obj: object, limit_range: LimitRange) -> list[str]:
    """What is wrong with a pod or a claim, in upstream's words."""
    faults: list[str] = []
    for item in limit_range.spec.limits:
        if isinstance(obj, PersistentVolumeClaim) and item.type == "PersistentVolumeClaim":
            faults += _claim_faults(obj, item)
        elif isinstance(obj, Pod) and item.type == "Container":
            for container in (*obj.spec.containers, *obj.spec.initContainers):
                faults += _faults(item, *_amounts(container.resources))
        elif isinstance(obj, Pod) and item.type == "Pod":
            faults += _faults(item, usage.pod_requests(obj), usage.pod_limits(obj))
    return faults


def _claim_faults(claim: PersistentVolumeClaim, item: LimitRangeItem) -> Iterator[str]:
    asked = {name: quantity.nano(amount) for name, amount in claim.spec.resources.requests.items()}
    for name, bound in sorted(item.min.items()):
        fault = f"minimum {name} usage per {item.type} is {bound}"
        if name not in asked:
            yield f"{fault}.  No request is specified"
        elif asked[name] < quantity.nano(bound):
            yield f"{fault}, but request is {claim.spec.resources.requests[name]}"
    for name, bound in sorted(item.max.items()):
        fault = f"maximum {name} usage per {item.type} is {bound}"
        if name not in asked:
            yield f"{fault}.  No request is specified"
        elif asked[name] > quantity.nano(bound):
            yield f"{fault}, but request is {claim.spec.resources.requests[name]}"


def _faults(item: LimitRangeItem, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in sorted(item.min.items()):
        least, fault = quantity.nano(bound), f"minimum {name} usage per {item.type} is {bound}"
        if name not in requests:
            yield f"{fault}.  No request is specified"
        elif requests[name] < least:
            yield f"{fault}, but request is {usage.render(name, requests[name])}"
        elif name in limits and limits[name] < least:
            yield f"{fault}, but limit is {usage.render(name, limits[name])}"
    for name, bound in sorted(item.max.items()):
        most, fault = quantity.nano(bound), f"maximum {name} usage per {item.type} is {bound}"
        if name not in limits:
            yield f"{fault}.  No limit is specified"
        elif limits[name] > most:
            yield f"{fault}, but limit is {usage.render(name, limits[name])}"
        elif requests.get(name, 0) > most:
            yield f"{fault}, but request is {usage.render(name, requests[name])}"
    for name, bound in sorted(item.maxLimitRequestRatio.items()):
        fault = f"{name} max limit to request ratio per {item.type} is {bound}"
        request, limit = requests.get(name, 0), limits.get(name, 0)
        if request == 0:
            yield f"{fault}, but no request is specified or request is 0"
        elif limit == 0:
            yield f"{fault}, but no limit is specified or limit is 0"
        elif limit * 10**9 > request * quantity.nano(bound):
            yield f"{fault}, but provided ratio is {limit / request:.6f}"


def _amounts(resources: ResourceRequirements) -> tuple[Amounts, Amounts]:
    return (
        {name: quantity.nano(amount) for name, amount in resources.requests.items()},
        {name: quantity.nano(amount) for name, amount in resources.limits.items()},
    )
