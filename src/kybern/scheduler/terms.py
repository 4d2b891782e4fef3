"""Selectors of pod specs, compiled: node selector terms, tolerations, and affinity terms between pods.

Made of a pod's spec once (kept in PodInfo.memo), then asked of columns by plugins, and of single objects where there is
but one. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kybern.api import core_v1
from kybern.machinery import labels
from kybern.scheduler.columns import Bools, LabelTable

if TYPE_CHECKING:
    from kybern.scheduler.pod_info import PodInfo

_OPERATORS = {
    "In": labels.Operator.IN,
    "NotIn": labels.Operator.NOT_IN,
    "Exists": labels.Operator.EXISTS,
    "DoesNotExist": labels.Operator.DOES_NOT_EXIST,
    "Gt": labels.Operator.GREATER,
    "Lt": labels.Operator.LESS,
}


# nodes
def _requirements(found: Iterable[core_v1.NodeSelectorRequirement]) -> list[labels.Requirement] | None:
    """None: one of them can never hold."""
    made = []
    for r in found:
        operator = _OPERATORS.get(r.operator)
        if operator is None or (operator in (labels.Operator.GREATER, labels.Operator.LESS) and len(r.values) != 1):
            return None
        made.append(labels.Requirement(r.key, operator, tuple(r.values)))
    return made


def match_term(term: core_v1.NodeSelectorTerm, table: LabelTable, names: list[str]) -> Bools:
    """Which nodes a term holds for. One without any requirement holds for none."""
    nothing = np.zeros(len(names), dtype=np.bool_)
    if not term.matchExpressions and not term.matchFields:
        return nothing
    requirements = _requirements(term.matchExpressions)
    if requirements is None:
        return nothing
    found = np.ones(len(names), dtype=np.bool_)
    for requirement in requirements:
        found &= table.holds(requirement)
    for field in term.matchFields:
        if field.key != "metadata.name" or field.operator not in ("In", "NotIn"):
            return nothing
        wanted = set(field.values)
        named = np.fromiter((name in wanted for name in names), dtype=np.bool_, count=len(names))
        found &= named if field.operator == "In" else ~named
    return found


def match_nodes(selector: core_v1.NodeSelector, table: LabelTable, names: list[str]) -> Bools:
    """Which nodes any of the terms holds for."""
    found = np.zeros(len(names), dtype=np.bool_)
    for term in selector.nodeSelectorTerms:
        found |= match_term(term, table, names)
    return found


def named_nodes(selector: core_v1.NodeSelector | None) -> set[str] | None:
    """The only nodes the terms can hold for, where they say so by name; None: any."""
    if selector is None or not selector.nodeSelectorTerms:
        return None
    union: set[str] = set()
    for term in selector.nodeSelectorTerms:
        names: set[str] | None = None
        for field in term.matchFields:
            if field.key == "metadata.name" and field.operator == "In":
                names = set(field.values) if names is None else names & set(field.values)
        if names is None:
            return None
        union |= names
    return union


def tolerates(tolerations: Iterable[core_v1.Toleration], key: str, value: str, effect: str) -> bool:
    """Whether any toleration is for this taint."""
    return any(_is_for(t, key, value, effect) for t in tolerations)


def _is_for(toleration: core_v1.Toleration, key: str, value: str, effect: str) -> bool:
    if toleration.effect and toleration.effect != effect:
        return False
    if toleration.key and toleration.key != key:
        return False
    match toleration.operator or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(toleration.key) and (toleration.value or "") == value
        case "Gt" | "Lt" as operator:
            return _compares(toleration.value or "", value, operator)
        case _:
            return False


def _compares(bound: str, value: str, operator: str) -> bool:
    """A taint's value above (or below) the toleration's, both integers. Source: KEP-5471."""
    try:
        wanted, found = int(bound), int(value)
    except ValueError:
        return False
    return found > wanted if operator == "Gt" else found < wanted


# pods
class PodTerm(NamedTuple):
    """An affinity term, by value: pods made of one template share theirs."""

    kind: str  # "affinity", "anti-affinity"; with "preferred " before it
    selector: labels.Selector
    topology_key: str
    namespaces: frozenset[str]
    namespace_selector: labels.Selector | None  # None: only `namespaces`
    weight: int

    def admits(self, namespace: str, namespace_labels: Mapping[str, str]) -> bool:
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)

    def matches(self, pod: PodInfo, namespace_labels: Mapping[str, str]) -> bool:
        return self.admits(pod.namespace, namespace_labels) and self.selector.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class PodTerms:
    """All affinity terms of a pod."""

    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    preferred: tuple[PodTerm, ...] = ()
    preferred_anti: tuple[PodTerm, ...] = ()

    def all(self) -> Iterator[PodTerm]:
        yield from self.affinity
        yield from self.anti_affinity
        yield from self.preferred
        yield from self.preferred_anti


_NO_TERMS = PodTerms()
AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
PREFERRED, PREFERRED_ANTI = "preferred affinity", "preferred anti-affinity"


def pod_terms(pod: PodInfo) -> PodTerms:
    affinity = pod.pod.spec.affinity
    if affinity is None or (affinity.podAffinity is None and affinity.podAntiAffinity is None):
        return _NO_TERMS
    found = pod.memo.get("terms")
    if found is None:
        found = pod.memo["terms"] = _compile(pod, affinity)
    assert isinstance(found, PodTerms)
    return found


def _compile(pod: PodInfo, affinity: core_v1.Affinity) -> PodTerms:
    near = affinity.podAffinity or core_v1.PodAffinity()
    far = affinity.podAntiAffinity or core_v1.PodAntiAffinity()
    required: Callable[[str, list[core_v1.PodAffinityTerm]], tuple[PodTerm, ...]]
    required = lambda kind, terms: tuple(_term(kind, t, pod, 0) for t in terms)  # noqa: E731
    preferred: Callable[[str, list[core_v1.WeightedPodAffinityTerm]], tuple[PodTerm, ...]]
    preferred = lambda kind, terms: tuple(_term(kind, t.podAffinityTerm, pod, t.weight) for t in terms)  # noqa: E731
    return PodTerms(
        required(AFFINITY, near.requiredDuringSchedulingIgnoredDuringExecution),
        required(ANTI_AFFINITY, far.requiredDuringSchedulingIgnoredDuringExecution),
        preferred(PREFERRED, near.preferredDuringSchedulingIgnoredDuringExecution),
        preferred(PREFERRED_ANTI, far.preferredDuringSchedulingIgnoredDuringExecution),
    )


def _term(kind: str, term: core_v1.PodAffinityTerm, pod: PodInfo, weight: int) -> PodTerm:
    selector = with_keys(compile_selector(term.labelSelector), pod.labels, term.matchLabelKeys, term.mismatchLabelKeys)
    spaces = None if term.namespaceSelector is None else compile_selector(term.namespaceSelector)
    # Neither names nor a selector: the pod's own namespace.
    names = frozenset(term.namespaces or (() if spaces is not None else (pod.namespace,)))
    return PodTerm(kind, selector, term.topologyKey, names, spaces, weight)


def compile_selector(selector: object) -> labels.Selector:
    """Matches nothing where it is absent or not valid."""
    try:
        return labels.from_label_selector(selector)  # type: ignore[arg-type]
    except ValueError:
        return labels.NOTHING


def with_keys(
    selector: labels.Selector, own: Mapping[str, str], match: Iterable[str], mismatch: Iterable[str] = ()
) -> labels.Selector:
    """A selector that also asks for the pod's own values of some labels (which the API server may have done)."""
    if selector.impossible:
        return selector
    more = [labels.Requirement(k, labels.Operator.IN, (own[k],)) for k in match if k in own]
    more += [labels.Requirement(k, labels.Operator.NOT_IN, (own[k],)) for k in mismatch if k in own]
    return labels.Selector((*selector.requirements, *more)) if more else selector


def requirement_in(key: str, values: Iterable[str]) -> labels.Requirement:
    return labels.Requirement(key, labels.Operator.IN, tuple(values))
