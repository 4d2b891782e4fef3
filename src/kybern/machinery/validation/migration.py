"""StorageVersionMigrations: which resource is migrated, and how far that is.

Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

from typing import Any

from kybern.api.meta_v1 import Condition
from kybern.api.storagemigration_v1beta1 import (
    StorageVersionMigration,
    StorageVersionMigrationSpec,
    StorageVersionMigrationStatus,
)
from kybern.machinery import names
from kybern.machinery.status import invalid, required
from kybern.machinery.validation import conditions, rules
from kybern.machinery.validation.rules import Errors, Rules

_TOLD = ("type", "status", "lastTransitionTime", "reason", "message")  # in upstream's order


def _check(migration: StorageVersionMigration, errors: Errors) -> None:
    resource = migration.spec.resource
    if not resource.resource:
        errors.append(required("spec.resource.resource", "resource is required to be set"))
    else:
        rules.check_rule(resource.resource, "spec.resource.resource", names.check_label_1035, errors)
    rules.check_optional(resource.group, "spec.resource.group", names.check_subdomain, errors)


def _check_update(migration: StorageVersionMigration, old: StorageVersionMigration, errors: Errors) -> None:
    _check(migration, errors)
    if migration.spec != old.spec:
        errors.append(invalid("spec", _shown(migration.spec), rules.IMMUTABLE))


def _shown(spec: StorageVersionMigrationSpec) -> dict[str, Any]:
    """Upstream names the field by its Go name here."""
    return {"Resource": {"group": spec.resource.group, "resource": spec.resource.resource}}


def is_true(found: list[Condition], kind: str) -> bool:
    return any(c.type == kind and c.status == "True" for c in found)


def _is_revision(text: str) -> bool:
    return text.isascii() and text.isdecimal() and text[0] != "0"


def _check_status(migration: StorageVersionMigration, old: StorageVersionMigration, errors: Errors) -> None:
    new, before = migration.status, old.status
    version = new.resourceVersion or ""
    conditions.check(new.conditions, "status.conditions", errors)
    if version and not _is_revision(version):
        message = f"resource version is not well formed: {version}"
        errors.append(invalid("status.resourceVersion", version, message))
    if before.resourceVersion and version != before.resourceVersion:
        errors.append(invalid("status.resourceVersion", version, rules.IMMUTABLE))
    _check_verdict(new, before, errors)


def _check_verdict(new: StorageVersionMigrationStatus, before: StorageVersionMigrationStatus, errors: Errors) -> None:
    """What is settled stays so, and is one thing or the other."""
    shown = [{name: getattr(c, name) for name in _TOLD} for c in new.conditions]
    if is_true(new.conditions, "Succeeded") and is_true(new.conditions, "Failed"):
        message = "Both success and failed conditions cannot be true at the same time"
        errors.append(invalid("status.conditions", shown, message))
    for kind, word in (("Succeeded", "Success"), ("Failed", "Failed")):
        if is_true(before.conditions, kind) and not is_true(new.conditions, kind):
            message = f"{word} condition cannot be set to false once it is true"
            errors.append(invalid("status.conditions", shown, message))


RULES: dict[type[Any], Rules] = {StorageVersionMigration: Rules(_check, _check_update, _check_status)}
