"""Decide what a write does: the preconditions of create, update and delete, as pure functions.

Called by memory and sqlite with the key's current state (of sqlite: including writes on their way to the
disk) and the revision the write would get. Returns the Change, or raises what the contract says.
"""

from __future__ import annotations

from kybern.storage.interface import Change, KeyExists, KeyMissing, Record, Revision, RevisionMismatch


def plan_create(current: Record | None, key: str, value: bytes, revision: Revision) -> Change:
    """Raises KeyExists; UnicodeEncodeError for a key that is not text (lone surrogates)."""
    if current is not None:
        raise KeyExists(current)
    key.encode()
    return Change(revision, key, Record(key, value, revision, revision), None)


def plan_update(
    current: Record | None, key: str, value: bytes, expected: Revision | None, revision: Revision
) -> Change:
    """Raises KeyMissing, RevisionMismatch."""
    found = _expect(current, key, expected)
    return Change(revision, key, Record(key, value, found.create_revision, revision), found)


def plan_delete(current: Record | None, key: str, expected: Revision | None, revision: Revision) -> Change:
    """Raises KeyMissing, RevisionMismatch."""
    return Change(revision, key, None, _expect(current, key, expected))


def record_of(change: Change) -> Record:
    """What the write answers: the new record, or the deleted one at the delete's revision."""
    if change.record is not None:
        return change.record
    gone = change.previous
    assert gone is not None  # a change has one side at least
    return Record(gone.key, gone.value, gone.create_revision, change.revision)


def _expect(current: Record | None, key: str, expected: Revision | None) -> Record:
    if current is None:
        raise KeyMissing(key)
    if expected is not None and expected != current.mod_revision:
        raise RevisionMismatch(current)
    return current
