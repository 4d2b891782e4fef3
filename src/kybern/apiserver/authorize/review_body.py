"""A question to authorization as a SubjectAccessReview: for webhooks, and for expressions that choose them. Pure."""

from __future__ import annotations

from typing import Any

from kybern.apiserver.authorize.attributes import Attributes
from kybern.apiserver.request import User

_FIELD_OPERATORS = {"=": "In", "!=": "NotIn"}


def spec_of(user: User, a: Attributes) -> dict[str, Any]:
    """`spec` of the review."""
    spec: dict[str, Any] = {}
    if a.is_resource:
        spec["resourceAttributes"] = _resource(a)
    else:
        spec["nonResourceAttributes"] = {"path": a.path, "verb": a.verb}
    spec["user"] = user.name
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {k: list(v) for k, v in user.extra.items()}
    if user.uid:
        spec["uid"] = user.uid
    return spec


def _resource(a: Attributes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "namespace": a.namespace,
        "verb": a.verb,
        "group": a.group,
        "version": a.version,
        "resource": a.resource,
        "subresource": a.subresource,
        "name": a.name,
    }
    found = {k: v for k, v in found.items() if v}
    if a.fields:
        found["fieldSelector"] = {
            "requirements": [
                {"key": key, "operator": _FIELD_OPERATORS[operator], "values": [value]}
                for key, operator, value in a.fields
            ]
        }
    if a.labels:
        found["labelSelector"] = {
            "requirements": [
                {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
                for key, operator, values in a.labels
            ]
        }
    return found
