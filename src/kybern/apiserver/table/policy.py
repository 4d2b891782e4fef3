"""Rows of what limits and orders: quotas, ranges, budgets, priorities, runtime classes, flow control, claims."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from kybern.apiserver.table.column import CREATED_AT, NONE, Column, Printer, age, integer, printer


def _quota(obj: Any, now: datetime.datetime) -> list[Any]:
    requests: list[str] = []
    limits: list[str] = []
    for name, hard in sorted(obj.status.hard.items()):
        used = obj.status.used.get(name, "0")
        (limits if name.startswith("limits.") else requests).append(f"{name}: {used}/{hard}")
    return [obj.metadata.name, ", ".join(requests), ", ".join(limits), age(obj, now)]


def _created_at(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.metadata.creationTimestamp]


def _budget(obj: Any, now: datetime.datetime) -> list[Any]:
    minimum = "N/A" if obj.spec.minAvailable is None else str(obj.spec.minAvailable)
    maximum = "N/A" if obj.spec.maxUnavailable is None else str(obj.spec.maxUnavailable)
    return [obj.metadata.name, minimum, maximum, obj.status.disruptionsAllowed, age(obj, now)]


def _priority(obj: Any, now: datetime.datetime) -> list[Any]:
    return [
        obj.metadata.name,
        obj.value,
        bool(obj.globalDefault),
        age(obj, now),
        obj.preemptionPolicy or "PreemptLowerPriority",
    ]


def _runtime(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.handler, age(obj, now)]


def _flow(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    method = spec.distinguisherMethod.type if spec.distinguisherMethod is not None else NONE
    dangling = next((c.status for c in obj.status.conditions if c.type == "Dangling"), "?")
    return [
        obj.metadata.name,
        spec.priorityLevelConfiguration.name,
        spec.matchingPrecedence,
        method,
        age(obj, now),
        dangling,
    ]


def _level(obj: Any, now: datetime.datetime) -> list[Any]:
    limited = obj.spec.limited
    if limited is None:
        return [obj.metadata.name, obj.spec.type, NONE, NONE, NONE, NONE, age(obj, now)]
    queuing = limited.limitResponse.queuing if limited.limitResponse is not None else None
    queues = [NONE] * 3 if queuing is None else [queuing.queues, queuing.handSize, queuing.queueLengthLimit]
    return [obj.metadata.name, obj.spec.type, limited.nominalConcurrencyShares, *queues, age(obj, now)]


_FLOWS = printer(_flow, "Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL")
PRINTERS: dict[str, Printer] = {
    "resourcequotas": printer(_quota, "Name", "Request", "Limit", "Age"),
    "limitranges": printer(_created_at, "Name", CREATED_AT),
    "poddisruptionbudgets.policy": printer(
        _budget, "Name", "Min Available", "Max Unavailable", integer("Allowed Disruptions"), "Age"
    ),
    "priorityclasses.scheduling.k8s.io": printer(
        _priority, "Name", integer("Value"), Column("Global-Default", "boolean"), "Age", "PreemptionPolicy"
    ),
    "runtimeclasses.node.k8s.io": printer(_runtime, "Name", "Handler", "Age"),
    "flowschemas.flowcontrol.apiserver.k8s.io": dataclasses.replace(
        _FLOWS, order=lambda obj: (obj.spec.matchingPrecedence, obj.metadata.name)
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": printer(
        _level, "Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"
    ),
}
