"""Policies and their bindings, compiled: what both plugins go through on a write.

Follows the watch cache: what was written is in force for the next write; while nothing changes and nothing is
configured it costs two look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.match_conditions import MatchConditions
from kybern.apiserver.admission.matching import Matcher
from kybern.apiserver.request import Reader
from kybern.machinery.policies import programs
from kybern.machinery.policies.programs import Programs

_GROUP = "admissionregistration.k8s.io"
VALIDATING = (f"validatingadmissionpolicies.{_GROUP}", f"validatingadmissionpolicybindings.{_GROUP}")
MUTATING = (f"mutatingadmissionpolicies.{_GROUP}", f"mutatingadmissionpolicybindings.{_GROUP}")
# Nothing may keep policies themselves from being repaired.
EXEMPT = frozenset({*VALIDATING, *MUTATING})


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """Where a policy is in force, and with which parameters."""

    name: str
    matcher: Matcher | None  # None: wherever the policy's own constraints are met
    is_open: bool  # it has selectors, but no rules of its own
    params: Any  # ParamRef or None
    actions: tuple[str, ...]

    def matches(self, a: Attributes, siblings: tuple[Resource, ...], reader: Reader) -> bool:
        if self.matcher is None:
            return True
        if not self.matcher.selects(a, reader):
            return False
        return self.is_open or self.matcher.find(a, siblings) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """One policy with its bindings."""

    name: str
    spec: Any  # of either kind, in any version
    matcher: Matcher
    conditions: MatchConditions
    programs: Programs
    fails_open: bool
    bindings: tuple[Binding, ...]
    fault: str  # why it cannot be evaluated at all; only for what another version of the API stored

    def matched(self, a: Attributes, siblings: tuple[Resource, ...], reader: Reader) -> Resource | None:
        """The version in which the policy wants to see the write; None where it does not."""
        wanted = self.matcher.find(a, siblings)
        return wanted if wanted is not None and self.matcher.selects(a, reader) else None


class Definitions:
    """All policies of one kind that have a binding."""

    def __init__(self, reader: Reader, resources: tuple[str, str]) -> None:
        self._reader = reader
        self._policies, self._bindings = resources
        self._versions = (-1, -1)
        self._found: tuple[Definition, ...] = ()
        self._compiled: dict[tuple[str, int], tuple[Any, Programs]] = {}

    @property
    def found(self) -> tuple[Definition, ...]:
        """By name. The same tuple as long as nothing changes."""
        reader = self._reader
        versions = (reader.version(self._policies), reader.version(self._bindings))
        if versions != self._versions:
            self._found = self._read()
            self._versions = versions
        return self._found

    def _read(self) -> tuple[Definition, ...]:
        bindings: dict[str, list[Binding]] = {}
        for binding in sorted(self._reader.list(self._bindings), key=lambda b: b.metadata.name):
            bindings.setdefault(binding.spec.policyName or "", []).append(_binding(binding))
        compiled: dict[tuple[str, int], tuple[Any, Programs]] = {}
        found = []
        for policy in sorted(self._reader.list(self._policies), key=lambda p: p.metadata.name):
            bound = bindings.get(policy.metadata.name)
            if not bound:
                continue
            key = (policy.metadata.name, policy.metadata.generation or 0)
            known = self._compiled.get(key)
            made = known[1] if known is not None and known[0] == policy.spec else programs.of_policy(policy.spec)
            compiled[key] = (policy.spec, made)
            found.append(_definition(policy, made, tuple(bound)))
        self._compiled = compiled
        return tuple(found)


def _binding(binding: Any) -> Binding:
    match = binding.spec.matchResources
    return Binding(
        name=binding.metadata.name,
        matcher=matcher_of(match) if match is not None else None,
        is_open=match is not None and not match.resourceRules and not match.excludeResourceRules,
        params=binding.spec.paramRef,
        actions=tuple(getattr(binding.spec, "validationActions", ())),
    )


def _definition(policy: Any, made: Programs, bindings: tuple[Binding, ...]) -> Definition:
    return Definition(
        name=policy.metadata.name,
        spec=policy.spec,
        matcher=matcher_of(policy.spec.matchConstraints),
        conditions=MatchConditions.of(made),
        programs=made,
        fails_open=policy.spec.failurePolicy == "Ignore",
        bindings=bindings,
        fault=made.faults[0].message if made.faults else "",
    )


def matcher_of(match: Any) -> Matcher:
    """Of matchConstraints or matchResources."""
    if match is None:
        return Matcher((), None, None, None)
    return Matcher(
        match.resourceRules,
        match.matchPolicy,
        match.namespaceSelector,
        match.objectSelector,
        match.excludeResourceRules,
    )
