"""HorizontalPodAutoscaler: v1 has one CPU target, v2 a list of metrics; what v1 can't say goes into annotations.

Source: the annotations of the API reference (autoscaling.alpha.kubernetes.io/*).
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import autoscaling_v2 as v2
from kybern.api import codec

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
    kept = {_METRICS: others, _BEHAVIOR: spec.pop("behavior", None), _CONDITIONS: status.pop("conditions", None)}
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        if _is_cpu_utilization(metric, "current"):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
    kept[_CURRENT] = [m for m in current if not _is_cpu_utilization(m, "current")]
    for name, value in kept.items():
        if value:
            annotations[name] = msgspec.json.encode(value).decode()
    return {**hpa, "metadata": _with_annotations(metadata, annotations), "spec": spec, "status": status}


def to_v2(hpa: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(hpa.get("metadata", {}))
    annotations = dict(metadata.get("annotations", {}))
    spec = dict(hpa.get("spec", {}))
    status = dict(hpa.get("status", {}))
    metrics = _taken(annotations, _METRICS, list[v2.MetricSpec]) or []
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    current = _taken(annotations, _CURRENT, list[v2.MetricStatus]) or []
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None:
        usage = {"averageUtilization": used, "averageValue": "0"}
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": usage}}, *current]
    for target_map, field, value in (
        (spec, "metrics", metrics),
        (spec, "behavior", _taken(annotations, _BEHAVIOR, v2.HorizontalPodAutoscalerBehavior)),
        (status, "currentMetrics", current),
        (status, "conditions", _taken(annotations, _CONDITIONS, list[v2.HorizontalPodAutoscalerCondition])),
    ):
        if value:
            target_map[field] = value
    return {**hpa, "metadata": _with_annotations(metadata, annotations), "spec": spec, "status": status}


def _with_annotations(metadata: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    if annotations:
        return {**metadata, "annotations": annotations}
    return {k: v for k, v in metadata.items() if k != "annotations"}


def _taken(annotations: dict[str, str], name: str, kind: Any) -> Any:
    """The JSON of an annotation, removed; None where absent or not a `kind` (anybody may write annotations)."""
    text = annotations.pop(name, None)
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text)
        codec.from_json(kind, value)
    except (ValueError, RecursionError):
        return None
    return value
