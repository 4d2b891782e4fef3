"""Who owns whom, over all objects of all resources. Pure: fed by monitors, asked by plan.

Holds references to the informers' own objects, so that an object costs little more than its entry. Promises:
dependents of an object are found whether it was seen before or after them, and after it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kybern.api.resource import Resource

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as last seen. `obj` is any form with `metadata` (Struct or PartialView)."""

    resource: Resource
    obj: Any

    @property
    def namespace(self) -> str:
        return self.obj.metadata.namespace or ""

    @property
    def name(self) -> str:
        return str(self.obj.metadata.name)

    @property
    def uid(self) -> str:
        return str(self.obj.metadata.uid)

    @property
    def owners(self) -> list[Any]:
        return self.obj.metadata.ownerReferences or []

    @property
    def finalizers(self) -> list[str]:
        return self.obj.metadata.finalizers or []

    @property
    def is_being_deleted(self) -> bool:
        return self.obj.metadata.deletionTimestamp is not None

    @property
    def waits_for_dependents(self) -> bool:
        """Deleted in the foreground: it goes after those that block it."""
        return self.is_being_deleted and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.is_being_deleted and ORPHAN in self.finalizers


class Graph:
    """Objects by uid, and the uids each of them owns."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def get(self, uid: str) -> Entry | None:
        return self._entries.get(uid)

    def owner_of(self, dependent: Entry, uid: str) -> Entry | None:
        """An owner that is here. One in another namespace is none: owners are looked for at home, or cluster-wide."""
        owner = self._entries.get(uid)
        return owner if owner is not None and owner.namespace in ("", dependent.namespace) else None

    def dependents(self, uid: str) -> list[Entry]:
        return [self._entries[d] for d in self._dependents.get(uid, ()) if d in self._entries]

    def has_dependents(self, uid: str) -> bool:
        return uid in self._dependents

    def blocking(self, uid: str) -> list[Entry]:
        """Dependents that its foreground deletion has to wait for."""
        return [d for d in self.dependents(uid) if any(o.uid == uid and o.blockOwnerDeletion for o in d.owners)]

    def upsert(self, resource: Resource, obj: Any) -> set[str]:
        """Take in an object; returns the uids that have to be looked at because of it."""
        new = Entry(resource, obj)
        old = self._entries.get(new.uid)
        self._entries[new.uid] = new
        before = {owner.uid: owner for owner in old.owners} if old is not None else {}
        after = {owner.uid: owner for owner in new.owners}
        for uid in before.keys() - after.keys():
            self._forget_dependent(uid, new.uid)
        for uid in after.keys() - before.keys():
            self._dependents.setdefault(uid, {})[new.uid] = None
        affected = set()
        if new.orphans_dependents or new.waits_for_dependents:
            affected.add(new.uid)
        elif (old is None or before.keys() != after.keys()) and not new.is_being_deleted:
            affected |= {new.uid for uid in after if self._is_missing_or_waiting(new, uid)}
        # An owner that waits may not have to any longer.
        for uid, owner in before.items():
            current = after.get(uid)
            if owner.blockOwnerDeletion and (current is None or not current.blockOwnerDeletion):
                affected |= self._if_waiting(uid)
        return affected

    def remove(self, uid: str) -> set[str]:
        """An object is gone; returns the uids that have to be looked at because of it."""
        entry = self._entries.pop(uid, None)
        affected = set(self._dependents.get(uid, ()))
        if entry is not None:
            for owner in entry.owners:
                self._forget_dependent(owner.uid, uid)
                affected |= self._if_waiting(owner.uid)
        return affected

    def of_resource(self, resource: Resource) -> list[str]:
        """uids of all objects of a resource (which is served no longer)."""
        return [uid for uid, entry in self._entries.items() if entry.resource == resource]

    def __len__(self) -> int:
        return len(self._entries)

    def _is_missing_or_waiting(self, dependent: Entry, uid: str) -> bool:
        owner = self.owner_of(dependent, uid)
        return owner is None or owner.waits_for_dependents

    def _if_waiting(self, uid: str) -> set[str]:
        owner = self._entries.get(uid)
        return {uid} if owner is not None and owner.waits_for_dependents else set()

    def _forget_dependent(self, owner: str, dependent: str) -> None:
        known = self._dependents.get(owner)
        if known is not None:
            known.pop(dependent, None)
            if not known:
                del self._dependents[owner]
