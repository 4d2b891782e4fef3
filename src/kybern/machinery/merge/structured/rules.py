"""Who owns what after a write: the rules of server-side apply. Pure; called by apiserver/registry/ownership.

update: what a write changed is its writer's, and nobody else's any more; what it removed is nobody's.
apply: the applied fields are merged in; a field that the applier applied before and leaves out now goes, unless
somebody else has it; fields of others with another value are conflicts, or change hands by force.
Source: "Server-Side Apply" in the Kubernetes documentation; answers of a kube-apiserver where it says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kybern.api.scalars import Time
from kybern.machinery.merge.structured import combine, fields, managers, typed
from kybern.machinery.merge.structured.compare import Difference, compare
from kybern.machinery.merge.structured.errors import Conflict, Conflicts
from kybern.machinery.merge.structured.fields import LEAF, Fields
from kybern.machinery.merge.structured.managers import Key, Manager, Managers
from kybern.machinery.merge.structured.schema import Node
from kybern.pausing import pausing


class Versions(Protocol):
    """One kind in all its versions."""

    def node(self, api_version: str) -> Node | None:
        """The type of a version; None where there is no such version (any more)."""
        ...

    def convert(self, value: dict[str, Any], source: str, target: str) -> dict[str, Any]:
        """An object of one version as one of another. Raises ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes, when, at which version, and what of it does not count (fields that are reset)."""

    name: str
    api_version: str
    subresource: str
    time: Time
    ignored: Fields


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes: the object, its managers, and whether the object is another than before."""

    value: dict[str, Any]
    managers: dict[Key, Manager]
    changed: bool


def update(
    versions: Versions, live: dict[str, Any], new: dict[str, Any], owners: Managers, writing: Writing
) -> Managers:
    """The managers after `live` became `new`: `owners` itself where none has more or less than before.

    Raises ValueError where a value does not fit its type.
    """
    node = _node(versions, writing.api_version)
    difference = _counted(compare(node, live, new), writing.ignored)
    if _stays(owners, writing, difference):
        return owners
    after, _ = _taken(versions, live, new, owners, writing, difference)
    mine = managers.strip(difference.changed)
    if mine:
        own = Manager(writing.name, managers.UPDATE, writing.api_version, writing.subresource, writing.time, mine)
        before = after.get(own.key)
        after[own.key] = own if before is None else own.with_fields(fields.union(before.owned, mine))
    return managers.capped(managers.stripped(after))


def _stays(owners: Managers, writing: Writing, difference: Difference) -> bool:
    """The writer gave other values to what it alone has: most writes of a running cluster."""
    if managers.strip(difference.added) or managers.strip(difference.removed):
        return False
    modified = managers.strip(difference.modified)
    own = owners.get(Key(managers.UPDATE, writing.name, writing.api_version, writing.subresource))
    if own is None or fields.difference(modified, own.owned):
        return False
    return all(
        other is own or (other.api_version == writing.api_version and not fields.intersection(modified, other.owned))
        for other in owners.values()
    )


def apply(
    versions: Versions,
    live: dict[str, Any],
    applied: dict[str, Any],
    owners: Managers,
    writing: Writing,
    *,
    force: bool,
) -> Applied:
    """What `applied` makes of `live`. Raises TypedError, Conflicts; ValueError where what is live does not fit."""
    node = _node(versions, writing.api_version)
    typed.check(node, applied)
    owned = managers.strip(fields.without(typed.fields_of(node, applied), writing.ignored))
    own = Manager(writing.name, managers.APPLY, writing.api_version, writing.subresource, writing.time, owned)
    last = owners.get(own.key)
    others = {key: manager for key, manager in owners.items() if key != own.key}
    merged = combine.merge(node, live, applied)
    if last is not None:
        merged = _pruned(versions, merged, last, {**others, own.key: own}, writing.api_version)
    difference = compare(node, live, merged, as_told=False)
    counted = _counted(difference, writing.ignored)
    after, conflicts = _taken(versions, live, merged, others, writing, counted)
    if conflicts and not force:
        raise Conflicts(conflicts)
    changed = live != merged
    if not changed:
        # As upstream: who applies what is there already gets no new time.
        own = dataclasses.replace(own, time=last.time if last is not None else None)
    if own.owned:
        after[own.key] = own
    return Applied(merged, managers.capped(managers.stripped(after)), changed)


