"""Label selectors, node selectors and the maps of labels inside specs."""

from __future__ import annotations

from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from kybern.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from kybern.machinery import names
from kybern.machinery.status import forbidden_field, invalid, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_NOT_AN_OPERATOR = "not a valid selector operator"
_NEEDS_VALUES = "must be specified when `operator` is 'In' or 'NotIn'"
_NO_VALUES = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"


def check_label_selector(selector: LabelSelector | None, path: str, errors: Errors) -> None:
    if selector is None:
        return
    rules.check_labels(selector.matchLabels, f"{path}.matchLabels", errors)
    for i, expression in enumerate(pausing(selector.matchExpressions)):
        _check_expression(expression, f"{path}.matchExpressions[{i}]", errors)


def rendered(selector: LabelSelector) -> dict[str, Any]:
    """As JSON, in the order in which upstream shows it."""
    shown: dict[str, Any] = {}
    if selector.matchLabels:
        shown["matchLabels"] = dict(sorted(selector.matchLabels.items()))
    if selector.matchExpressions:
        shown["matchExpressions"] = codec.to_json(selector.matchExpressions)
    return shown


def _check_expression(expression: LabelSelectorRequirement, path: str, errors: Errors) -> None:
    match expression.operator:
        case "In" | "NotIn":
            if not expression.values:
                errors.append(required(f"{path}.values", _NEEDS_VALUES))
        case "Exists" | "DoesNotExist":
            if expression.values:
                errors.append(forbidden_field(f"{path}.values", _NO_VALUES))
        case _:
            errors.append(invalid(f"{path}.operator", expression.operator, _NOT_AN_OPERATOR))
    rules.check_rule(expression.key, f"{path}.key", names.check_qualified, errors)
    for i, value in enumerate(pausing(expression.values)):
        rules.check_rule(value, f"{path}.values[{i}]", names.check_label_value, errors)


def check_node_selector(selector: NodeSelector, path: str, errors: Errors, *, values_are_labels: bool = False) -> None:
    """`values_are_labels`: values that no label can have are refused."""
    path = f"{path}.nodeSelectorTerms"
    if not selector.nodeSelectorTerms:
        errors.append(required(path, "must have at least one node selector term"))
    for i, term in enumerate(pausing(selector.nodeSelectorTerms)):
        check_node_term(term, f"{path}[{i}]", errors)
        if values_are_labels:
            for j, expression in enumerate(pausing(term.matchExpressions)):
                for k, value in enumerate(pausing(expression.values)):
                    where = f"{path}[{i}].matchExpressions[{j}].values[{k}]"
                    rules.check_rule(value, where, names.check_label_value, errors)


def check_node_term(term: NodeSelectorTerm, path: str, errors: Errors) -> None:
    for i, expression in enumerate(pausing(term.matchExpressions)):
        _check_node_requirement(expression, f"{path}.matchExpressions[{i}]", errors)
    for i, field in enumerate(pausing(term.matchFields)):
        _check_node_field(field, f"{path}.matchFields[{i}]", errors)


def _check_node_requirement(expression: NodeSelectorRequirement, path: str, errors: Errors) -> None:
    match expression.operator:
        case "In" | "NotIn":
            if not expression.values:
                errors.append(required(f"{path}.values", _NEEDS_VALUES))
        case "Exists" | "DoesNotExist":
            if expression.values:
                errors.append(forbidden_field(f"{path}.values", _NO_VALUES))
        case "Gt" | "Lt":
            if len(expression.values) != 1:
                message = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(required(f"{path}.values", message))
        case _:
            errors.append(invalid(f"{path}.operator", expression.operator, _NOT_AN_OPERATOR))
    rules.check_rule(expression.key, f"{path}.key", names.check_qualified, errors)


def _check_node_field(field: NodeSelectorRequirement, path: str, errors: Errors) -> None:
    if field.operator in ("In", "NotIn"):
        if len(field.values) != 1:
            message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{path}.values", message))
    else:
        errors.append(invalid(f"{path}.operator", field.operator, _NOT_AN_OPERATOR))
    if field.key != "metadata.name":
        errors.append(invalid(f"{path}.key", field.key, "not a valid field selector key"))
        return
    for i, value in enumerate(pausing(field.values)):
        rules.check_rule(value, f"{path}.values[{i}]", names.check_subdomain, errors)
