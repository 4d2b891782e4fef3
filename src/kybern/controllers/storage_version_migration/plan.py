"""Which resource a migration means, what stands in its way, and the conditions that tell how far it is. Pure.

Called by reconcile. Source: "Migrate Kubernetes Objects Using Storage Version Migration" in the documentation, and
the conditions that a v1.36 controller manager writes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from kybern.api import scalars
from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.meta_v1 import Condition
from kybern.api.resource import Resource
from kybern.api.storagemigration_v1beta1 import StorageVersionMigration
from kybern.machinery.status import ApiError

RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"
_NEEDED = ("update", "patch", "list")


def is_settled(migration: StorageVersionMigration) -> bool:
    return any(c.type in (SUCCEEDED, FAILED) and c.status == "True" for c in migration.status.conditions)


def is_running(migration: StorageVersionMigration) -> bool:
    return any(c.type == RUNNING and c.status == "True" for c in migration.status.conditions)


def find(migration: StorageVersionMigration, served: Iterable[Resource]) -> Resource | None:
    """The resource as its server prefers it; None while nobody serves it."""
    wanted = migration.spec.resource
    for row in served:
        if (row.group, row.plural) == (wanted.group, wanted.resource):
            return row
    return None


def obstacle(resource: Resource) -> str:
    """Why it cannot be migrated; "" if it can."""
    if all(verb in resource.verbs for verb in _NEEDED):
        return ""
    what = f"{resource.group}/{resource.version}, Resource={resource.plural}"
    return f'resource "{what}" does not support discovery operations: [{" ".join(_NEEDED)}]'


def is_lasting(error: ApiError) -> bool:
    """The write would be refused again: admission, validation, missing rights."""
    return 400 <= error.code < 500 and error.code not in (408, 410, 429)


def stored_versions(definition: CustomResourceDefinition) -> list[str]:
    """The one version that objects are stored in from now on."""
    return [version.name for version in definition.spec.versions if version.storage]


def begun(conditions: list[Condition], now: datetime.datetime) -> list[Condition]:
    return _with(conditions, now, RUNNING, "True", "MigrationRunning", "The migration is running")


def settled(conditions: list[Condition], now: datetime.datetime, failure: str = "") -> list[Condition]:
    """Over; with a `failure`, in vain."""
    over = _with(conditions, now, RUNNING, "False", "MigrationCompleted", "Migration completed")
    if failure:
        return _with(over, now, FAILED, "True", "StorageVersionMigrationFailed", failure)
    return _with(over, now, SUCCEEDED, "True", "StorageVersionMigrationSucceeded", "")


def _with(
    conditions: list[Condition], now: datetime.datetime, kind: str, status: str, reason: str, message: str
) -> list[Condition]:
    told = Condition(
        type=kind, status=status, reason=reason, message=message, lastTransitionTime=scalars.render_time(now)
    )
    places = [i for i, c in enumerate(conditions) if c.type == kind]
    if not places:
        return [*conditions, told]
    if conditions[places[0]].status == status:
        told.lastTransitionTime = conditions[places[0]].lastTransitionTime
    return [told if i == places[0] else c for i, c in enumerate(conditions)]
