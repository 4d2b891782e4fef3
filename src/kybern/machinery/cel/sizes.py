"""How big the values of a schema may be: what a request of 3 MiB can hold, where the schema says nothing.

Read by estimate and by custom resources (how often a rule runs at most, where nothing above says: `most_in_request`).
Source: "Resource use by validation functions" in the documentation of CustomResourceDefinition; the numbers are those
that an API server's refusals show.
"""

from __future__ import annotations

from typing import Any, Final

from kybern.machinery.cel.schema_types import Schema

MAX_REQUEST: Final = 3 * 1024 * 1024
_MAX_FORMATTED: Final = {"date": 12, "timestamp": 35, "duration": 35}
_LEAST: Final = {"int": 1, "double": 1, "bool": 4, "any": 1, "date": 12, "timestamp": 21, "duration": 3}


def least_size(schema: Schema) -> int:
    """Bytes of the shortest JSON."""
    if schema.kind != "object":
        if schema.kind == "any" and schema.source.get("type") == "object":
            return 2
        return _LEAST.get(schema.kind, 2)
    total = 2
    for spelled in schema.properties.values():
        if spelled.required and "default" not in spelled.schema.source:
            total += len(spelled.key) + 4 + least_size(spelled.schema)
    return total


def most_in_request(schema: Schema) -> int:
    """How many values of a schema fit into one request, with a comma each."""
    return MAX_REQUEST // (least_size(schema) + 1)


def max_elements(schema: Schema) -> int:
    """Elements of a list, entries of a map, bytes of a text; 0 for what has no parts."""
    limit = schema.max_size
    match schema.kind:
        case "list":
            assert schema.element is not None
            return limit if limit is not None else most_in_request(schema.element)
        case "map":
            assert schema.element is not None
            return limit if limit is not None else MAX_REQUEST // (least_size(schema.element) + 6)
        case "string":
            if limit is not None:
                return limit * 4  # characters, of up to four bytes
            if schema.values:
                return max(len(v) for v in schema.values if isinstance(v, str)) if _has_texts(schema.values) else 0
            return MAX_REQUEST - 2
        case "bytes":
            return limit if limit is not None else MAX_REQUEST - 2
        case "date" | "timestamp" | "duration":
            return _MAX_FORMATTED[schema.kind]
        case "any":
            return MAX_REQUEST - 2
    return 0


def _has_texts(values: tuple[Any, ...]) -> bool:
    return any(isinstance(v, str) for v in values)
