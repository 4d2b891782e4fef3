"""Validation rules of a version (x-kubernetes-validations): compiled once, run on every write of an object.

Made by version, called by strategy after validate. A rule that names `oldSelf` runs only where there is an old value to
be found (by field, by key of a map or of a list that is a map), unless it takes it as an optional. What has not changed
is judged by such rules alone. Costs are bounded: each evaluation, and all of one object.
Source: "Validation rules" of CustomResourceDefinition in the Kubernetes documentation; messages: a v1.36 API server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import msgspec

from kybern.api import codec
from kybern.apiserver.custom_resources import jsonpath
from kybern.apiserver.custom_resources.validate import NOTHING
from kybern.machinery import cel
from kybern.machinery.cel import ast, schema_types, schema_values, types, values
from kybern.machinery.status import FieldError
from kybern.pausing import pausing

RULES = "x-kubernetes-validations"
_UNCHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
_BLOCKING = frozenset(
    {
        "FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)  # fmt: skip
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_encode = msgspec.json.Encoder(order="deterministic").encode


class Stop(Exception):
    """No rule may cost anything more."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled."""

    text: str
    program: cel.Program
    message: str
    message_program: cel.Program | None
    reason: str
    field_path: str
    uses_old: bool
    takes_optional: bool


@dataclass(slots=True)
class Place:
    """One place of a schema with rules at it or below."""

    rules: tuple[Rule, ...]
    schema: schema_types.Schema | None
    kind: str  # of the schema: what errors of evaluation show
    properties: dict[str, Place]
    items: Place | None
    additional: Place | None
    map_keys: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.rules or self.properties or self.items or self.additional)


def compile_rules(schema: Mapping[str, Any]) -> Place | None:
    """The rules of a version's schema; None if it has none. Rules that do not compile are left to `definition`."""
    place = _compile(schema, is_root=True)
    return None if place.is_empty else place


def _compile(schema: Mapping[str, Any], *, is_root: bool = False) -> Place:
    properties = {}
    for name, inner in pausing((schema.get("properties") or {}).items()):
        place = _compile(inner)
        if not place.is_empty:
            properties[name] = place
    items = _below(schema.get("items"))
    additional = _below(schema.get("additionalProperties"))
    is_map = schema.get("x-kubernetes-list-type") == "map"
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if is_map else ()
    rules: list[Rule] = []
    declared = None
    if schema.get(RULES):
        declared = schema_types.declare(schema, is_root=is_root)
        if declared is not None:
            for rule in schema[RULES]:
                try:
                    rules.append(compile_rule(rule, declared))
                except ValueError:  # a definition that came into the store in another way than through us
                    continue
    kind = "" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    return Place(tuple(rules), declared.schema if declared else None, kind, properties, items, additional, keys)


def _below(schema: Any) -> Place | None:
    if not isinstance(schema, Mapping):
        return None
    place = _compile(schema)
    return None if place.is_empty else place


def environment_of(declared: schema_types.Declared, *, optional_old: bool) -> cel.Environment:
    """What a rule at a place may name."""
    old = types.optional(declared.type) if optional_old else declared.type
    return cel.Environment({"self": declared.type, "oldSelf": old}, declared.objects)


def compile_rule(rule: Mapping[str, Any], declared: schema_types.Declared) -> Rule:
    """Raises CelError for its rule; a bad messageExpression is as none."""
    optional = rule.get("optionalOldSelf") is True
    environment = environment_of(declared, optional_old=optional)
    text = rule.get("rule", "").strip()
    program = cel.compile(text, environment)
    message_program = None
    if rule.get("messageExpression"):
        try:
            message_program = cel.compile(rule["messageExpression"], environment)
        except cel.CelError:
            message_program = None
    return Rule(
        text,
        program,
        (rule.get("message") or "").strip(),
        message_program,
        rule.get("reason") or "FieldValueInvalid",
        rule.get("fieldPath") or "",
        names_old(program),
        optional,
    )


def names_old(program: cel.Program) -> bool:
    """Whether a program is about a transition."""
    return any(isinstance(node, ast.Ident) and node.name == "oldSelf" for node in _nodes(program.node))


