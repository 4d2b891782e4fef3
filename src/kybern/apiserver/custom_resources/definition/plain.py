"""What no schema may say, wherever it stands: unknown types, bad patterns, lists and maps that cannot be merged. Pure.

Called by spec with a version's whole schema; what makes it structural is schema.py's. Goes into everything that is a
schema upstream, under `allOf`, `definitions` and `dependencies` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kybern.apiserver.custom_resources.definition import rules
from kybern.apiserver.custom_resources.structural import Schema
from kybern.machinery.status import FieldError, forbidden_field, invalid, not_supported, required
from kybern.pausing import pausing

Errors = list[FieldError]
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("$ref", "definitions", "id", "patternProperties")
_OF_ITEMS_AND_NAMES = ("additionalItems", "dependencies")  # refused also when they say false or nothing


def check(schema: Schema, path: str, errors: Errors) -> None:
    """One schema and all below."""
    if schema.get("properties") and "additionalProperties" in schema:
        told = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", told))
    _check_words(schema, path, errors)
    _check_map_type(schema, path, errors)
    _check_list(schema, path, errors)
    rules.check_texts(schema, path, errors)
    for where, inner in pausing([*_inner(schema)]):
        check(inner, path + where, errors)


def is_convertible(schema: Schema) -> bool:
    """Whether there is a structure to judge at all: not with words that structures have no place for."""
    if any(schema.get(name) for name in (*_UNSUPPORTED, "$schema")):
        return False
    if any(schema.get(name) is not None for name in _OF_ITEMS_AND_NAMES) or isinstance(schema.get("items"), list):
        return False
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return False
    return all(is_convertible(inner) for _, inner in pausing([*_inner(schema)]))


def _inner(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas within, with where they are."""
    for junctor in ("allOf", "anyOf", "oneOf"):
        for i, inner in enumerate(schema.get(junctor) or ()):
            yield f".{junctor}[{i}]", inner
    for group in ("properties", "definitions", "dependencies"):
        for name, inner in (schema.get(group) or {}).items():
            if isinstance(inner, Mapping):
                yield f".{group}[{name}]", inner
    for field in ("items", "additionalProperties", "not"):
        inner = schema.get(field)
        if isinstance(inner, Mapping):
            yield f".{field}", inner


def _check_words(schema: Schema, path: str, errors: Errors) -> None:
    kind = schema.get("type", "")
    if kind and kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
        if kind == "null":
            told = "type cannot be set to null, use nullable as an alternative"
            errors.append(forbidden_field(f"{path}.type", told))
    for name in _UNSUPPORTED:
        if schema.get(name):
            errors.append(forbidden_field(f"{path}.{name}", f"{name} is not supported"))
    for name in _OF_ITEMS_AND_NAMES:
        if schema.get(name) is not None:
            errors.append(forbidden_field(f"{path}.{name}", f"{name} is not supported"))
    if schema.get("uniqueItems"):
        told = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", told))
    if isinstance(schema.get("items"), list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        errors.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))


def _check_map_type(schema: Schema, path: str, errors: Errors) -> None:
    kind, map_type = schema.get("type", ""), schema.get("x-kubernetes-map-type")
    if map_type is None:
        return
    if kind != "object":
        told = "must be object if x-kubernetes-map-type is specified"
        errors.append(invalid(f"{path}.type", kind, told) if kind else required(f"{path}.type", told))
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
    if list_type == "map":
        _check_map_list(items, keys, path, errors)
    elif list_type == "set" and isinstance(items, Mapping):
        _check_set(items, path, errors)


def _check_set(items: Schema, path: str, errors: Errors) -> None:
    if items.get("nullable"):
        errors.append(
            forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set")
        )
    told = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        errors.append(invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), told))
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        errors.append(invalid(f"{path}.items.x-kubernetes-list-type", items.get("x-kubernetes-list-type"), told))


def _check_map_list(items: object, keys: Sequence[str], path: str, errors: Errors) -> None:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(where, "must not be empty if x-kubernetes-list-type is map"))
    if not isinstance(items, Mapping):
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
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
