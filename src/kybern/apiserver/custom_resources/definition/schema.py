"""Is a schema structural: can objects be pruned, defaulted and merged by it alone. Pure.

Called by spec for each version, with the JSON of its schema; rules of values are rules.py's. Errors are in upstream's
words and places (`spec.validation.openAPIV3Schema.properties[spec].type`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kybern.apiserver.custom_resources import defaults, lists, prune, structural, validate
from kybern.apiserver.custom_resources.structural import Schema
from kybern.machinery.status import FieldError, forbidden_field, invalid, not_supported, required
from kybern.pausing import pausing

Errors = list[FieldError]
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = (
    "$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties",
)  # fmt: skip
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
    """All that is wrong with the schema of a version."""
    if _names_schema(schema):
        errors.append(invalid(path, "", "OpenAPIV3Schema 'schema' is not supported"))
    _check_root(schema, path, errors)
    _check(schema, path, errors, is_root=True)
    if not errors:
        _check_defaults(schema, path, errors, is_root=True)


def _names_schema(schema: Schema) -> bool:
    """Whether any schema within says which dialect it is written in."""
    if schema.get("$schema"):
        return True
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(isinstance(below, Mapping) and _names_schema(below) for below in inner)


def _check_root(schema: Schema, path: str, errors: Errors) -> None:
    kind = schema.get("type", "")
    if not kind and not schema.get("x-kubernetes-int-or-string"):
        errors.append(required(f"{path}.type", "must not be empty at the root"))
    elif kind and kind != "object":
        errors.append(invalid(f"{path}.type", kind, "must be object at the root"))
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    if "additionalProperties" in schema:
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))


def _check(schema: Schema, path: str, errors: Errors, *, is_root: bool = False) -> None:
    """One schema that is not under allOf and the like, and all below."""
    kind = schema.get("type", "")
    _check_plain(schema, path, errors)
    if kind and kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
        if kind == "null":
            told = "type cannot be set to null, use nullable as an alternative"
            errors.append(forbidden_field(f"{path}.type", told))
    _check_extensions(schema, path, errors)
    _check_list(schema, path, errors)
    if is_root or schema.get("x-kubernetes-embedded-resource"):
        _check_metadata(schema, path, errors)
    properties = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    if properties and others is not None and others is not False:
        told = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", told))
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
    elif isinstance(items, Sequence):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    elif kind == "array":
        errors.append(required(f"{path}.items", "must be specified"))
    _check_junctors(schema, path, errors, int_or_string=schema.get("x-kubernetes-int-or-string") is True)


def _check_typed(schema: Schema, path: str, where: str, errors: Errors) -> None:
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not free and not schema.get("$ref"):
        errors.append(required(f"{path}.type", f"must not be empty {where}"))


def _check_plain(schema: Schema, path: str, errors: Errors) -> None:
    """What no schema may say, nested or not."""
    for name in _UNSUPPORTED:
        if schema.get(name):
            errors.append(forbidden_field(f"{path}.{name}", f"{name} is not supported"))
    if schema.get("uniqueItems"):
        told = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", told))
    pattern = schema.get("pattern")
    if pattern:
        try:
            validate.compile_pattern(pattern)
        except ValueError as error:
            told = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            errors.append(invalid(f"{path}.pattern", pattern, told))


def _check_extensions(schema: Schema, path: str, errors: Errors) -> None:
    kind = schema.get("type", "")
    preserve = schema.get("x-kubernetes-preserve-unknown-fields")
    if preserve is False:
        errors.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    if schema.get("x-kubernetes-embedded-resource"):
        if not preserve and not schema.get("properties"):
            told = (
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields"
            )
            errors.append(required(f"{path}.properties", told))
        if kind != "object":
            told = "must be object if x-kubernetes-embedded-resource is true"
            errors.append(invalid(f"{path}.type", kind, told) if kind else required(f"{path}.type", told))
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None:
        if kind != "object":
            errors.append(invalid(f"{path}.type", kind, "must be object if x-kubernetes-map-type is specified"))
        if map_type not in ("atomic", "granular"):
            errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))


def _check_list(schema: Schema, path: str, errors: Errors) -> None:
    kind, list_type = schema.get("type", ""), schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if list_type is not None:
        if kind != "array":
            told = "must be array if x-kubernetes-list-type is specified"
            errors.append(invalid(f"{path}.type", kind, told) if kind else required(f"{path}.type", told))
        if list_type not in ("atomic", "set", "map"):
            errors.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map")))
    if keys and list_type is None:
        told = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(required(f"{path}.x-kubernetes-list-type", told))
    elif keys and list_type != "map":
        told = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(invalid(f"{path}.x-kubernetes-list-type", list_type, told))
    items = schema.get("items")
    if not isinstance(items, Mapping):
        return
    if list_type == "map":
        _check_map_list(items, keys, path, errors)
    elif list_type == "set":
        if items.get("nullable"):
            errors.append(
                forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set")
            )
        if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
            told = "must be atomic as item of a list with x-kubernetes-list-type=set"
            errors.append(invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), told))
        if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
            told = "must be atomic as item of a list with x-kubernetes-list-type=set"
            errors.append(invalid(f"{path}.items.x-kubernetes-list-type", items.get("x-kubernetes-list-type"), told))


def _check_map_list(items: Schema, keys: Sequence[str], path: str, errors: Errors) -> None:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(where, "must not be empty if x-kubernetes-list-type is map"))
        return
    if items.get("type") != "object":
        told = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid(f"{path}.items.type", items.get("type", ""), told))
        return
    if items.get("nullable"):
        errors.append(
            forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is map")
        )
    if len(set(keys)) != len(keys):
        errors.append(invalid(where, list(keys), "must not contain duplicate entries"))
    properties = items.get("properties") or {}
    for key in dict.fromkeys(keys):
        field = properties.get(key)
        if field is None:
            errors.append(invalid(where, list(keys), "entries must all be names of item properties"))
            continue
        inner = f"{path}.items.properties[{key}]"
        if field.get("type") in ("array", "object"):
            told = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid(f"{inner}.type", field["type"], told))
        if field.get("nullable"):
            told = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            errors.append(forbidden_field(f"{inner}.nullable", told))
        if key not in (items.get("required") or ()) and field.get("default") is None:
            told = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            errors.append(required(f"{inner}.default", told))


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


def _check_junctors(schema: Schema, path: str, errors: Errors, *, int_or_string: bool) -> None:
    for junctor in _JUNCTORS:
        for i, inner in enumerate(schema.get(junctor) or ()):
            where = f"{path}.{junctor}[{i}]"
            may = int_or_string and (
                (junctor == "anyOf" and _says_int_or_string(schema))
                or (junctor == "allOf" and i == 0 and _says_int_or_string(inner))
            )
            if may and junctor == "anyOf":
                continue
            _check_nested(inner, where, errors, types_allowed=may)
    no = schema.get("not")
    if isinstance(no, Mapping):
        _check_nested(no, f"{path}.not", errors)


def _says_int_or_string(schema: Schema) -> bool:
    return list(schema.get("anyOf") or ()) == _INT_OR_STRING


def _check_nested(schema: Schema, path: str, errors: Errors, *, types_allowed: bool = False) -> None:
    """A schema under allOf, anyOf, oneOf or not: it may judge values, and add nothing to the structure."""
    _check_plain(schema, path, errors)
    for name, told in _NOT_NESTED:
        if schema.get(name):
            errors.append(forbidden_field(f"{path}.{name}", told))
    for name, inner in pausing((schema.get("properties") or {}).items()):
        _check_nested(inner, f"{path}.properties[{name}]", errors)
    items = schema.get("items")
    if isinstance(items, Mapping):
        _check_nested(items, f"{path}.items", errors)
    _check_junctors(schema, path, errors, int_or_string=types_allowed)


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
