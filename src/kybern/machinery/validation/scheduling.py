"""Where a pod may run: affinity, tolerations, spread constraints, scheduling gates."""

from __future__ import annotations

from typing import Any

from kybern.api.core_v1 import Affinity, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint
from kybern.api.meta_v1 import LabelSelector
from kybern.machinery import names
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules, selectors
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_EMPTY_KEY = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'


def check_tolerations(tolerations: list[Toleration], path: str, errors: Errors) -> None:
    for i, toleration in enumerate(pausing(tolerations)):
        where = f"{path}[{i}]"
        operator, key, value = toleration.operator, toleration.key or "", toleration.value or ""
        if key:
            rules.check_rule(key, f"{where}.key", names.check_qualified, errors)
        elif operator != "Exists":
            errors.append(invalid(f"{where}.operator", operator or "", _EMPTY_KEY))
        if toleration.tolerationSeconds is not None and toleration.effect != "NoExecute":
            message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{where}.effect", toleration.effect or "", message))
        if operator == "Exists":
            if value:
                errors.append(invalid(f"{where}.operator", value, "value must be empty when `operator` is 'Exists'"))
        elif operator in (None, "", "Equal"):
            rules.check_rule(value, f"{where}.operator", names.check_label_value, errors)
        else:
            # Lt and Gt are behind a feature that is off by default; upstream lists them once they are asked for.
            choices = ("Equal", "Exists", "Lt", "Gt") if operator in ("Lt", "Gt") else ("Equal", "Exists")
            errors.append(not_supported(f"{where}.operator", operator, choices))
        if toleration.effect and toleration.effect not in _EFFECTS:
            errors.append(not_supported(f"{where}.effect", toleration.effect, _EFFECTS))


def check_affinity(affinity: Affinity, path: str, errors: Errors) -> None:
    node = affinity.nodeAffinity
    if node is not None:
        where = f"{path}.nodeAffinity"
        if node.requiredDuringSchedulingIgnoredDuringExecution is not None:
            selector = node.requiredDuringSchedulingIgnoredDuringExecution
            selectors.check_node_selector(selector, f"{where}.{_REQUIRED}", errors, values_are_labels=True)
        for i, preferred in enumerate(pausing(node.preferredDuringSchedulingIgnoredDuringExecution)):
            item = f"{where}.{_PREFERRED}[{i}]"
            _check_weight(preferred.weight, f"{item}.weight", errors)
            selectors.check_node_term(preferred.preference, f"{item}.preference", errors)
    for field in ("podAffinity", "podAntiAffinity"):
        pods = getattr(affinity, field)
        if pods is not None:
            _check_pod_affinity(pods, f"{path}.{field}", errors)


def _check_weight(weight: int, path: str, errors: Errors) -> None:
    if not 1 <= weight <= 100:
        errors.append(invalid(path, weight, "must be in the range 1-100"))


def _check_pod_affinity(affinity: Any, path: str, errors: Errors) -> None:
    for i, term in enumerate(pausing(affinity.requiredDuringSchedulingIgnoredDuringExecution)):
        _check_pod_term(term, f"{path}.{_REQUIRED}[{i}]", errors)
    for i, weighted in enumerate(pausing(affinity.preferredDuringSchedulingIgnoredDuringExecution)):
        item = f"{path}.{_PREFERRED}[{i}]"
        _check_weight(weighted.weight, f"{item}.weight", errors)
        _check_pod_term(weighted.podAffinityTerm, f"{item}.podAffinityTerm", errors)


