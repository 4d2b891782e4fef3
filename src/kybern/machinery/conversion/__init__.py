"""Turn an object of one version into another version of the same resource. Pure, on decoded JSON.

Asked by apiserver/registry where a request names another version than the one that is stored. Most versions of a
resource share their fields, so that only apiVersion changes; the others have a module here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.machinery.conversion import autoscaling, definitions, events

_RULES: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("v1/Event", "events.k8s.io/v1/Event"): events.to_events_v1,
    ("events.k8s.io/v1/Event", "v1/Event"): events.to_core_v1,
    (
        "apiextensions.k8s.io/v1beta1/CustomResourceDefinition",
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
    ): definitions.to_v1,
    ("autoscaling/v1/HorizontalPodAutoscaler", "autoscaling/v2/HorizontalPodAutoscaler"): autoscaling.to_v2,
    ("autoscaling/v2/HorizontalPodAutoscaler", "autoscaling/v1/HorizontalPodAutoscaler"): autoscaling.to_v1,
}


def convert(obj: dict[str, Any], kind: str, source: str, target: str) -> dict[str, Any]:
    """`obj` of apiVersion `source` as apiVersion `target`; the argument is left as it was."""
    rule = _RULES.get((f"{source}/{kind}", f"{target}/{kind}"))
    converted = rule(obj) if rule is not None else dict(obj)
    converted["kind"] = kind
    converted["apiVersion"] = target
    return {
        "kind": kind,
        "apiVersion": target,
        **{k: v for k, v in converted.items() if k not in ("kind", "apiVersion")},
    }
