"""Which names a definition gets: those it asks for, but for what other definitions of its group have got before. Pure.

Called by lifecycle. Source: the conditions of a v1.36 API server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionNames


@dataclass(frozen=True, slots=True)
class Verdict:
    """The names that are accepted, and the last one that is not (reason "" if all are)."""

    accepted: CustomResourceDefinitionNames
    reason: str = ""
    message: str = ""


def plan_names(definition: CustomResourceDefinition, others: Iterable[CustomResourceDefinition]) -> Verdict:
    """Judge a definition's names; each that is taken stays what it was."""
    resources, kinds = _taken(definition, others)
    asked = definition.spec.names
    accepted = codec.clone(definition.status.acceptedNames or CustomResourceDefinitionNames())
    conflict: tuple[str, str] | None = None
    if asked.plural in resources:
        conflict = "PluralConflict", asked.plural
    else:
        accepted.plural = asked.plural
    if asked.singular in resources:
        conflict = "SingularConflict", asked.singular or ""
    else:
        accepted.singular = asked.singular
    taken = [name for name in asked.shortNames if name in resources]
    if taken:
        conflict = "ShortNamesConflict", taken[0]
    else:
        accepted.shortNames = list(asked.shortNames)
    if asked.kind in kinds:
        conflict = "KindConflict", asked.kind
    else:
        accepted.kind = asked.kind
    if asked.listKind in kinds:
        conflict = "ListKindConflict", asked.listKind or ""
    else:
        accepted.listKind = asked.listKind
    accepted.categories = list(asked.categories)
    if conflict is None:
        return Verdict(accepted)
    return Verdict(accepted, conflict[0], f'"{conflict[1]}" is already in use')


def _taken(
    definition: CustomResourceDefinition, others: Iterable[CustomResourceDefinition]
) -> tuple[set[str], set[str]]:
    """The names of resources and of kinds that others of the group have."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        names = other.status.acceptedNames
        if names is None or other.spec.group != definition.spec.group or other.metadata.uid == definition.metadata.uid:
            continue
        resources.update(filter(None, (names.plural, names.singular, *names.shortNames)))
        kinds.update(filter(None, (names.kind, names.listKind)))
    return resources, kinds
