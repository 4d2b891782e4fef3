"""Rows of dynamic resource allocation: claims, slices, taints of devices, what pools have."""

from __future__ import annotations

import datetime
from typing import Any

from kybern.apiserver.table.column import NONE, Printer, age, integer, printer, since


def _claim(obj: Any, now: datetime.datetime) -> list[Any]:
    states = []
    if obj.metadata.deletionTimestamp is not None:
        states.append("deleted")
    if obj.status.allocation is not None:
        states.append("allocated")
    if obj.status.reservedFor:
        states.append("reserved")
    return [obj.metadata.name, ",".join(states) or "pending", age(obj, now)]


def _slice(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    return [obj.metadata.name, spec.nodeName or "", spec.driver, spec.pool.name, age(obj, now)]


def _taint_rule(obj: Any, now: datetime.datetime) -> list[Any]:
    taint = obj.spec.taint
    return [obj.metadata.name, taint.key, taint.value or "", taint.effect, since(taint.timeAdded, now), age(obj, now)]


def _pools(obj: Any, now: datetime.datetime) -> list[Any]:
    """What a request for the state of pools was answered: sums over its pools."""
    status = obj.status
    name, driver = obj.metadata.name, obj.spec.driver
    if status is None or not (status.conditions or status.pools):
        return [name, driver, *["-"] * 5, 0, "Pending", NONE]
    sums = [
        str(sum(getattr(pool, field) or 0 for pool in status.pools))
        for field in ("totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices")
    ]
    errors = str(sum(1 for pool in status.pools if pool.validationError))
    state, completed = "Pending", NONE
    for condition in status.conditions:
        if condition.status == "True" and condition.type in ("Complete", "Failed"):
            state, completed = condition.type, since(condition.lastTransitionTime, now)
    return [name, driver, *sums, errors, status.poolCount, state, completed]


_NAMED = printer(lambda obj, now: [obj.metadata.name, age(obj, now)], "Name", "Age")

PRINTERS: dict[str, Printer] = {
    "resourceclaimtemplates.resource.k8s.io": _NAMED,
    "deviceclasses.resource.k8s.io": _NAMED,
    "resourceclaims.resource.k8s.io": printer(_claim, "Name", "State", "Age"),
    "resourceslices.resource.k8s.io": printer(_slice, "Name", "Node", "Driver", "Pool", "Age"),
    "devicetaintrules.resource.k8s.io": printer(_taint_rule, "Name", "Key", "Value", "Effect", "TimeAdded", "Age"),
    "resourcepoolstatusrequests.resource.k8s.io": printer(
        _pools,
        "Name", "Driver", "Total", "Available", "Allocated", "Unavailable", "Errors", integer("Pools"), "Status",
        "Completed",
    ),
}  # fmt: skip
