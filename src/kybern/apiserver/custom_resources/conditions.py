"""The conditions of a CustomResourceDefinition: what its status should say, from what it asks for. Pure.

Called by lifecycle (and by the strategy of definitions, when one is deleted).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from kybern.api import codec
from kybern.api.apiextensions_v1 import (
    CustomResourceDefinition,
    CustomResourceDefinitionCondition,
    CustomResourceDefinitionStatus,
)
from kybern.api.scalars import Time
from kybern.apiserver.custom_resources import names

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVAL = "api-approved.kubernetes.io"
_POLICY = "https://github.com/kubernetes/enhancements/pull/1111"

Conditions = list[CustomResourceDefinitionCondition]


def has(definition: CustomResourceDefinition, kind: str) -> bool:
    """Whether a condition is true."""
    return any(c.type == kind and c.status == "True" for c in definition.status.conditions)


def put(conditions: Conditions, kind: str, status: str, reason: str, message: str, now: Time) -> None:
    """Set a condition; its time is that of its last change of status."""
    for condition in conditions:
        if condition.type == kind:
            if condition.status != status:
                condition.lastTransitionTime = now
            condition.status, condition.reason, condition.message = status, reason, message
            return
    conditions.append(
        CustomResourceDefinitionCondition(
            type=kind, status=status, reason=reason, message=message, lastTransitionTime=now
        )
    )


def plan_status(
    definition: CustomResourceDefinition,
    others: Iterable[CustomResourceDefinition],
    faults: Sequence[str],
    now: Time,
) -> CustomResourceDefinitionStatus:
    """The status that a definition should have; `faults`: what keeps its schemas from being structural."""
    status = codec.clone(definition.status)
    found = status.conditions
    verdict = names.plan_names(definition, others)
    status.acceptedNames = verdict.accepted
    established = has(definition, "Established")
    if verdict.reason:
        put(found, "NamesAccepted", "False", verdict.reason, verdict.message, now)
        if not established:
            put(found, "Established", "False", "NotAccepted", "not all names are accepted", now)
    else:
        put(found, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        if not established:
            message = "the initial names have been accepted"
            put(found, "Established", "True", "InitialNamesAccepted", message, now)
    approval = judge_approval(definition.spec.group, definition.metadata.annotations.get(APPROVAL))
    if approval is not None:
        put(found, "KubernetesAPIApprovalPolicyConformant", *approval, now)
    if faults:
        put(found, "NonStructuralSchema", "True", "Violations", faults[0], now)
    else:
        status.conditions = [c for c in found if c.type != "NonStructuralSchema"]
    return status


def is_protected(group: str) -> bool:
    """Whether a group belongs to Kubernetes itself."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def judge_approval(group: str, annotation: str | None) -> tuple[str, str, str] | None:
    """(status, reason, message) of the condition for protected groups; None for others."""
    if not is_protected(group):
        return None
    told = f'protected groups must have approval annotation "{APPROVAL}"'
    if not annotation:
        return "False", "MissingAnnotation", f"{told}, see {_POLICY}"
    if annotation.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f'not approved: "{annotation}"'
    try:
        parts = urlsplit(annotation)
        is_url = bool(parts.scheme and parts.netloc)
    except ValueError:
        is_url = False
    if is_url:
        return "True", "ApprovedAnnotation", f"approved in {annotation}"
    told += ' with either a URL or a reason starting with "unapproved"'
    return "False", "InvalidAnnotation", f"{told}, see {_POLICY}"