def _node(versions: Versions, api_version: str) -> Node:
    node = versions.node(api_version)
    if node is None:
        raise ValueError(f"there is no version {api_version}")
    return node


def _counted(difference: Difference, ignored: Fields) -> Difference:
    if not ignored or difference.is_empty:
        return difference
    return Difference(
        *(fields.without(s, ignored) for s in (difference.added, difference.modified, difference.removed))
    )


def _name_first(owner: tuple[Key, Manager]) -> tuple[str, ...]:
    """The order in which conflicts are told."""
    key, _ = owner
    return key.name, key.operation, key.api_version, key.subresource or "~"  # those of the object itself come last


def _taken(
    versions: Versions,
    live: dict[str, Any],
    new: dict[str, Any],
    owners: Managers,
    writing: Writing,
    difference: Difference,
) -> tuple[dict[Key, Manager], list[Conflict]]:
    """The managers without what a write took from them, and what that was of what the write sets."""
    left: dict[Key, Manager] = {}
    conflicts: list[Conflict] = []
    differences = {writing.api_version: (difference.changed, difference.removed)}
    for key, manager in pausing(sorted(owners.items(), key=_name_first)):
        version = manager.api_version
        seen = differences.get(version)
        if seen is None:
            node = versions.node(version)
            if node is None:
                continue  # a version that is gone: nobody can say any more what its fields are
            other = _counted(
                compare(
                    node,
                    versions.convert(live, writing.api_version, version),
                    versions.convert(new, writing.api_version, version),
                ),
                writing.ignored,
            )
            seen = differences[version] = (other.changed, other.removed)
        changed, removed = seen
        lost = fields.intersection(manager.owned, changed) if changed else LEAF
        conflicts += [Conflict(manager.told, path) for path in fields.members(lost)]
        kept = fields.difference(fields.difference(manager.owned, lost), removed)
        if kept:
            left[key] = manager if kept is manager.owned else manager.with_fields(kept)
    return left, conflicts


def _pruned(
    versions: Versions, merged: dict[str, Any], last: Manager, owners: Mapping[Key, Manager], api_version: str
) -> dict[str, Any]:
    """`merged` without what its applier had applied before and nobody owns now."""
    node = versions.node(last.api_version)
    if node is None:
        return merged
    at = last.api_version
    value = merged if at == api_version else versions.convert(merged, api_version, at)
    gone = fields.difference(combine.named(node, last.owned), _held(node, owners, at))
    if not gone:
        return merged
    pruned = combine.remove(node, value, gone)
    for version in {manager.api_version for manager in owners.values()} - {at}:
        pruned = _with_owned(versions, (value, pruned), at, version, owners)
    return pruned if at == api_version else versions.convert(pruned, at, api_version)


def _held(node: Node, owners: Mapping[Key, Manager], api_version: str) -> Fields:
    held: Fields = LEAF
    for manager in pausing(owners.values()):
        if manager.api_version == api_version:
            held = fields.union(held, combine.named(node, manager.owned))
    return held


def _with_owned(
    versions: Versions,
    values: tuple[dict[str, Any], dict[str, Any]],
    at: str,
    version: str,
    owners: Mapping[Key, Manager],
) -> dict[str, Any]:
    """A pruned object with what managers of another version own put back."""
    whole, pruned = values
    node = versions.node(version)
    if node is None:
        return pruned
    there = versions.convert(whole, at, version)
    gone = compare(node, there, versions.convert(pruned, at, version)).removed
    unowned = fields.difference(combine.named(node, gone), _held(node, owners, version))
    return versions.convert(combine.remove(node, there, unowned), version, at)
