"""Values of custom objects against their OpenAPI schema, in upstream's words.

A schema is compiled once, with its version. Called by strategy after admission, on objects that were pruned and
defaulted. With the object that is to be replaced, what has not changed is not judged again ("validation ratcheting"),
so that a stricter schema does not lock objects. Source: JSON schema as OpenAPI 3.0 has it, and the answers of a v1.36
API server (tests: recorded.jsonl).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import re2

from kybern.api import codec
from kybern.apiserver.custom_resources import formats, numbers, prune
from kybern.apiserver.custom_resources.prune import Path
from kybern.machinery.status import FieldError, not_supported, required, too_long, too_many
from kybern.pausing import pausing

Errors = list[FieldError]
_NOWHERE = "<nil>"  # how upstream names the field of an error that is about a choice of schemas


class _Nothing:
    """No old value, or none that can be found."""


NOTHING: Final = _Nothing()
_NAMES: dict[type, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null",
}  # fmt: skip
_encode = msgspec.json.Encoder(order="deterministic").encode
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def compile_pattern(pattern: str) -> Any:
    """A user's pattern, which costs time linear in what it is matched with. Raises ValueError."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        raise ValueError(text.decode() if isinstance(text, bytes) else str(text)) from None


def type_name(value: Any) -> str:
    return _NAMES.get(type(value), "object")


