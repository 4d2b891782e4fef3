"""Who owns what: metadata.managedFields as a map of managers, and back.

Read from and written to objects by rules' callers. A manager of updates is one a name, version and subresource; an
applier is one a name and subresource, whatever version it applied last.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from kybern.api.meta_v1 import ManagedFieldsEntry
from kybern.api.scalars import FieldsV1, Time
from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.fields import LEAF, SELF, Fields
from kybern.machinery.merge.structured.schema import Kind, Node
from kybern.pausing import pausing

APPLY = "Apply"
UPDATE = "Update"
FIELDS_TYPE = "FieldsV1"

# So many managers of updates are kept; older ones are folded into one. kube-apiserver: the same.
MAX_UPDATERS = 10
FOLDED = "ancient-changes"
# Who has what an object held before anybody was tracked.
BEFORE_FIRST_APPLY = "before-first-apply"

# Fields that the server alone writes: nobody owns them.
SERVERS_OWN: Fields = fields.of_paths(
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation",
            "managedFields", "resourceVersion",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What tells one manager from another."""

    operation: str
    name: str
    api_version: str  # "" of appliers
    subresource: str


@dataclass(frozen=True, slots=True)
class Manager:
    """What one manager has, and since when."""

    name: str
    operation: str
    api_version: str
    subresource: str
    time: Time | None
    owned: Fields

    @property
    def key(self) -> Key:
        version = "" if self.operation == APPLY else self.api_version
        return Key(self.operation, self.name, version, self.subresource)

    @property
    def applied(self) -> bool:
        return self.operation == APPLY

    def with_fields(self, owned: Fields) -> Manager:
        return dataclasses.replace(self, owned=owned)

    @property
    def told(self) -> str:
        """As conflicts name it."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == UPDATE:
            text += f" using {self.api_version}"
        return text


Managers = Mapping[Key, Manager]


def decode(
    entries: Collection[ManagedFieldsEntry], node_of: Callable[[str], Node | None] = lambda _: None
) -> dict[Key, Manager]:
    """The managers of an object; `node_of` gives the type of an apiVersion.

    Raises ValueError for entries that tell no set of fields.
    """
    found: dict[Key, Manager] = {}
    for entry in pausing(entries):
        if entry.fieldsType != FIELDS_TYPE:
            raise ValueError(f"unknown fields type {entry.fieldsType!r}")
        if entry.operation not in (APPLY, UPDATE):
            raise ValueError(f"unknown operation {entry.operation!r}")
        if not entry.apiVersion:
            raise ValueError("an entry has no apiVersion")
        owned = LEAF
        if entry.fieldsV1 is not None:
            node = node_of(entry.apiVersion or "")
            if node is None:
                owned = fields.parse(entry.fieldsV1)
            elif len(entry.fieldsV1.text) <= fields.LONGEST_KEPT:
                owned = _settled(node, entry.fieldsV1)
            else:
                owned = settle(node, fields.parse(entry.fieldsV1))
        manager = Manager(
            entry.manager or "",
            entry.operation,
            entry.apiVersion or "",
            entry.subresource or "",
            entry.time,
            owned,
        )
        if owned:
            found[manager.key] = manager  # of two with one name the last counts, as upstream
    return found


@functools.lru_cache(maxsize=4096)
def _settled(node: Node, text: FieldsV1) -> Fields:
    return settle(node, fields.parse(text))


def settle(node: Node, owned: Fields) -> Fields:
    """A set that was made before a type changed: who has a part of what is atomic now, has it whole."""
    if node.kind is Kind.SCALAR or node.kind is Kind.ANY or not owned:
        return owned
    if node.atomic:
        return LEAF
    settled: Fields = {}
    is_same = True
    for element, inner in pausing(owned.items()):
        following = node.element
        if element[0] == "f":
            following = node.fields.get(element[2:], node.element)
        kept = inner if following is None or element == SELF else settle(following, inner)
        is_same = is_same and kept is inner
        settled[element] = kept
    return owned if is_same else settled


def encode(managers: Managers) -> list[ManagedFieldsEntry]:
    """As an object carries them: appliers first, then by time and name."""
    ranked = sorted(managers.values(), key=lambda m: (m.operation, m.time or "", m.name, m.api_version, m.subresource))
    return [entry_of(manager) for manager in pausing(ranked)]


def entry_of(manager: Manager) -> ManagedFieldsEntry:
    return ManagedFieldsEntry(
        apiVersion=manager.api_version or None,
        fieldsType=FIELDS_TYPE,
        fieldsV1=fields.render(manager.owned),
        manager=manager.name or None,
        operation=manager.operation,
        subresource=manager.subresource or None,
        time=manager.time,
    )


def stripped(managers: Managers) -> dict[Key, Manager]:
    """Without the fields that are the server's, and without managers that have nothing left."""
    kept = {}
    for key, manager in pausing(managers.items()):
        owned = strip(manager.owned)
        if owned:
            kept[key] = manager if owned is manager.owned else manager.with_fields(owned)
    return kept


def strip(owned: Fields) -> Fields:
    """A set without the server's own fields."""
    metadata = owned.get("f:metadata")
    if metadata is None and "f:kind" not in owned and "f:apiVersion" not in owned:
        return owned
    return fields.difference(owned, SERVERS_OWN)


def _union_of(sets: list[Fields]) -> Fields:
    """By halves: one after the other would copy the growing union each time."""
    if len(sets) <= 2:
        return fields.union(sets[0], sets[-1])
    middle = len(sets) // 2
    return fields.union(_union_of(sets[:middle]), _union_of(sets[middle:]))


def capped(managers: Managers) -> dict[Key, Manager]:
    """At most MAX_UPDATERS managers of updates: the oldest become one for each version."""
    updaters = [m for m in managers.values() if m.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return dict(managers)
    updaters.sort(key=lambda m: (m.time or "", m.name, m.api_version, m.subresource))
    kept = dict(managers)
    folded: dict[str, list[Manager]] = {}
    for manager in pausing(updaters):
        if excess <= 0:
            break
        bucket_of = folded.setdefault(manager.api_version, [])
        if bucket_of:
            excess -= 1  # a bucket takes the place of its first manager; only the next ones make room
        bucket_of.append(manager)
        del kept[manager.key]
    for version, members in folded.items():
        latest = max(m.time or Time("") for m in members) or None
        bucket = Manager(FOLDED, UPDATE, version, "", latest, _union_of([m.owned for m in members]))
        known = kept.get(bucket.key)
        kept[bucket.key] = bucket if known is None else bucket.with_fields(fields.union(known.owned, bucket.owned))
    return kept
