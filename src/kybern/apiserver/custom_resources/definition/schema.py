"""Is a schema structural: can objects be pruned, defaulted and merged by it alone. Pure.

Called by spec for each version, with the JSON of its schema. What is wrong wherever it stands is plain.py's, rules of
values are rules.py's. Errors are in upstream's
words and places (`spec.validation.openAPIV3Schema.properties[spec].type`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kybern.apiserver.custom_resources import defaults, lists, prune, structural, validate
from kybern.apiserver.custom_resources.definition import plain
from kybern.apiserver.custom_resources.structural import Schema
from kybern.machinery.status import FieldError, forbidden_field, invalid, required
from kybern.pausing import pausing

Errors = list[FieldError]
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_JUNCTORS = ("allOf", "anyOf", "oneOf")
# What a schema under allOf and the like must not say, with how upstream says so.
_NOT_NESTED = (
    ("type", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("title", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)
_LONE_FIELDS = "must not specify anything other than name and generateName, but metadata is implicitly specified"


def check(schema: Schema, path: str, errors: Errors) -> None:
    """All that is wrong with the schema of a version, but for its rules."""
    plain.check(schema, path, errors)
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    if not plain.is_convertible(schema):
        if not errors:  # anything else has been named
            errors.append(invalid(path, "", "OpenAPIV3Schema 'schema' is not supported"))
        return
    found: Errors = []
    _check_root(schema, path, found)
    _check(schema, path, found, is_root=True)
    for where, inner in _junctors(schema):
        _check_complete(schema, inner, path, path + where, found)
    if not found:
        _check_defaults(schema, path, found, is_root=True)
    errors.extend(found)


def _check_root(schema: Schema, path: str, errors: Errors) -> None:
    kind = schema.get("type", "")
    if not kind and not schema.get("x-kubernetes-int-or-string"):
        errors.append(required(f"{path}.type", "must not be empty at the root"))
    elif kind and kind != "object":
        errors.append(invalid(f"{path}.type", kind, "must be object at the root"))
    if "additionalProperties" in schema:
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))


def _check(schema: Schema, path: str, errors: Errors, *, is_root: bool = False) -> None:
    """One schema that is not under allOf and the like, and all below."""
    _check_pattern(schema, path, errors)
    _check_extensions(schema, path, errors)
    if is_root or schema.get("x-kubernetes-embedded-resource"):
        _check_metadata(schema, path, errors)
    properties = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    for name, inner in pausing(properties.items()):
        _check_typed(inner, f"{path}.properties[{name}]", "for specified object fields", errors)
        _check(inner, f"{path}.properties[{name}]", errors)
    if isinstance(others, Mapping):
        _check_typed(others, f"{path}.additionalProperties", "for specified object fields", errors)
        _check(others, f"{path}.additionalProperties", errors)
    items = schema.get("items")
    if isinstance(items, Mapping):
        _check_typed(items, f"{path}.items", "for specified array items", errors)
        _check(items, f"{path}.items", errors)
    elif schema.get("type") == "array":
        errors.append(required(f"{path}.items", "must be specified"))
    _check_junctors(schema, path, errors, int_or_string=schema.get("x-kubernetes-int-or-string") is True)


def _check_typed(schema: Schema, path: str, where: str, errors: Errors) -> None:
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not free and not schema.get("$ref"):
        errors.append(required(f"{path}.type", f"must not be empty {where}"))


def _check_pattern(schema: Schema, path: str, errors: Errors) -> None:
    pattern = schema.get("pattern")
    if pattern:
        try:
            validate.compile_pattern(pattern)
        except ValueError as error:
            told = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            errors.append(invalid(f"{path}.pattern", pattern, told))


def _check_extensions(schema: Schema, path: str, errors: Errors) -> None:
    kind, preserve = schema.get("type", ""), schema.get("x-kubernetes-preserve-unknown-fields")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if schema.get("x-kubernetes-int-or-string"):
        told = "must be false if x-kubernetes-int-or-string is true"
        if preserve:
            errors.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", True, told))
        if embedded:
            errors.append(invalid(f"{path}.x-kubernetes-embedded-resource", True, told))
    if not embedded:
        return
    if not preserve and not schema.get("properties"):
        told = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.append(required(f"{path}.properties", told))
    if kind != "object":
        told = "must be object if x-kubernetes-embedded-resource is true"
        errors.append(invalid(f"{path}.type", kind, told) if kind else required(f"{path}.type", told))


def _check_metadata(schema: Schema, path: str, errors: Errors) -> None:
    """apiVersion, kind and metadata are what they are everywhere."""
    properties = schema.get("properties") or {}
    for name in ("apiVersion", "kind"):
        inner = properties.get(name)
        if inner is not None and inner.get("type") != "string":
            errors.append(invalid(f"{path}.properties[{name}].type", inner.get("type", ""), "must be string"))
    metadata = properties.get("metadata")
    if metadata is None:
        return
    where = f"{path}.properties[metadata]"
    if metadata.get("type") != "object":
        errors.append(invalid(f"{where}.type", metadata.get("type", ""), "must be object"))
    said = set(metadata) - {"type", "properties", "description", "required"}
    if said or set(metadata.get("properties") or {}) - {"name", "generateName"}:
        errors.append(forbidden_field(where, _LONE_FIELDS))


def _junctors(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """What stands under allOf, anyOf, oneOf and not, with where."""
    for junctor in _JUNCTORS:
        for i, inner in enumerate(schema.get(junctor) or ()):
            yield f".{junctor}[{i}]", inner
    no = schema.get("not")
    if isinstance(no, Mapping):
        yield ".not", no


def _check_junctors(schema: Schema, path: str, errors: Errors, *, int_or_string: bool) -> None:
    for where, inner in _junctors(schema):
        typed = int_or_string and where.startswith(".anyOf") and _says_int_or_string(schema)
        if not typed:
            may = int_or_string and where == ".allOf[0]" and _says_int_or_string(inner)
            _check_nested(inner, path + where, errors, types_allowed=may)


def _says_int_or_string(schema: Schema) -> bool:
    return list(schema.get("anyOf") or ()) == _INT_OR_STRING


def _check_nested(schema: Schema, path: str, errors: Errors, *, types_allowed: bool = False) -> None:
    """A schema under allOf, anyOf, oneOf or not: it may judge values, and add nothing to the structure."""
    _check_pattern(schema, path, errors)
    for name, told in _NOT_NESTED:
        if schema.get(name):
            errors.append(forbidden_field(f"{path}.{name}", told))
    for name, inner in pausing((schema.get("properties") or {}).items()):
        where = f"{path}.properties[{name}]"
        if name == "metadata":
            errors.append(forbidden_field(where, "must not be specified in a nested context"))
        _check_nested(inner, where, errors)
    items = schema.get("items")
    if isinstance(items, Mapping):
        _check_nested(items, f"{path}.items", errors)
    _check_junctors(schema, path, errors, int_or_string=types_allowed)


def _check_complete(structure: Schema, nested: Schema, path: str, where: str, errors: Errors) -> None:
    """What is judged under allOf and the like of the root must be in the structure, too."""
    known = structure.get("properties") or {}
    for name, inner in pausing((nested.get("properties") or {}).items()):
        place, said = f"{path}.properties[{name}]", f"{where}.properties[{name}]"
        if name in known:
            _check_complete(known[name], inner, place, said, errors)
        else:
            errors.append(required(place, f"because it is defined in {said}"))
    items, below = nested.get("items"), structure.get("items")
    if isinstance(items, Mapping):
        if isinstance(below, Mapping):
            _check_complete(below, items, f"{path}.items", f"{where}.items", errors)
        else:
            errors.append(required(f"{path}.items", f"because it is defined in {where}.items"))
    for at, inner in _junctors(nested):
        _check_complete(structure, inner, path, where + at, errors)


# -- defaults ------------------------------------------------------------------------------------------------------


def _check_defaults(schema: Schema, path: str, errors: Errors, *, is_root: bool = False) -> None:
    if schema.get("default") is not None:
        _check_default(schema, path, errors, is_root=is_root)
    for name, inner in pausing((schema.get("properties") or {}).items()):
        where = f"{path}.properties[{name}]"
        if is_root and name == "metadata":
            for field, of_field in (inner.get("properties") or {}).items():
                if of_field.get("default") is not None:
                    told = "must not be set in top-level metadata"
                    errors.append(forbidden_field(f"{where}.properties[{field}].default", told))
            if inner.get("default") is not None:
                errors.append(forbidden_field(f"{where}.default", "must not be set in top-level metadata"))
            continue
        _check_defaults(inner, where, errors)
    for key in ("additionalProperties", "items"):
        below = schema.get(key)
        if isinstance(below, Mapping):
            _check_defaults(below, f"{path}.{key}", errors)


def _check_default(schema: Schema, path: str, errors: Errors, *, is_root: bool) -> None:
    where = f"{path}.default"
    tree = structural.compile_schema(schema)
    unknown: list[str] = []
    try:
        value = prune.prune(schema["default"], tree, None, unknown)
    except ValueError as error:
        errors.append(invalid(where, schema["default"], str(error)))
        return
    if unknown:
        errors.append(invalid(where, schema["default"], "must not have unknown fields"))
        return
    if type(value) in (dict, list):
        defaults.apply(value, tree)
    found: Errors = []
    judged = {**schema, "x-kubernetes-embedded-resource": True} if is_root else schema
    validate.Validator(judged).check(value, None, found)
    lists.check(value, tree, None, found)
    for fault in pausing(found):
        below = "" if fault.field in ("", "<nil>") else fault.field
        at = f"{where}{below}" if below.startswith("[") else f"{where}.{below}" if below else where
        errors.append(FieldError(fault.reason, at, fault.message))
