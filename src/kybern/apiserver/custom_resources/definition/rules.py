"""Are the validation rules of a schema right: they compile, say what they must, and cannot cost too much. Pure.

Programs are judged after schema.check has found nothing, texts by plain. Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kybern.apiserver.custom_resources import jsonpath
from kybern.apiserver.custom_resources import rules as running
from kybern.apiserver.custom_resources.structural import Schema
from kybern.machinery import cel
from kybern.machinery.cel import estimate, schema_types, sizes
from kybern.machinery.status import FieldError, forbidden_field, invalid, not_supported, required
from kybern.pausing import pausing

Errors = list[FieldError]
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_MOST_EXPENSIVE = 4
_CONTRIBUTED = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
_NO_TYPES = (
    "Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: "
    "unable to convert structural schema to CEL declarations"
)


def check(schema: Schema, path: str, errors: Errors) -> None:
    """All that is wrong with the rules of a version's schema."""
    costs: list[_Cost] = []
    _check(schema, path, _Above("", 1), errors, costs, is_root=True)
    total = sum(cost.amount for cost in costs)
    if total > estimate.DEFINITION_LIMIT:
        for cost in sorted(costs, key=lambda c: -c.amount)[:_MOST_EXPENSIVE]:
            errors.append(forbidden_field(cost.where, _CONTRIBUTED))
        told = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.append(forbidden_field(path, _too_dear(told, total, estimate.DEFINITION_LIMIT)))


