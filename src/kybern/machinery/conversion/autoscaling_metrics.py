"""Metrics and behaviour of autoscalers as v1 spells them inside annotations, and back.

Used by autoscaling. v1 names a metric's parts after what they are for ("targetAverageValue") where v2 nests them; the
behaviour is written with the names of upstream's own types ("StabilizationWindowSeconds").
Source: the autoscaling/v1 annotations that a v1.36 API server writes and reads.
"""

from __future__ import annotations

from typing import Any

_SPEC = ("target", {"averageUtilization": "targetAverageUtilization", "averageValue": "targetAverageValue",
                    "value": "targetValue"})  # fmt: skip
_STATUS = ("current", {"averageUtilization": "currentAverageUtilization", "averageValue": "currentAverageValue",
                       "value": "currentValue"})  # fmt: skip
_SOURCES = {
    "Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "Object": "object",
    "External": "external",
}  # fmt: skip
_BEHAVIOR = ("StabilizationWindowSeconds", "SelectPolicy", "Policies", "Tolerance")


def metrics_to_v1(metrics: list[Any], *, of_status: bool = False) -> list[Any]:
    return [_to_v1(m, *(_STATUS if of_status else _SPEC)) for m in metrics]


def metrics_to_v2(metrics: Any, *, of_status: bool = False) -> list[Any]:
    """Raises ValueError for what is no list of metrics."""
    if not isinstance(metrics, list) or not all(isinstance(m, dict) for m in metrics):
        raise ValueError("not a list of metrics")
    return [_to_v2(m, *(_STATUS if of_status else _SPEC)) for m in metrics]


def _to_v1(metric: dict[str, Any], nested: str, spelled: dict[str, str]) -> dict[str, Any]:
    kind = metric.get("type", "")
    field = _SOURCES.get(kind, "")
    source = metric.get(field)
    if not isinstance(source, dict):
        return {"type": kind}
    amounts = source.get(nested) or {}
    # Upstream's order: who, what, how much.
    told: dict[str, Any] = {}
    if kind == "Object":
        told["target"] = _reference(source.get("describedObject") or {})
    if kind in ("Resource", "ContainerResource"):
        told["name"] = source.get("name", "")
    else:
        told["metricName"] = (source.get("metric") or {}).get("name", "")
    selector = (source.get("metric") or {}).get("selector")
    if kind == "External" and selector is not None:
        told["metricSelector"] = selector
    names = _shown_amounts(kind, amounts, spelled)
    averaged = names.pop("averageValue", None)
    told |= names
    if kind in ("Pods", "Object") and selector is not None:
        told["selector"] = selector
    if averaged is not None:
        told["averageValue"] = averaged
    if kind == "ContainerResource":
        told["container"] = source.get("container", "")
    return {"type": kind, field: told}


def _shown_amounts(kind: str, amounts: dict[str, Any], spelled: dict[str, str]) -> dict[str, Any]:
    allowed = {
        "Resource": ("averageUtilization", "averageValue"), "ContainerResource": ("averageUtilization", "averageValue"),
        "Pods": ("averageValue",), "Object": ("value", "averageValue"), "External": ("value", "averageValue"),
    }[kind]  # fmt: skip
    found = {}
    for name in allowed:
        value = amounts.get(name)
        if value is not None:
            found["averageValue" if kind == "Object" and name == "averageValue" else spelled[name]] = value
    if kind == "Object" and spelled["value"] not in found:
        found = {spelled["value"]: "0", **found}
    if kind == "Pods" and spelled["averageValue"] not in found:
        found = {spelled["averageValue"]: "0"}
    # What v1 has no way to leave out of a status.
    if spelled is _STATUS[1] and kind in ("Resource", "ContainerResource"):
        found.setdefault(spelled["averageValue"], "0")
    if spelled is _STATUS[1] and kind == "External" and spelled["value"] not in found:
        found = {spelled["value"]: "0", **found}
    return found


def _reference(reference: dict[str, Any]) -> dict[str, Any]:
    return {key: reference[key] for key in ("kind", "name", "apiVersion") if key in reference}


def _to_v2(metric: dict[str, Any], nested: str, spelled: dict[str, str]) -> dict[str, Any]:
    kind = metric.get("type", "")
    field = _SOURCES.get(kind, "")
    source = metric.get(field)
    if not isinstance(source, dict):
        return {"type": kind}
    amounts: dict[str, Any] = {}
    for name, told in spelled.items():
        value = source.get(told)
        if kind == "Object":
            value = source.get("averageValue") if name == "averageValue" else value
            if name == "value" and value in ("0", 0) and source.get("averageValue") is not None:
                value = None
        if value is not None:
            amounts[name] = value
    if nested == "target":
        amounts["type"] = (
            "Utilization" if "averageUtilization" in amounts else "Value" if "value" in amounts else "AverageValue"
        )
    found: dict[str, Any] = {nested: amounts}
    if kind in ("Resource", "ContainerResource"):
        found["name"] = source.get("name", "")
    else:
        found["metric"] = {"name": source.get("metricName", "")}
        selector = source.get("metricSelector" if kind == "External" else "selector")
        if selector is not None:
            found["metric"]["selector"] = selector
    if kind == "ContainerResource":
        found["container"] = source.get("container", "")
    if kind == "Object":
        found["describedObject"] = source.get("target") or {}
    return {"type": kind, field: found}


def behavior_to_v1(behavior: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if (rules := behavior.get(name[0].lower() + name[1:])) is None else _rules_to_v1(rules)
        for name in ("ScaleUp", "ScaleDown")
    }


def _rules_to_v1(rules: dict[str, Any]) -> dict[str, Any]:
    told = {name: rules.get(name[0].lower() + name[1:]) for name in _BEHAVIOR}
    policies = told["Policies"]
    if policies is not None:
        told["Policies"] = [
            {"Type": p.get("type", ""), "Value": p.get("value", 0), "PeriodSeconds": p.get("periodSeconds", 0)}
            for p in policies
        ]
    return told


def behavior_to_v2(behavior: Any) -> dict[str, Any]:
    """Raises ValueError for what is no behaviour. Names are read in any case, as upstream's decoder does."""
    return {
        {"scaleup": "scaleUp", "scaledown": "scaleDown"}[name]: _rules_to_v2(rules)
        for name, rules in _lowered(behavior).items()
        if name in ("scaleup", "scaledown") and rules is not None
    }


def _rules_to_v2(rules: Any) -> dict[str, Any]:
    told = _lowered(rules)
    found = {}
    for name in _BEHAVIOR:
        value = told.get(name.lower())
        if value is None:
            continue
        if name == "Policies":
            if not isinstance(value, list):
                raise ValueError("not a list of policies")
            policies = [_lowered(p) for p in value]
            names = ("type", "value", "periodSeconds")
            value = [{n: p[n.lower()] for n in names if p.get(n.lower()) is not None} for p in policies]
        found[name[0].lower() + name[1:]] = value
    return found


def _lowered(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {key.lower(): inner for key, inner in value.items()}
