"""Shared by workloads that keep pods running: templates and selectors, counts, percentages, their statuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import PodTemplateSpec
from kybern.api.meta_v1 import LabelSelector
from kybern.machinery import labels
from kybern.machinery.status import forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import pod_spec, rules, selectors
from kybern.machinery.validation.rules import Errors

_PERCENT = re.compile(r"[0-9]+%")
_NOT_A_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
MISMATCH = "`selector` does not match template `labels`"


def is_empty(selector: LabelSelector) -> bool:
    return not selector.matchLabels and not selector.matchExpressions


def check_selector(selector: LabelSelector | None, path: str, what: str, errors: Errors) -> labels.Selector:
    """Required, not empty, well-formed; the matcher (of nothing, if it is not)."""
    if selector is None:
        errors.append(required(path))
        return labels.NOTHING
    before = len(errors)
    selectors.check_label_selector(selector, path, errors)
    if is_empty(selector):
        errors.append(invalid(path, {}, f"empty selector is invalid for {what}"))
        return labels.EVERYTHING
    if len(errors) > before:
        return labels.NOTHING
    return labels.from_label_selector(selector)


def check_labels_match(selector: labels.Selector, template: PodTemplateSpec, path: str, errors: Errors) -> None:
    found = template.metadata.labels
    if not selector.is_empty and not selector.matches(found):
        errors.append(invalid(f"{path}.metadata.labels", dict(found) or None, MISMATCH))


def check_template(template: PodTemplateSpec, path: str, what: str, errors: Errors) -> None:
    """A template whose pods are always restarted and never end by a deadline."""
    pod_spec.check_template(template, path, errors)
    if template.spec.restartPolicy != "Always":
        errors.append(not_supported(f"{path}.spec.restartPolicy", template.spec.restartPolicy, ("Always",)))
    if template.spec.activeDeadlineSeconds is not None:
        message = f"activeDeadlineSeconds in {what} is not Supported"
        errors.append(forbidden_field(f"{path}.spec.activeDeadlineSeconds", message))


def check_counts(holder: Any, fields: Iterable[str], path: str, errors: Errors) -> None:
    for field in fields:
        value = getattr(holder, field)
        if value is not None and value < 0:
            errors.append(invalid(f"{path}.{field}", value, "must be greater than or equal to 0"))


def check_at_most(status: Any, bounds: Mapping[str, str], path: str, errors: Errors, names: Mapping[str, str]) -> None:
    """Counters that cannot exceed others: {"readyReplicas": "replicas"}."""
    for field, bound in bounds.items():
        if (getattr(status, field) or 0) > (getattr(status, bound) or 0):
            shown = names.get(bound, f"status.{bound}")
            errors.append(invalid(f"{path}.{field}", getattr(status, field) or 0, f"cannot be greater than {shown}"))


def check_amount(value: int | str | None, path: str, errors: Errors) -> None:
    """A number of pods, or a percentage; None is fine."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            errors.append(invalid(path, value, _NOT_A_PERCENT))
    elif value is not None:
        rules.check_not_negative(value, path, errors)


def check_at_most_whole(value: int | str | None, path: str, errors: Errors) -> None:
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
        errors.append(invalid(path, value, "must not be greater than 100%"))


def is_zero(value: int | str | None) -> bool:
    """0, "0%" or nothing; what is no percentage counts as something."""
    if isinstance(value, str):
        return bool(_PERCENT.fullmatch(value)) and int(value[:-1]) == 0
    return not value


def shown(value: Any) -> Any:
    return codec.to_json(value)