def _check_pod_term(term: PodAffinityTerm, path: str, errors: Errors) -> None:
    selectors.check_label_selector(term.labelSelector, f"{path}.labelSelector", errors)
    selectors.check_label_selector(term.namespaceSelector, f"{path}.namespaceSelector", errors)
    for name in term.namespaces:
        rules.check_rule(name, f"{path}.namespace", names.check_label, errors)
    _check_label_keys(term, "matchLabelKeys", path, errors)
    _check_label_keys(term, "mismatchLabelKeys", path, errors)
    _check_merged(term.labelSelector, term.matchLabelKeys, path, errors)
    for i, key in enumerate(pausing(term.matchLabelKeys)):
        if key in term.mismatchLabelKeys:
            message = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{i}]", key, message))
    if not term.topologyKey:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    rules.check_rule(term.topologyKey, f"{path}.topologyKey", names.check_qualified, errors)


def _check_label_keys(term: PodAffinityTerm, field: str, path: str, errors: Errors) -> None:
    keys = getattr(term, field)
    if not keys:
        return
    where = f"{path}.{field}"
    if term.labelSelector is None:
        errors.append(forbidden_field(where, "must not be specified when labelSelector is not set"))
        return
    for i, key in enumerate(pausing(keys)):
        rules.check_rule(key, f"{where}[{i}]", names.check_qualified, errors)


def _check_merged(selector: LabelSelector | None, keys: list[str], path: str, errors: Errors) -> None:
    """The strategy of pods adds the values of `keys` to the selector: none may have been there before."""
    if selector is None:
        return
    found = [*selector.matchLabels, *(e.key for e in selector.matchExpressions)]
    for i, key in enumerate(pausing(keys)):
        if found.count(key) > 1:
            errors.append(invalid(f"{path}[{i}]", key, "exists in both matchLabelKeys and labelSelector"))


_WHEN = ("DoNotSchedule", "ScheduleAnyway")
_HONOR = ("Honor", "Ignore")


def check_spread(constraints: list[TopologySpreadConstraint], path: str, errors: Errors) -> None:
    for i, constraint in enumerate(pausing(constraints)):
        where = f"{path}[{i}]"
        when = constraint.whenUnsatisfiable
        if constraint.maxSkew <= 0:
            errors.append(invalid(f"{where}.maxSkew", constraint.maxSkew, "must be greater than zero"))
        if not constraint.topologyKey:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        if when not in _WHEN:
            errors.append(not_supported(f"{where}.whenUnsatisfiable", when, _WHEN))
        if any((constraint.topologyKey, when) == (c.topologyKey, c.whenUnsatisfiable) for c in constraints[i + 1 :]):
            shown = f"{{{constraint.topologyKey}, {when}}}"
            errors.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", shown))
        _check_spread_details(constraint, where, errors)


def _check_spread_details(constraint: TopologySpreadConstraint, path: str, errors: Errors) -> None:
    domains, when = constraint.minDomains, constraint.whenUnsatisfiable
    if domains is not None:
        if domains <= 0:
            errors.append(invalid(f"{path}.minDomains", domains, "must be greater than zero"))
        if when != "DoNotSchedule":
            message = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
            errors.append(invalid(f"{path}.minDomains", domains, message))
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = getattr(constraint, field)
        if policy is not None and policy not in _HONOR:
            errors.append(not_supported(f"{path}.{field}", policy, _HONOR))
    if constraint.matchLabelKeys:
        where = f"{path}.matchLabelKeys"
        if constraint.labelSelector is None:
            errors.append(forbidden_field(where, "must not be specified when labelSelector is not set"))
        else:
            for i, key in enumerate(pausing(constraint.matchLabelKeys)):
                rules.check_rule(key, f"{where}[{i}]", names.check_qualified, errors)
            _check_merged(constraint.labelSelector, constraint.matchLabelKeys, path, errors)
    selectors.check_label_selector(constraint.labelSelector, f"{path}.labelSelector", errors)


def check_gates(spec: PodSpec, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(pausing(spec.schedulingGates)):
        rules.check_rule(gate.name, f"{path}.schedulingGates[{i}]", names.check_qualified, errors)
        if gate.name in seen:
            errors.append(duplicate(f"{path}.schedulingGates[{i}]", gate.name))
        seen.add(gate.name)