class Validator:
    """One schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        get = schema.get
        kind = get("type", "")
        self._types: tuple[str, ...] = (kind,) if kind else ()
        if get("x-kubernetes-int-or-string") is True:
            self._types = ("integer", "string")
        self._nullable = get("nullable") is True
        self._format: str = get("format") or ""
        self._enum = get("enum") or []
        self._enum_known = {_encode(prune.plain(value)) for value in pausing(self._enum)}
        self._pattern_text: str = get("pattern") or ""
        self._pattern = compile_pattern(self._pattern_text) if self._pattern_text else None
        self._min_length: int | None = get("minLength")
        self._max_length: int | None = get("maxLength")
        self._range = numbers.Range(
            get("multipleOf"),
            get("maximum"),
            get("exclusiveMaximum") is True,
            get("minimum"),
            get("exclusiveMinimum") is True,
        )
        self._min_items: int | None = get("minItems")
        self._max_items: int | None = get("maxItems")
        self._min_properties: int | None = get("minProperties")
        self._max_properties: int | None = get("maxProperties")
        self._required: tuple[str, ...] = tuple(get("required") or ())
        if get("x-kubernetes-embedded-resource") is True:
            self._required += tuple(name for name in ("apiVersion", "kind") if name not in self._required)
        items = get("items")
        self._items = Validator(items) if isinstance(items, Mapping) else None
        self._map_keys: tuple[str, ...] = tuple(
            get("x-kubernetes-list-map-keys") or () if get("x-kubernetes-list-type") == "map" else ()
        )
        self._properties = {name: Validator(inner) for name, inner in pausing((get("properties") or {}).items())}
        others = get("additionalProperties")
        self._additional = Validator(others) if isinstance(others, Mapping) else None
        self._closed = others is False
        self._all_of = [Validator(inner) for inner in get("allOf") or ()]
        self._any_of = [Validator(inner) for inner in get("anyOf") or ()]
        self._one_of = [Validator(inner) for inner in get("oneOf") or ()]
        no = get("not")
        self._not = Validator(no) if isinstance(no, Mapping) else None
        self._chooses = bool(self._all_of or self._any_of or self._one_of or self._not)

    def check(self, value: Any, path: Path, errors: Errors, old: Any = NOTHING) -> None:
        """Add what is wrong with `value`, as the successor of `old`."""
        if old is not NOTHING and value == old and type(value) is type(old):
            return
        kind = type(value)
        if self._types:
            self._check_type(value, kind, path, errors)
        if kind is not type(None):
            if self._chooses:
                self._check_choices(value, path, errors)
            if kind is str:
                self._check_text(value, path, errors)
            elif kind is int or kind is float:
                whole = self._types == ("integer",)
                self._range.check(value, prune.render_path(path), whole, self._format, errors)
            elif kind is list:
                self._check_list(value, path, errors, old)
        if self._enum and _encode(value) not in self._enum_known:
            choices = [formats.shown(choice) for choice in self._enum]
            errors.append(not_supported(prune.render_path(path), value, choices))
        if kind is dict:
            self._check_object(value, path, errors, old)

    def _check_type(self, value: Any, kind: type, path: Path, errors: Errors) -> None:
        name = _NAMES.get(kind, "object")
        if value is None:
            if self._nullable:
                return
        elif name in self._types or (name == "integer" and "number" in self._types):
            if kind is not str or not self._format or formats.is_valid(self._format, value):
                return
            where = prune.render_path(path)
            errors.append(_type_error(where, value, f'{where} in body must be of type {self._format}: "{value}"'))
            return
        where = prune.render_path(path)
        if kind is float and self._format and self._types == ("integer",):
            errors.append(_type_error(where, "float64", f'{where} in body must be of type {self._format}: "float64"'))
            return
        types = ",".join(self._types)
        errors.append(_type_error(where, name, f'{where} in body must be of type {types}: "{name}"'))

    def _check_text(self, value: str, path: Path, errors: Errors) -> None:
        if self._max_length is not None and len(value) > self._max_length:
            errors.append(too_long(prune.render_path(path), self._max_length))
            return
        if self._min_length is not None and len(value) < self._min_length:
            errors.append(_value_error(path, value, f"should be at least {self._min_length} chars long"))
            return
        if self._pattern is not None and self._pattern.search(value) is None:
            errors.append(_value_error(path, value, f"should match '{self._pattern_text}'"))

    def _check_list(self, value: list[Any], path: Path, errors: Errors, old: Any) -> None:
        if self._items is not None:
            before = self._correlated(old)
            for i, inner in enumerate(pausing(value)):
                previous = before.get(self._key(inner), NOTHING) if before else NOTHING
                self._items.check(inner, (path, i), errors, previous)
        if self._min_items is not None and len(value) < self._min_items:
            errors.append(_value_error(path, len(value), f"should have at least {self._min_items} items"))
        if self._max_items is not None and len(value) > self._max_items:
            errors.append(too_many(prune.render_path(path), len(value), self._max_items))

    def _correlated(self, old: Any) -> dict[bytes, Any]:
        """The old items by what makes them the same: the keys of a list that is a map, the index of none other."""
        if not self._map_keys or type(old) is not list:
            return {}
        return {self._key(inner): inner for inner in pausing(old)}

    def _key(self, item: Any) -> bytes:
        return _encode([item.get(name) for name in self._map_keys] if type(item) is dict else item)

    def _check_object(self, value: dict[str, Any], path: Path, errors: Errors, old: Any) -> None:
        count = len(value)
        if self._min_properties is not None and count < self._min_properties:
            errors.append(_value_error(path, count, f"should have at least {self._min_properties} properties"))
        if self._max_properties is not None and count > self._max_properties:
            errors.append(too_many(prune.render_path(path), count, self._max_properties))
        for name in self._required:
            if name not in value:
                errors.append(required(prune.render_path((path, name))))
        properties = self._properties
        before: Any = old if type(old) is dict else {}
        for name, inner in pausing(value.items()):
            validator = properties.get(name) or self._additional
            if validator is not None:
                validator.check(inner, (path, name), errors, before.get(name, NOTHING))
            elif self._closed:
                errors.append(_value_error((path, name), "", "is a forbidden property"))

    def _check_choices(self, value: Any, path: Path, errors: Errors) -> None:
        if self._any_of:
            found, passed = _try(self._any_of, value, path)
            if not passed:
                errors.append(_choice_error(path, "must validate at least one schema (anyOf)"))
                errors.extend(found[0])
        if self._one_of:
            found, passed = _try(self._one_of, value, path)
            if passed != 1:
                told = f"Found {passed} valid alternatives" if passed else "Found none valid"
                errors.append(_choice_error(path, f"must validate one and only one schema (oneOf). {told}"))
                if not passed:
                    errors.extend(found[0])
        if self._all_of:
            found, passed = _try(self._all_of, value, path)
            for faults in found:
                errors.extend(faults)
            if found:
                told = "" if passed else ". None validated"
                errors.append(_choice_error(path, f"must validate all the schemas (allOf){told}"))
        if self._not is not None:
            _, passed = _try([self._not], value, path)
            if passed:
                errors.append(_choice_error(path, "must not validate the schema (not)"))


def _try(choices: list[Validator], value: Any, path: Path) -> tuple[list[Errors], int]:
    """(what is wrong by each schema that does not fit, how many fit)."""
    failed: list[Errors] = []
    for choice in choices:
        faults: Errors = []
        choice.check(value, path, faults)
        if faults:
            failed.append(faults)
    return failed, len(choices) - len(failed)


def _type_error(where: str, value: Any, text: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", where, f"Invalid value: {codec.encode(value).decode()}: {text}")


def _value_error(path: Path, value: Any, text: str) -> FieldError:
    where = prune.render_path(path)
    shown = numbers.render(value) if isinstance(value, (int, float)) else codec.encode(value).decode()
    return FieldError("FieldValueInvalid", where, f"Invalid value: {shown}: {where} in body {text}")


def _choice_error(path: Path, text: str) -> FieldError:
    return FieldError("FieldValueInvalid", _NOWHERE, f'Invalid value: "": "{prune.render_path(path)}" {text}')
