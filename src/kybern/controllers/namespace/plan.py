"""What a terminating namespace tells while it empties, and which resources to empty next. Pure.

Fed by reconcile with what was counted. Pods go first (upstream: OrderedNamespaceDeletion): what they use, network
policies above all, must outlive them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kybern.api import scalars
from kybern.api.core_v1 import NamespaceCondition
from kybern.api.resource import Resource

FINALIZER = "kubernetes"


@dataclass(slots=True)
class Remains:
    """What is left in a namespace."""

    counts: dict[str, int] = field(default_factory=dict)  # "pods.", "deployments.apps" -> objects
    finalizers: dict[str, int] = field(default_factory=dict)  # finalizer -> objects it holds
    errors: list[str] = field(default_factory=list)  # of deleting
    undiscovered: tuple[str, ...] = ()  # group-versions that could not be asked

    @property
    def is_empty(self) -> bool:
        return not self.counts and not self.errors and not self.undiscovered


def deletable(resources: Iterable[Resource]) -> tuple[list[Resource], list[Resource]]:
    """(pods, everything else) of the namespaced resources that can be listed and deleted."""
    usable = [r for r in resources if r.namespaced and "delete" in r.verbs and "list" in r.verbs]
    first = [r for r in usable if (r.group, r.plural) == ("", "pods")]
    return first, [r for r in usable if r not in first]


def name_of(resource: Resource) -> str:
    """Upstream's form in these messages: the core group leaves a dot at the end."""
    return f"{resource.plural}.{resource.group}"


def _condition(type_: str, bad: str, good: tuple[str, str], reason: str, now: datetime.datetime) -> NamespaceCondition:
    status, why, message = ("True", reason, bad) if bad else ("False", *good)
    return NamespaceCondition(
        type=type_, status=status, reason=why, message=message, lastTransitionTime=scalars.render_time(now)
    )


def plan_conditions(
    old: Sequence[NamespaceCondition], remains: Remains, now: datetime.datetime
) -> list[NamespaceCondition]:
    """All five conditions of a namespace on its way out; times stay where nothing changed."""
    failed = "; ".join(sorted(remains.errors))
    left = ", ".join(f"{name} has {n} resource instances" for name, n in sorted(remains.counts.items()))
    held = ", ".join(f"{name} in {n} resource instances" for name, n in sorted(remains.finalizers.items()))
    missing = ", ".join(remains.undiscovered)
    new = [
        _condition(
            "NamespaceDeletionDiscoveryFailure",
            f"Discovery failed for some groups, {len(remains.undiscovered)} failing: {missing}" if missing else "",
            ("ResourcesDiscovered", "All resources successfully discovered"),
            "DiscoveryFailed",
            now,
        ),
        _condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            "",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            "GroupVersionParsingFailed",
            now,
        ),
        _condition(
            "NamespaceDeletionContentFailure",
            f"Failed to delete all resource types, {len(remains.errors)} remaining: {failed}" if failed else "",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            "ContentDeletionFailed",
            now,
        ),
        _condition(
            "NamespaceContentRemaining",
            f"Some resources are remaining: {left}" if left else "",
            ("ContentRemoved", "All content successfully removed"),
            "SomeResourcesRemain",
            now,
        ),
        _condition(
            "NamespaceFinalizersRemaining",
            f"Some content in the namespace has finalizers remaining: {held}" if held else "",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            "SomeFinalizersRemain",
            now,
        ),
    ]
    before = {condition.type: condition for condition in old}
    types = {condition.type for condition in new}
    return [c for c in old if c.type not in types] + [_keep_time(before.get(c.type), c) for c in new]


def _keep_time(old: NamespaceCondition | None, new: NamespaceCondition) -> NamespaceCondition:
    if old is not None and old.status == new.status:
        new.lastTransitionTime = old.lastTransitionTime
    return new
