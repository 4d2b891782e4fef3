"""Who controls an object: reading, planning and writing of controller references.

`plan_claim` is pure; `apply_claim` writes. Used by all controllers of pods and of replica sets. An index by
controller uid (orphans by namespace) keeps looking up cheap, however many objects there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from kybern.api import codec
from kybern.api.meta_v1 import OwnerReference
from kybern.client.informer import Informer
from kybern.controllers import runtime
from kybern.machinery.labels import Selector
from kybern.machinery.status import ApiError

T = TypeVar("T")
INDEX = "controller"


def controller_of(obj: Any) -> OwnerReference | None:
    """The one reference marked as controller."""
    for reference in obj.metadata.ownerReferences:
        if reference.controller:
            return cast("OwnerReference", reference)
    return None


def reference_to(owner: Any) -> OwnerReference:
    """The reference of a controller, which blocks its foreground deletion."""
    return OwnerReference(
        apiVersion=owner.apiVersion,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


def is_controlled_by(obj: Any, owner: Any) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.uid == owner.metadata.uid


def add_index(informer: Informer[Any]) -> None:
    """Let `candidates` find objects."""
    informer.add_index(INDEX, _index)


def _index(obj: Any) -> Iterable[str]:
    reference = controller_of(obj)
    return (reference.uid,) if reference is not None else (f"orphan:{obj.metadata.namespace}",)


def owned(informer: Informer[T], uid: str) -> list[T]:
    return informer.by_index(INDEX, uid)


def orphans(informer: Informer[T], namespace: str) -> list[T]:
    return informer.by_index(INDEX, f"orphan:{namespace}")


@dataclass(frozen=True, slots=True)
class Claim(Generic[T]):
    """What belongs to an owner, and what has to be written to make it so."""

    kept: tuple[T, ...]
    adopt: tuple[T, ...] = ()
    release: tuple[T, ...] = ()


def plan_claim(owner: Any, selector: Selector, own: Iterable[T], orphaned: Iterable[T]) -> Claim[T]:
    """Keep what is owned and matches, adopt matching orphans, release what stopped to match.

    An owner being deleted neither adopts nor releases; objects being deleted are not adopted.
    """
    kept, adopt, release = [], [], []
    dying = owner.metadata.deletionTimestamp is not None
    for obj in own:
        if selector.matches(cast("Any", obj).metadata.labels):
            kept.append(obj)
        elif not dying:
            release.append(obj)
    for obj in orphaned:
        meta = cast("Any", obj).metadata
        if not dying and meta.deletionTimestamp is None and selector.matches(meta.labels):
            adopt.append(obj)
    return Claim(tuple(kept), tuple(adopt), tuple(release))


async def apply_claim(context: runtime.Context, owner: Any, claim: Claim[T], *, finalizer: str = "") -> list[T]:
    """Write it, and return what the owner holds then. The owner is asked for afresh before anything is adopted.

    `finalizer` comes with adoption and goes with release.
    """
    held = list(claim.kept)
    for obj in claim.release:
        await _set_owners(context, obj, lambda refs: [r for r in refs if r.uid != owner.metadata.uid], drop=finalizer)
    if claim.adopt:
        live = await context.client.get(type(owner), owner.metadata.namespace, owner.metadata.name)
        if live.metadata.uid != owner.metadata.uid or live.metadata.deletionTimestamp:
            return held
        for obj in claim.adopt:
            adopted = await _set_owners(context, obj, lambda refs: [*refs, reference_to(owner)], add=finalizer)
            if adopted is not None:
                held.append(adopted)
    return held


async def _set_owners(
    context: runtime.Context,
    obj: T,
    change: Callable[[list[OwnerReference]], list[OwnerReference]],
    *,
    add: str = "",
    drop: str = "",
) -> T | None:
    meta = cast("Any", obj).metadata
    fields: dict[str, Any] = {
        "uid": meta.uid,
        "resourceVersion": meta.resourceVersion,
        "ownerReferences": codec.to_json(change(meta.ownerReferences)),
    }
    if add and add not in meta.finalizers:
        fields["finalizers"] = [*meta.finalizers, add]
    if drop in meta.finalizers:
        fields["finalizers"] = [f for f in meta.finalizers if f != drop]
    patch = {"metadata": fields}
    try:
        return await context.patch(type(obj), meta.namespace, meta.name, patch)
    except ApiError as error:
        # Gone, or another life of that name: nothing to own. A changed one comes back with its next event.
        if error.is_not_found or error.code == 422:
            return None
        raise