@dataclass(frozen=True, slots=True)
class _Above:
    """What is above a place: the list whose items have no old values ("" if there is none), and how many such places
    an object may have (None: some list or map above may have any number)."""

    uncorrelatable: str
    places: int | None


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a program may cost in all places of an object."""

    where: str
    amount: int


def _too_dear(what: str, amount: int, limit: int) -> str:
    factor = amount / limit
    shown = "more than 100" if factor > 100 else f"{factor:f}" if factor < 1.5 else f"{factor:.1f}"
    return (
        f"{what} exceeds budget by factor of {shown}x (try simplifying the rule, or adding maxItems, maxProperties, "
        "and maxLength where arrays, maps, and strings are declared)"
    )


def _check(
    schema: Schema, path: str, above: _Above, errors: Errors, costs: list[_Cost], *, is_root: bool = False
) -> None:
    rules = schema.get(running.RULES) or ()
    if rules:
        declared = schema_types.declare(schema, is_root=is_root)
        for i, rule in enumerate(pausing(rules)):
            where = f"{path}.{running.RULES}[{i}]"
            if declared is not None:
                _check_programs(rule, where, declared, above, errors, costs)
        if declared is None:
            errors.append(FieldError("InternalError", f"{path}.{running.RULES}", _NO_TYPES))
    for name, inner in pausing((schema.get("properties") or {}).items()):
        _check(inner, f"{path}.properties[{name}]", above, errors, costs)
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        inside = _Above(above.uncorrelatable, _times(above.places, schema.get("maxProperties")))
        _check(others, f"{path}.additionalProperties", inside, errors, costs)
    items = schema.get("items")
    if isinstance(items, Mapping):
        is_map = schema.get("x-kubernetes-list-type") == "map"
        broken = above.uncorrelatable if is_map else above.uncorrelatable or path
        inside = _Above(broken, _times(above.places, schema.get("maxItems")))
        _check(items, f"{path}.items", inside, errors, costs)


def _times(places: int | None, most: int | None) -> int | None:
    return min(places * most, estimate.UNBOUNDED) if places is not None and most is not None else None


def check_texts(schema: Schema, path: str, errors: Errors) -> None:
    """What the rules of one place say beside their programs."""
    for i, rule in enumerate(pausing(schema.get(running.RULES) or ())):
        _check_texts(rule, f"{path}.{running.RULES}[{i}]", schema, errors)


def _check_texts(rule: Mapping[str, Any], where: str, schema: Schema, errors: Errors) -> None:
    if not (rule.get("rule") or "").strip():
        errors.append(required(f"{where}.rule", "rule is not specified"))
    message = rule.get("message")
    if message is not None and message and not message.strip():
        errors.append(invalid(f"{where}.message", message, "must be non-empty if specified"))
    elif message and "\n" in message.strip():
        errors.append(invalid(f"{where}.message", message, "must not contain line breaks"))
    elif not message and "\n" in (rule.get("rule") or "").strip() and not rule.get("messageExpression"):
        errors.append(required(f"{where}.message", "message must be specified if rule contains line breaks"))
    expression = rule.get("messageExpression")
    if expression and not expression.strip():
        errors.append(required(f"{where}.messageExpression", "must be non-empty if specified"))
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        errors.append(not_supported(f"{where}.reason", reason, _REASONS))
    field_path = rule.get("fieldPath")
    if field_path and not _is_field(schema, field_path):
        errors.append(invalid(f"{where}.fieldPath", field_path, "must be a valid path"))


def _is_field(schema: Schema, path: str) -> bool:
    """Whether a path names a field that the schema knows; lists cannot be gone into."""
    if not path.startswith((".", "[")):
        return False
    try:
        names = jsonpath.field_names(path)
    except jsonpath.PathError:
        return False
    node: Any = schema
    for name in names:
        inner = (node.get("properties") or {}).get(name)
        if inner is None:
            inner = node.get("additionalProperties")
        if not isinstance(inner, Mapping):
            return False
        node = inner
    return bool(names)


_NO_BOOL = "cel expression must evaluate to a bool"


def _check_programs(
    rule: Mapping[str, Any],
    where: str,
    declared: schema_types.Declared,
    above: _Above,
    errors: Errors,
    costs: list[_Cost],
) -> None:
    environment = running.environment_of(declared, optional_old=rule.get("optionalOldSelf") is True)
    try:
        program = cel.compile(rule["rule"].strip(), environment)
    except cel.CelError as error:
        told = error.reported if error.type in (None, cel.BOOL) else _NO_BOOL
        errors.append(_invalid_rule(f"{where}.rule", rule, told))
        uses_old = False
    else:
        if program.type == cel.BOOL:
            _add_cost("estimated rule cost", f"{where}.rule", program, declared, above, errors, costs)
        else:
            errors.append(_invalid_rule(f"{where}.rule", rule, _NO_BOOL))
        uses_old = running.names_old(program)
        if uses_old and above.uncorrelatable:
            told = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {above.uncorrelatable}"
            errors.append(invalid(f"{where}.rule", rule["rule"], told))
    if rule.get("optionalOldSelf") is not None and not uses_old:
        told = "may not be set if oldSelf is not used in rule"
        errors.append(invalid(f"{where}.optionalOldSelf", rule["optionalOldSelf"], told))
    expression = rule.get("messageExpression")
    if expression and expression.strip():
        try:
            made = cel.compile(expression, environment)
        except cel.CelError as error:
            told = f"messageExpression {error.reported.removeprefix('program ')}"
            errors.append(_invalid_rule(f"{where}.messageExpression", rule, told))
        else:
            if made.type != cel.STRING:
                told = "messageExpression must evaluate to a string"
                errors.append(_invalid_rule(f"{where}.messageExpression", rule, told))
                return
            told = "estimated messageExpression cost"
            _add_cost(told, f"{where}.messageExpression", made, declared, above, errors, costs)


def _add_cost(
    what: str,
    where: str,
    program: cel.Program,
    declared: schema_types.Declared,
    above: _Above,
    errors: Errors,
    costs: list[_Cost],
) -> None:
    # Without a bound there are as many as a request can hold, of the shortest.
    places = above.places if above.places is not None else sizes.most_in_request(declared.schema)
    amount = min(estimate.cost_of(program.node, declared.schema) * places, estimate.UNBOUNDED)
    if amount:
        costs.append(_Cost(where, amount))
    if amount > estimate.RULE_LIMIT:
        errors.append(forbidden_field(where, _too_dear(what, amount, estimate.RULE_LIMIT)))


def _invalid_rule(where: str, rule: Mapping[str, Any], told: str) -> FieldError:
    """With the rule as upstream shows it: under Go's names."""
    shown = json.dumps(
        {
            "Rule": rule.get("rule") or "",
            "Message": rule.get("message") or "",
            "MessageExpression": rule.get("messageExpression") or "",
            "Reason": rule.get("reason"),
            "FieldPath": rule.get("fieldPath") or "",
            "OptionalOldSelf": rule.get("optionalOldSelf"),
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )
    for char in "<>&":
        shown = shown.replace(char, f"\\u{ord(char):04x}")
    return FieldError("FieldValueInvalid", where, f"Invalid value: {shown}: {told}")
