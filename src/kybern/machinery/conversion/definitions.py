"""CustomResourceDefinitions of v1beta1, which upstream still stores: what all versions share moves into each. Pure.

Source: "Migrating from apiextensions.k8s.io/v1beta1", deprecated API migration guide of Kubernetes 1.22.
"""

from __future__ import annotations

from typing import Any

_SHARED = {
    "validation": "schema",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}


def to_v1(obj: dict[str, Any]) -> dict[str, Any]:
    spec = dict(obj.get("spec") or {})
    shared = {new: spec.pop(old) for old, new in _SHARED.items() if spec.get(old) is not None}
    for old in _SHARED:
        spec.pop(old, None)
    first = spec.pop("version", None)
    versions = spec.get("versions") or ([{"name": first, "served": True, "storage": True}] if first else [])
    spec["versions"] = [
        _version({**shared, **{k: v for k, v in version.items() if v is not None}}) for version in versions
    ]
    if spec.get("conversion"):
        spec["conversion"] = _conversion(spec["conversion"])
    return {**obj, "spec": spec}


def _version(version: dict[str, Any]) -> dict[str, Any]:
    columns = version.get("additionalPrinterColumns")
    if columns:
        version["additionalPrinterColumns"] = [
            {("jsonPath" if name == "JSONPath" else name): value for name, value in column.items()}
            for column in columns
        ]
    return version


def _conversion(conversion: dict[str, Any]) -> dict[str, Any]:
    made = {"strategy": conversion.get("strategy")}
    webhook = {
        new: conversion[old]
        for old, new in (
            ("webhookClientConfig", "clientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        )
        if conversion.get(old)
    }
    return {**made, "webhook": webhook} if webhook and made["strategy"] == "Webhook" else made
