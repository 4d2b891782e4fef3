"""Revisions of a pod template, kept as ControllerRevisions: what DaemonSets and StatefulSets share.

`plan_history` is pure; `apply_history` writes. kubectl reads these for `rollout history` and writes a revision's data
back for `rollout undo`, so data is a patch: {"spec": {"template": ..., "$patch": "replace"}}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.apps_v1 import ControllerRevision
from kybern.api.core_v1 import PodTemplateSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import ownership, runtime
from kybern.machinery.status import ApiError

HASH = "controller-revision-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_COPIED_NOT = frozenset(
    ("kubectl.kubernetes.io/last-applied-configuration", "deprecated.daemonset.template.generation")
)


@dataclass(frozen=True, slots=True)
class History:
    """The revision of the present template, and what has to be written for it to be the newest.

    Exactly one of `create` and `renumber` may be set; `surplus` is beyond the limit, oldest first.
    """

    current: ControllerRevision
    create: bool = False
    renumber: int | None = None


def data_of(template: PodTemplateSpec) -> dict[str, Any]:
    return {"spec": {"template": {"$patch": "replace", **codec.to_json(template)}}}


def _canonical(data: Any) -> bytes:
    return msgspec.json.encode(codec.to_json(data), order="deterministic", enc_hook=str)


def same_data(a: Any, b: Any) -> bool:
    return _canonical(a) == _canonical(b)


def hash_of(data: Any, collisions: int | None) -> str:
    """A stable name of a revision's data."""
    digest = hashlib.sha256(_canonical(data))
    if collisions:
        digest.update(collisions.to_bytes(8, "big"))
    number = int.from_bytes(digest.digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def hash_label(revision: ControllerRevision) -> str:
    return revision.metadata.labels.get(HASH, "")


def plan_history(owner: Any, revisions: Sequence[ControllerRevision]) -> History:
    """Find the template among the revisions, or make a new one; `owner.status.collisionCount` steers its name."""
    data = data_of(owner.spec.template)
    newest = max((r.revision for r in revisions), default=0)
    equal = [r for r in revisions if same_data(r.data, data)]
    if equal:
        current = max(equal, key=lambda r: r.revision)
        return History(current, renumber=newest + 1 if current.revision < newest else None)
    suffix = hash_of(data, owner.status.collisionCount)
    annotations = {k: v for k, v in owner.metadata.annotations.items() if k not in _COPIED_NOT}
    made = ControllerRevision(
        metadata=ObjectMeta(
            name=f"{owner.metadata.name}-{suffix}",
            namespace=owner.metadata.namespace,
            labels=dict(owner.spec.template.metadata.labels) | {HASH: suffix},
            annotations=annotations,
            ownerReferences=[ownership.reference_to(owner)],
        ),
        data=data,
        revision=newest + 1,
    )
    return History(made, create=True)


def plan_surplus(
    revisions: Sequence[ControllerRevision], live: Collection[str], limit: int | None
) -> list[ControllerRevision]:
    """Revisions beyond the limit that no pod is of (`live`: hashes and names in use), oldest first."""
    idle = [r for r in revisions if hash_label(r) not in live and r.metadata.name not in live]
    idle.sort(key=lambda r: r.revision)
    return idle[: max(0, len(idle) - (10 if limit is None else limit))]


async def apply_history(context: runtime.Context, owner: Any, history: History) -> ControllerRevision | None:
    """Write it; returns the stored revision, or None if its name is taken by another template (a collision)."""
    if history.renumber is not None:
        fresh = codec.clone(history.current)
        fresh.revision = history.renumber
        return await context.update(fresh)
    if not history.create:
        return history.current
    try:
        return await context.create(history.current)
    except ApiError as error:
        if not error.is_already_exists:
            raise
    meta = history.current.metadata
    there = await context.client.get(ControllerRevision, meta.namespace, meta.name)
    if ownership.is_controlled_by(there, owner) and same_data(there.data, history.current.data):
        return there
    return None
