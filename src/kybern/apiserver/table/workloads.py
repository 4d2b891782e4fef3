"""Rows of what runs pods: deployments, sets, jobs and what scales them."""

from __future__ import annotations

import datetime
from typing import Any

from kybern.api import scalars
from kybern.apiserver.table.column import (
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    Printer,
    age,
    boolean,
    containers_and_images,
    human,
    integer,
    map_text,
    printer,
    selector_text,
    since,
)

_WIDE = ("Containers+", "Images+", "Selector+")


def _wide(obj: Any) -> list[str]:
    template = obj.spec.template
    names, images = containers_and_images(template) if template is not None else ("", "")
    return [names, images, selector_text(obj.spec.selector)]


def _replica_set(obj: Any, now: datetime.datetime) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        obj.spec.replicas or 0,
        status.replicas,
        status.readyReplicas or 0,
        age(obj, now),
        *_wide(obj),
    ]


def _deployment(obj: Any, now: datetime.datetime) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        f"{status.readyReplicas or 0}/{obj.spec.replicas or 0}",
        status.updatedReplicas or 0,
        status.availableReplicas or 0,
        age(obj, now),
        *_wide(obj),
    ]


def _stateful_set(obj: Any, now: datetime.datetime) -> list[Any]:
    names, images = containers_and_images(obj.spec.template)
    ready = f"{obj.status.readyReplicas or 0}/{obj.spec.replicas or 0}"
    return [obj.metadata.name, ready, age(obj, now), names, images]


def _daemon_set(obj: Any, now: datetime.datetime) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        status.desiredNumberScheduled,
        status.currentNumberScheduled,
        status.numberReady,
        status.updatedNumberScheduled or 0,
        status.numberAvailable or 0,
        map_text(obj.spec.template.spec.nodeSelector),
        age(obj, now),
        *_wide(obj),
    ]


def _job(obj: Any, now: datetime.datetime) -> list[Any]:
    spec, status = obj.spec, obj.status
    done = status.succeeded or 0
    if spec.completions is not None:
        completions = f"{done}/{spec.completions}"
    else:
        parallelism = spec.parallelism or 0
        completions = f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    duration = ""
    if status.startTime:
        end = scalars.parse_time(status.completionTime) if status.completionTime else now
        duration = human(end - scalars.parse_time(status.startTime))
    return [obj.metadata.name, _job_status(obj), completions, duration, age(obj, now), *_wide(obj)]


def _job_status(obj: Any) -> str:
    true = {c.type for c in obj.status.conditions if c.status == "True"}
    for condition, text in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if condition in true:
            return text
    return "Terminating" if obj.metadata.deletionTimestamp is not None else "Running"


def _cron_job(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    names, images = containers_and_images(spec.jobTemplate.spec.template)
    last = since(obj.status.lastScheduleTime, now) if obj.status.lastScheduleTime else NONE
    return [
        obj.metadata.name,
        spec.schedule,
        spec.timeZone or NONE,
        "True" if spec.suspend else "False",
        len(obj.status.active),
        last,
        age(obj, now),
        names,
        images,
        selector_text(spec.jobTemplate.spec.selector),
    ]


def _revision(obj: Any, now: datetime.datetime) -> list[Any]:
    owner = next((o for o in obj.metadata.ownerReferences if o.controller), None)
    controller = NONE
    if owner is not None:
        group = owner.apiVersion.rpartition("/")[0]
        controller = f"{owner.kind.lower()}.{group}/{owner.name}" if group else f"{owner.kind.lower()}/{owner.name}"
    return [obj.metadata.name, controller, obj.revision, age(obj, now)]


def _autoscaler(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    minimum = UNSET if spec.minReplicas is None else str(spec.minReplicas)
    reference = f"{spec.scaleTargetRef.kind}/{spec.scaleTargetRef.name}"
    targets = _targets_v1(obj) if hasattr(spec, "targetCPUUtilizationPercentage") else _targets(obj)
    return [
        obj.metadata.name,
        reference,
        targets,
        minimum,
        spec.maxReplicas,
        obj.status.currentReplicas or 0,
        age(obj, now),
    ]


def _targets_v1(obj: Any) -> str:
    if obj.spec.targetCPUUtilizationPercentage is None:
        return UNSET
    current = obj.status.currentCPUUtilizationPercentage
    shown = UNKNOWN if current is None else f"{current}%"
    return f"cpu: {shown}/{obj.spec.targetCPUUtilizationPercentage}%"


def _targets(obj: Any) -> str:
    if not obj.spec.metrics:
        return NONE
    shown = []
    for index, metric in enumerate(obj.spec.metrics):
        current = obj.status.currentMetrics[index] if index < len(obj.status.currentMetrics) else None
        shown.append(_metric(metric, current))
    return ", ".join(shown[:2]) + (f" + {len(shown) - 2} more..." if len(shown) > 2 else "")


def _metric(metric: Any, current: Any) -> str:
    source = metric.resource or metric.containerResource or metric.pods or metric.object or metric.external
    if source is None:
        return "<unknown type>"
    target = source.target
    now_source = None
    if current is not None:
        now_source = current.resource or current.containerResource or current.pods or current.object or current.external
    value = now_source.current if now_source is not None else None
    name = f"{source.name}: " if metric.resource is not None or metric.containerResource is not None else ""
    if target.averageUtilization is not None:
        shown = (
            f"{value.averageUtilization}%" if value is not None and value.averageUtilization is not None else UNKNOWN
        )
        return f"{name}{shown}/{target.averageUtilization}%"
    wanted = target.averageValue or target.value
    average = " (avg)" if target.averageValue and (metric.object or metric.external) is not None else ""
    shown = (value.averageValue or value.value or UNKNOWN) if value is not None else UNKNOWN
    return f"{name}{shown}/{wanted}{average}"


_REPLICAS = ("Name", integer("Desired"), integer("Current"), integer("Ready"), "Age", *_WIDE)


def _scale(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.spec.replicas or 0, obj.status.replicas or 0, age(obj, now)]


PRINTERS: dict[str, Printer] = {
    "replicationcontrollers": printer(_replica_set, *_REPLICAS),
    "replicasets.apps": printer(_replica_set, *_REPLICAS),
    "deployments.apps": printer(_deployment, "Name", "Ready", "Up-to-date", "Available", "Age", *_WIDE),
    "statefulsets.apps": printer(_stateful_set, "Name", "Ready", "Age", "Containers+", "Images+"),
    "daemonsets.apps": printer(
        _daemon_set,
        "Name",
        integer("Desired"),
        integer("Current"),
        integer("Ready"),
        integer("Up-to-date"),
        integer("Available"),
        "Node Selector",
        "Age",
        *_WIDE,
    ),
    "jobs.batch": printer(_job, "Name", "Status", "Completions", "Duration", "Age", *_WIDE),
    "cronjobs.batch": printer(
        _cron_job, "Name", "Schedule", "Timezone", boolean("Suspend"), integer("Active"), "Last Schedule", "Age", *_WIDE
    ),
    "scales.autoscaling": printer(_scale, "Name", integer("Desired"), integer("Available"), "Age"),
    "controllerrevisions.apps": printer(_revision, "Name", "Controller", Column("Revision"), "Age"),
    "horizontalpodautoscalers.autoscaling": printer(
        _autoscaler, "Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"
    ),
}
