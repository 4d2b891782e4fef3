"""The server's share of ObjectMeta: what it sets on create, keeps on update and marks on delete.

Called by registry/resource_store, pure but for the clock and dice handed in.
"""

from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

import msgspec

from kybern.api import scalars
from kybern.api.meta_v1 import ObjectMeta, OwnerReference
from kybern.api.resource import Resource
from kybern.machinery import names
from kybern.machinery.status import ApiError
from kybern.pausing import pausing

ORPHAN = "orphan"
# Seconds; clocks and calendars end not long after.
LONGEST_GRACE = 10**10
FOREGROUND = "foregroundDeletion"


def fill_on_create(metadata: ObjectMeta, now: datetime.datetime, rng: random.Random) -> None:
    """Name from generateName, uid, creation time; nothing that only the server may say survives."""
    if not metadata.name and metadata.generateName:
        metadata.name = names.generate(metadata.generateName, rng)
    metadata.uid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    metadata.creationTimestamp = scalars.render_time(now)
    metadata.resourceVersion = ""
    metadata.selfLink = None
    metadata.deletionTimestamp = None
    metadata.deletionGracePeriodSeconds = None


def check_namespace(resource: Resource, metadata: ObjectMeta, namespace: str) -> None:
    """The body's namespace must be the path's. Filled in where absent, dropped where there is none. Raises 400."""
    if not resource.namespaced:
        metadata.namespace = ""
        return
    if not metadata.namespace:
        metadata.namespace = namespace
    elif metadata.namespace != namespace:
        raise ApiError.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def check_name(metadata: ObjectMeta, name: str) -> None:
    """The body's name must be the path's. Raises ApiError 400."""
    if not metadata.name:
        raise ApiError.bad_request(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if metadata.name != name:
        raise ApiError.bad_request(
            f"the name of the object ({metadata.name}) does not match the name on the URL ({name})"
        )


def keep_on_update(metadata: ObjectMeta, old: ObjectMeta) -> None:
    """What an update can't change, taken from the old object. The uid is checked by the caller."""
    metadata.uid = old.uid
    metadata.creationTimestamp = old.creationTimestamp
    metadata.generateName = metadata.generateName or old.generateName
    if metadata.deletionTimestamp is None:
        metadata.deletionTimestamp = old.deletionTimestamp
    if metadata.deletionGracePeriodSeconds is None:
        metadata.deletionGracePeriodSeconds = old.deletionGracePeriodSeconds
    metadata.selfLink = None
    metadata.resourceVersion = ""


def drop_repeated_owners(metadata: ObjectMeta, warnings: list[str]) -> None:
    """An owner named twice in the same words counts once; the client is told."""
    owners = metadata.ownerReferences
    if len(owners) < 2:
        return
    kept: dict[tuple[Any, ...], OwnerReference] = {}  # by all that it says: there may be tens of thousands
    repeated: dict[str, None] = {}
    for owner in pausing(owners):
        if kept.setdefault(msgspec.structs.astuple(owner), owner) is not owner:
            repeated[owner.uid] = None
    if repeated:
        metadata.ownerReferences = list(kept.values())
        warnings.append(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and "
            "may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            + ", ".join(repeated)
        )


def finalizers_after(
    obj: Any, propagation: str | None, orphan_dependents: bool | None, default: str | None = None
) -> list[str]:
    """The finalizers a delete leaves: by what it says of dependents, else what the object says, else the default."""
    present = obj.metadata.finalizers
    if orphan_dependents is not None:
        wanted = ORPHAN if orphan_dependents else ""
    elif propagation is not None:
        wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(propagation, "")
    elif ORPHAN in present or FOREGROUND in present:
        return list(present)
    else:
        wanted = ORPHAN if default == "Orphan" else ""
    kept = [f for f in present if f not in (ORPHAN, FOREGROUND) or f == wanted]
    return [*kept, wanted] if wanted and wanted not in kept else kept


def mark_deleted(metadata: ObjectMeta, now: datetime.datetime, grace_seconds: int) -> None:
    """Set deletionTimestamp and grace; a later delete may only shorten them."""
    grace_seconds = min(grace_seconds, LONGEST_GRACE)
    when = now + datetime.timedelta(seconds=grace_seconds)
    if metadata.deletionTimestamp is not None:
        current = metadata.deletionGracePeriodSeconds or 0
        if grace_seconds >= current:
            return
        began = scalars.parse_time(metadata.deletionTimestamp) - datetime.timedelta(seconds=current)
        when = max(began + datetime.timedelta(seconds=grace_seconds), began)
    elif metadata.generation:
        metadata.generation += 1
    metadata.deletionTimestamp = scalars.render_time(when)
    metadata.deletionGracePeriodSeconds = grace_seconds
