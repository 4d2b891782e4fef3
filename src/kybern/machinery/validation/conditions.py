"""Conditions of the shape that all newer kinds share (meta/v1 Condition).

Used for the status of policies, budgets, address ranges and allocated devices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kybern.api.meta_v1 import Condition
from kybern.machinery import names
from kybern.machinery.status import duplicate, invalid, not_supported, required, too_long
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_STATUSES = ("False", "True", "Unknown")
_REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_is_reason = re.compile(_REASON).fullmatch
_REASON_MESSAGE = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
    f"'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '{_REASON}')"
)
_REASON_LENGTH = 1024
_MESSAGE_LENGTH = 32 * 1024


def check(conditions: Sequence[Condition], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(pausing(conditions)):
        where = f"{path}[{i}]"
        if condition.type in seen:
            errors.append(duplicate(f"{where}.type", condition.type))
        seen.add(condition.type)
        rules.check_rule(condition.type, f"{where}.type", names.check_qualified, errors)
        if condition.status not in _STATUSES:
            errors.append(not_supported(f"{where}.status", condition.status, _STATUSES))
        generation = condition.observedGeneration
        if generation is not None and generation < 0:
            message = "must be greater than or equal to zero"
            errors.append(invalid(f"{where}.observedGeneration", generation, message))
        if not condition.lastTransitionTime:
            errors.append(required(f"{where}.lastTransitionTime"))
        if not condition.reason:
            errors.append(required(f"{where}.reason"))
        else:
            if not _is_reason(condition.reason):
                errors.append(invalid(f"{where}.reason", condition.reason, _REASON_MESSAGE))
            if len(condition.reason) > _REASON_LENGTH:
                errors.append(too_long(f"{where}.reason", _REASON_LENGTH))
        if len(condition.message) > _MESSAGE_LENGTH:
            errors.append(too_long(f"{where}.message", _MESSAGE_LENGTH))