def _nodes(value: Any) -> Iterator[Any]:
    """All nodes of a tree."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting.extend(node)
        elif is_dataclass(node) and not isinstance(node, type) and not isinstance(node, types.Type):
            yield node
            waiting.extend(getattr(node, f.name) for f in fields(node))


# -- at run time ---------------------------------------------------------------------------------------------------


def check(document: Any, place: Place, errors: list[FieldError], old: Any = NOTHING) -> None:
    """Run all rules on a whole object, as the successor of `old`, unless it is so wrong that they make no sense."""
    if any(error.reason in _BLOCKING for error in errors):
        errors.append(FieldError("FieldValueInvalid", "<nil>", f"Invalid value: null: {_UNCHECKED}"))
        return
    run = _Run(errors)
    try:
        run.walk(document, place, "", old)
    except Stop:
        return
    except RecursionError:
        errors.append(FieldError("FieldValueInvalid", "<nil>", "Invalid value: null: the object is nested too deeply"))


class _Run:
    """The rules of one write."""

    def __init__(self, errors: list[FieldError]) -> None:
        self._errors = errors
        self._budget = cel.Budget()

    def walk(self, value: Any, place: Place, path: str, old: Any) -> None:
        if value is None:
            return  # nullable: rules are about values
        unchanged = old is not NOTHING and old == value
        for rule in pausing(place.rules):
            if rule.uses_old and not rule.takes_optional and (old is NOTHING or old is None):
                continue
            if unchanged and not rule.uses_old:
                continue
            self._judge(rule, value, place, path, old)
        if type(value) is dict:
            before: Any = old if type(old) is dict else {}
            for name, inner in pausing(value.items()):
                below = place.properties.get(name)
                if below is not None:
                    self.walk(inner, below, f"{path}.{name}" if path else name, before.get(name, NOTHING))
                elif place.additional is not None:
                    self.walk(inner, place.additional, f"{path}[{name}]", before.get(name, NOTHING))
        elif type(value) is list and place.items is not None:
            known = _by_key(old, place.map_keys)
            for i, inner in enumerate(pausing(value)):
                previous = known.get(_key(inner, place.map_keys), NOTHING) if known else NOTHING
                self.walk(inner, place.items, f"{path}[{i}]", previous)

    def _judge(self, rule: Rule, value: Any, place: Place, path: str, old: Any) -> None:
        if self._budget.remaining <= 0:
            self._add(path, place, _OUT_OF_BUDGET)
            raise Stop
        bindings = _Bindings(value, old, place.schema, optional=rule.takes_optional)
        try:
            result = rule.program.evaluate(bindings, self._budget)
        except cel.CostExceeded as error:
            if self._budget.remaining <= 0:
                self._add(path, place, _OUT_OF_BUDGET)
            else:
                told = "no further validation rules will be run due to call cost exceeds limit for rule"
                self._add(path, place, f"'{error}': {told}: {rule.text}")
            raise Stop from None
        except cel.EvaluationError as error:
            if str(error).startswith("no such overload"):
                told = "call arguments did not match a supported operator, function or macro signature for rule"
                self._add(path, place, f"'{error}': {told}: {rule.text}")
            else:
                self._add(path, place, f"{error} evaluating rule: {rule.text}")
            return
        if result is not True:
            self._errors.append(_failure(rule, self._message(rule, bindings), _joined(path, rule.field_path), value))

    def _message(self, rule: Rule, bindings: Mapping[str, Any]) -> str:
        told = rule.message or f"failed rule: {rule.text}"
        if rule.message_program is None:
            return told
        try:
            made = rule.message_program.evaluate(bindings, self._budget)
        except (cel.EvaluationError, cel.CostExceeded):
            return told
        if not isinstance(made, str) or not made.strip() or "\n" in made or len(made) > 5120:
            return told
        return made.strip()

    def _add(self, path: str, place: Place, text: str) -> None:
        self._errors.append(FieldError("FieldValueInvalid", path or "<nil>", f'Invalid value: "{place.kind}": {text}'))


class _Bindings(Mapping[str, Any]):
    """self and oldSelf, as they are read."""

    def __init__(self, value: Any, old: Any, schema: schema_types.Schema | None, *, optional: bool) -> None:
        self._value, self._old, self._schema, self._optional = value, old, schema, optional

    def __getitem__(self, name: str) -> Any:
        if name == "self":
            return schema_values.adapt(self._value, self._schema)
        if name != "oldSelf":
            raise KeyError(name)
        is_there = self._old is not NOTHING and self._old is not None
        if not self._optional:
            if not is_there:
                raise KeyError(name)
            return schema_values.adapt(self._old, self._schema)
        if not is_there:
            return values.ABSENT
        return values.Optional(schema_values.adapt(self._old, self._schema), present=True)

    def __iter__(self) -> Iterator[str]:
        return iter(("self", "oldSelf"))

    def __len__(self) -> int:
        return 2


def _failure(rule: Rule, message: str, path: str, value: Any) -> FieldError:
    """A failed rule in the words of its reason; what is not a scalar is not shown."""
    shown = "" if isinstance(value, (dict, list)) else f"{codec.encode(value).decode()}"
    where = path or "<nil>"
    match rule.reason:
        case "FieldValueRequired":
            return FieldError(rule.reason, where, f"Required value: {message}")
        case "FieldValueForbidden":
            return FieldError(rule.reason, where, f"Forbidden: {message}")
        case "FieldValueDuplicate":
            return FieldError(rule.reason, where, f"Duplicate value: {shown}" if shown else "Duplicate value")
        case _:
            return FieldError(
                rule.reason, where, f"Invalid value: {shown}: {message}" if shown else f"Invalid value: {message}"
            )


def _joined(path: str, field_path: str) -> str:
    """The place of an error: `.x` or `['x']` below the rule's own."""
    for name in jsonpath.field_names(field_path) if field_path else ():
        plain = name.replace("_", "").replace("-", "").isalnum()
        path += f".{name}" if plain else f"[{name}]"
    return path.removeprefix(".")


def _by_key(old: Any, keys: tuple[str, ...]) -> dict[bytes, Any]:
    if not keys or type(old) is not list:
        return {}
    return {_key(item, keys): item for item in pausing(old)}


def _key(item: Any, keys: tuple[str, ...]) -> bytes:
    return _encode([item.get(name) for name in keys] if type(item) is dict else item)


__all__ = ["RULES", "Place", "Rule", "check", "compile_rule", "compile_rules", "environment_of", "names_old"]
