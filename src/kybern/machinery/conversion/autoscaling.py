"""HorizontalPodAutoscaler: v1 has one CPU target, v2 a list of metrics; what v1 can't say goes into annotations.

Source: the annotations of the API reference (autoscaling.alpha.kubernetes.io/*).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kybern.api import autoscaling_v2 as v2
from kybern.api import codec
from kybern.machinery.conversion import autoscaling_metrics

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"


def _is_cpu_utilization(metric: dict[str, Any], value: str) -> bool:
    return (
        metric.get("type") == "Resource"
        and metric.get("resource", {}).get("name") == "cpu"
        and metric["resource"].get(value, {}).get("averageUtilization") is not None
    )


def to_v1(hpa: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(hpa.get("metadata", {}))
    annotations = dict(metadata.get("annotations", {}))
    spec = dict(hpa.get("spec", {}))
    status = dict(hpa.get("status", {}))
    others = []
    for metric in spec.pop("metrics", []):
        if _is_cpu_utilization(metric, "target") and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(metric)
    behavior = spec.pop("behavior", None)
    conditions = [_in_order(c) for c in status.pop("conditions", None) or []]
    kept: dict[str, Any] = {_METRICS: autoscaling_metrics.metrics_to_v1(others), _CONDITIONS: conditions}
    kept[_BEHAVIOR] = autoscaling_metrics.behavior_to_v1(behavior) if behavior is not None else None
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        if _is_cpu_utilization(metric, "current"):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
    kept[_CURRENT] = autoscaling_metrics.metrics_to_v1(current, of_status=True)
    for name, value in kept.items():
        if value:
            annotations[name] = msgspec.json.encode(value).decode()
    return {**hpa, "metadata": _with_annotations(metadata, annotations), "spec": spec, "status": status}


def to_v2(hpa: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(hpa.get("metadata", {}))
    annotations = dict(metadata.get("annotations", {}))
    spec = dict(hpa.get("spec", {}))
    status = dict(hpa.get("status", {}))
    metrics = _taken(annotations, _METRICS, list[v2.MetricSpec], autoscaling_metrics.metrics_to_v2) or []
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    current = _taken(annotations, _CURRENT, list[v2.MetricStatus], _status_metrics)
    used = status.pop("currentCPUUtilizationPercentage", None)
    if current is None and used is not None:
        usage = {"averageUtilization": used, "averageValue": "0"}
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": usage}}]
    behavior = _taken(annotations, _BEHAVIOR, v2.HorizontalPodAutoscalerBehavior, autoscaling_metrics.behavior_to_v2)
    conditions = _taken(annotations, _CONDITIONS, list[v2.HorizontalPodAutoscalerCondition], _as_it_is)
    for target_map, field, value in (
        (spec, "metrics", metrics),
        (spec, "behavior", behavior),
        (status, "currentMetrics", current),
        (status, "conditions", conditions),
    ):
        if value:
            target_map[field] = value
    return {**hpa, "metadata": _with_annotations(metadata, annotations), "spec": spec, "status": status}


def _with_annotations(metadata: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    if annotations:
        return {**metadata, "annotations": annotations}
    return {k: v for k, v in metadata.items() if k != "annotations"}


def _status_metrics(value: Any) -> Any:
    return autoscaling_metrics.metrics_to_v2(value, of_status=True)


def _as_it_is(value: Any) -> Any:
    return value


def _in_order(condition: dict[str, Any]) -> dict[str, Any]:
    names = ("type", "status", "lastTransitionTime", "reason", "message")
    return {name: condition[name] for name in names if name in condition}


def _taken(annotations: dict[str, str], name: str, kind: Any, convert: Callable[[Any], Any]) -> Any:
    """The JSON of an annotation, removed; None where absent or not a `kind` (anybody may write annotations)."""
    text = annotations.pop(name, None)
    if text is None:
        return None
    try:
        value = convert(msgspec.json.decode(text))
        codec.from_json(kind, value)
    except (ValueError, RecursionError):
        return None
    return value
