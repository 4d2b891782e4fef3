"""Whether a write is what a webhook or policy asks for, by rules and selectors, and in which version. Pure.

Used by webhooks and by policies, which share these fields. Source: "Dynamic Admission Control" (matching requests) in
the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from kybern.api.meta_v1 import LabelSelector
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.request import Reader
from kybern.machinery import labels

# Nothing may keep its own configuration from being repaired.
EXEMPT = frozenset(
    f"{plural}.admissionregistration.k8s.io"
    for plural in (
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    )
)


class Rule(Protocol):
    """RuleWithOperations; NamedRuleWithOperations has `resourceNames` as well."""

    apiGroups: list[str]
    apiVersions: list[str]
    operations: list[str]
    resources: list[str]
    scope: str | None


class Matcher:
    """The rules and selectors of one webhook, or of the matchConstraints (or matchResources) of one policy."""

    def __init__(
        self,
        rules: Sequence[Any],
        match_policy: str | None,
        namespace_selector: LabelSelector | None,
        object_selector: LabelSelector | None,
        exclude_rules: Sequence[Any] = (),
    ) -> None:
        self._rules = tuple(rules)
        self._excluded = tuple(exclude_rules)
        self._is_exact = match_policy == "Exact"
        self._namespaces = labels.from_label_selector(namespace_selector or LabelSelector())
        self._objects = labels.from_label_selector(object_selector or LabelSelector())

    def find(self, a: Attributes, siblings: Iterable[Resource]) -> Resource | None:
        """In which version the write is wanted: the client's where a rule names it, else one of `siblings`.

        `siblings` are the other versions of the resource, looked at under matchPolicy Equivalent only.
        """
        asked = a.as_requested
        if self._is_wanted(self._excluded, a, asked, siblings) is not None:
            return None
        return self._is_wanted(self._rules, a, asked, siblings)

    def _is_wanted(
        self, rules: Sequence[Any], a: Attributes, asked: Resource, siblings: Iterable[Resource]
    ) -> Resource | None:
        if not rules:
            return None
        if any(rule_accepts(rule, a, asked) for rule in rules):
            return asked
        if self._is_exact:
            return None
        return next((s for s in siblings if any(rule_accepts(rule, a, s) for rule in rules)), None)

    def selects(self, a: Attributes, namespaces: Reader) -> bool:
        """Whether namespaceSelector and objectSelector let the write through."""
        if not self._objects.is_empty and not any(
            self._objects.matches(found) for found in (_labels_of(a.object), _labels_of(a.old)) if found is not None
        ):
            return False
        if self._namespaces.is_empty:
            return True
        found = _namespace_labels(a, namespaces)
        return found is None or self._namespaces.matches(found)


def rule_accepts(rule: Any, a: Attributes, resource: Resource) -> bool:
    """Whether a rule names this write, seen as `resource`."""
    return (
        ("*" in rule.operations or a.operation in rule.operations)
        and ("*" in rule.apiGroups or resource.group in rule.apiGroups)
        and ("*" in rule.apiVersions or resource.version in rule.apiVersions)
        and _names_resource(rule.resources, resource.plural, a.subresource)
        and _is_in_scope(rule.scope, a)
        and _names_object(getattr(rule, "resourceNames", None), a.name)
    )


def _names_resource(wanted: Iterable[str], plural: str, subresource: str) -> bool:
    """`pods`, `pods/exec`, `pods/*`, `*/scale`, `*`, `*/*`."""
    for text in wanted:
        resource, _, sub = text.partition("/")
        if resource in ("*", plural) and sub in ("*", subresource):
            return True
    return False


def _is_in_scope(scope: str | None, a: Attributes) -> bool:
    if scope in (None, "", "*"):
        return True
    is_namespaced = bool(a.namespace) and a.group_resource != "namespaces"
    return is_namespaced == (scope == "Namespaced")


def _names_object(names: Sequence[str] | None, name: str) -> bool:
    return not names or name in names


def _labels_of(obj: Any) -> dict[str, str] | None:
    """None for what can have no labels."""
    metadata = getattr(obj, "metadata", None)
    found: dict[str, str] | None = getattr(metadata, "labels", None)
    return found


def _namespace_labels(a: Attributes, namespaces: Reader) -> dict[str, str] | None:
    """Labels of the namespace that counts; None for what is in none, which is always let through."""
    if a.group_resource == "namespaces":
        return _labels_of(a.object if a.object is not None and not a.subresource else a.old) or {}
    if not a.namespace:
        return None
    namespace = namespaces.get("namespaces", "", a.namespace)
    return _labels_of(namespace) or {}
