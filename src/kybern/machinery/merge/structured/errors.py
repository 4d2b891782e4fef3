"""What can go wrong with an apply, each told in upstream's words. Turned into Status by apiserver/handlers/apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.fields import Path


class TypedError(ValueError):
    """A value does not fit its schema."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One field that another manager has."""

    manager: str  # as messages tell it: `"kubectl" using apps/v1`
    path: Path

    @property
    def message(self) -> str:
        return f"conflict with {self.manager}"

    @property
    def field(self) -> str:
        return fields.path_text(self.path)


class Conflicts(Exception):
    """An apply would take fields that others have."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(_told(self.conflicts))


def _told(conflicts: Sequence[Conflict]) -> str:
    if len(conflicts) == 1:
        only = conflicts[0]
        return f"Apply failed with 1 conflict: {only.message}: {only.field}"
    lines = [f"Apply failed with {len(conflicts)} conflicts: "]
    by_manager: dict[str, list[str]] = {}
    for conflict in conflicts:
        by_manager.setdefault(conflict.manager, []).append(conflict.field)
    told = [
        "\n".join([f"conflicts with {manager}:", *(f"- {field}" for field in names)])
        for manager, names in by_manager.items()
    ]
    return lines[0] + "\n".join(told)
