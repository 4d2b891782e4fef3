"""The status of an autoscaler, put together during one turn. Pure.

Filled by reconcile in the order of its work. Condition reasons and messages are upstream's.
"""

from __future__ import annotations

import datetime

from kybern.api import codec, scalars
from kybern.api.autoscaling_v2 import (
    ContainerResourceMetricStatus,
    ExternalMetricStatus,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    MetricValueStatus,
    ObjectMetricStatus,
    PodsMetricStatus,
    ResourceMetricStatus,
)
from kybern.api.scalars import Quantity
from kybern.controllers.horizontalpodautoscaler.pace import Paced
from kybern.controllers.horizontalpodautoscaler.proposal import Proposal

ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
_LIMITS = {
    "": "the desired count is within the acceptable range",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
}
_RECENT = "recent recommendations were {} than current one, applying the {} recent recommendation"
_STABLE = {
    "": "recommended size matches current size",
    "ScaleUpStabilized": _RECENT.format("lower", "lowest"),
    "ScaleDownStabilized": _RECENT.format("higher", "highest"),
}


class Report:
    """One status in the making."""

    def __init__(self, autoscaler: HorizontalPodAutoscaler, now: datetime.datetime) -> None:
        self.status = codec.clone(autoscaler.status)
        self.status.observedGeneration = autoscaler.metadata.generation
        self._now = scalars.render_time(now)

    def say(self, type_: str, value: bool, reason: str, message: str) -> None:
        text = "True" if value else "False"
        old = next((c for c in self.status.conditions if c.type == type_), None)
        since = old.lastTransitionTime if old is not None and old.status == text else self._now
        fresh = HorizontalPodAutoscalerCondition(
            type=type_, status=text, reason=reason, message=message, lastTransitionTime=since
        )
        if old is None:
            self.status.conditions = [*self.status.conditions, fresh]
        else:
            self.status.conditions = [fresh if c is old else c for c in self.status.conditions]

    def drop(self, type_: str) -> None:
        self.status.conditions = [c for c in self.status.conditions if c.type != type_]

    def sizes(self, current: int, wanted: int) -> None:
        self.status.currentReplicas = current
        self.status.desiredReplicas = wanted

    def scaled(self, wanted: int) -> None:
        self.status.lastScaleTime = self._now
        self.say(ABLE, True, "SucceededRescale", f"the HPA controller was able to update the target scale to {wanted}")

    def paced(self, paced: Paced) -> None:
        able = paced.stabilized or "ReadyForNewScale"
        self.say(ABLE, True, able, _STABLE[paced.stabilized])
        self.say(LIMITED, bool(paced.limited), paced.limited or "DesiredWithinRange", _LIMITS[paced.limited])


def name_of(metric: MetricSpec) -> str:
    """The metric as messages tell it."""
    match metric.type:
        case "Resource" if metric.resource is not None:
            kind = "utilization (percentage of request)" if metric.resource.target.type == "Utilization" else ""
            return f"{metric.resource.name} resource {kind}".strip()
        case "ContainerResource" if metric.containerResource is not None:
            source = metric.containerResource
            kind = "utilization (percentage of request)" if source.target.type == "Utilization" else ""
            return f"{source.name} container resource {kind}".strip()
        case "Pods" if metric.pods is not None:
            return f"pods metric {metric.pods.metric.name}"
        case "Object" if metric.object is not None:
            return f"{metric.object.describedObject.kind} metric {metric.object.metric.name}"
        case "External" if metric.external is not None:
            return f"external metric {metric.external.metric.name}(...)"
    return f"metric of type {metric.type}"


def measured(metric: MetricSpec, found: Proposal) -> MetricStatus:
    """What a metric was, in the form of its spec."""
    current = MetricValueStatus()
    amount = Quantity(scalars.render_quantity(found.average, "decimal"))
    target = target_of(metric)
    if target is not None and target.type == "Value":
        current.value = amount
    else:
        current.averageValue = amount
    current.averageUtilization = found.utilization
    status = MetricStatus(type=metric.type)
    if metric.resource is not None:
        status.resource = ResourceMetricStatus(name=metric.resource.name, current=current)
    elif metric.containerResource is not None:
        source = metric.containerResource
        status.containerResource = ContainerResourceMetricStatus(
            name=source.name, container=source.container, current=current
        )
    elif metric.pods is not None:
        status.pods = PodsMetricStatus(metric=metric.pods.metric, current=current)
    elif metric.object is not None:
        described = metric.object.describedObject
        status.object = ObjectMetricStatus(describedObject=described, metric=metric.object.metric, current=current)
    elif metric.external is not None:
        status.external = ExternalMetricStatus(metric=metric.external.metric, current=current)
    return status


def target_of(metric: MetricSpec) -> MetricTarget | None:
    source = metric.resource or metric.containerResource or metric.pods or metric.object or metric.external
    return source.target if source is not None else None
