"""The parts of a schema that may be one thing or another (items, additionalProperties): typed like the rest.

Called before a definition is stored: what a schema does not know is dropped there too, and what is of the wrong type is
refused.
"""

from __future__ import annotations

from typing import Any

from kybern.api import codec
from kybern.api.apiextensions_v1 import CustomResourceDefinition, JSONSchemaProps
from kybern.machinery.status import ApiError
from kybern.pausing import pausing

# Upstream knows no limit but that of JSON; deeper schemas are nobody's.
MAX_DEPTH = 100


def settle(definition: CustomResourceDefinition) -> None:
    """Bring all schemas of a definition into shape, in place. Raises ApiError 400."""
    try:
        for version in definition.spec.versions:
            if version.schema is not None and version.schema.openAPIV3Schema is not None:
                _settle(version.schema.openAPIV3Schema, 0)
    except (ValueError, RecursionError) as error:
        kind = "CustomResourceDefinition"
        raise ApiError.bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {error}') from None


def _settle(schema: JSONSchemaProps, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("schema exceeds max depth")
    depth += 1
    schema.items = _typed(schema.items, depth)
    schema.additionalProperties = _typed(schema.additionalProperties, depth)
    schema.additionalItems = _typed(schema.additionalItems, depth)
    groups: tuple[Any, ...] = (
        schema.properties.values(), schema.patternProperties.values(), schema.definitions.values(),
        schema.allOf, schema.anyOf, schema.oneOf, (schema.not_,) if schema.not_ is not None else (),
    )  # fmt: skip
    for group in groups:
        for inner in group:
            _settle(inner, depth)


def _typed(value: Any, depth: int) -> Any:
    if isinstance(value, JSONSchemaProps):
        _settle(value, depth)
        return value
    if isinstance(value, list):
        return [_typed(inner, depth) for inner in pausing(value)]
    if isinstance(value, dict):
        typed, _ = codec.from_json(JSONSchemaProps, value)
        _settle(typed, depth)
        return codec.to_json(typed)
    if value is None or isinstance(value, bool):
        return value
    raise ValueError("json: cannot unmarshal a scalar into Go value of type v1.JSONSchemaProps")
