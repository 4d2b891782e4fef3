"""What the API schema says about types, beyond their names: the definitions, and how to patch their fields.

Read from the kubernetes-validate package on first use (nothing of it is copied here). Used by merge/strategic,
the API server's OpenAPI and `explain`. A definition is named as in OpenAPI: "io.k8s.api.core.v1.Pod".
"""

from __future__ import annotations

import enum
import functools
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

VERSION = "v1.36.0"
_REF = "#/$defs/"


class Shape(enum.Enum):
    SCALAR = enum.auto()
    STRUCT = enum.auto()  # of `definition`
    LIST = enum.auto()  # of `definition`, "" for scalars and free-form JSON
    MAP = enum.auto()  # text -> `definition`, "" for scalars and free-form JSON
    ANY = enum.auto()  # free-form JSON


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a definition."""

    shape: Shape
    definition: str = ""
    merge: bool = False  # x-kubernetes-patch-strategy: a list is merged, not replaced
    replace: bool = False  # x-kubernetes-patch-strategy: a struct is replaced, not merged
    merge_key: str = ""  # x-kubernetes-patch-merge-key; "" with `merge`: a list of scalars, merged as a set


ANY = Field(Shape.ANY)


@functools.cache
def definitions() -> Mapping[str, Any]:
    """Every definition by name, as JSON schema with OpenAPI's x-kubernetes-* extensions. Read-only."""
    import kubernetes_validate

    package = pathlib.Path(kubernetes_validate.__file__).parent
    document = package / "kubernetes-json-schema" / f"{VERSION}-local" / "_definitions.json"
    return cast("Mapping[str, Any]", orjson.loads(document.read_bytes())["$defs"])


def definition(name: str) -> Mapping[str, Any]:
    """One definition. Raises KeyError."""
    return cast("Mapping[str, Any]", definitions()[name])


@functools.cache
def fields(name: str) -> Mapping[str, Field] | None:
    """The fields of a definition by wire name; None for one that is free-form or a scalar. Raises KeyError."""
    properties = definition(name).get("properties")
    if properties is None:
        return None
    return {field: _field(node) for field, node in properties.items()}


def _field(node: Mapping[str, Any]) -> Field:
    strategies = node.get("x-kubernetes-patch-strategy", "").split(",")
    shape, of = _shape(node)
    return Field(
        shape,
        of,
        merge="merge" in strategies,
        replace="replace" in strategies,
        merge_key=node.get("x-kubernetes-patch-merge-key", ""),
    )


def _shape(node: Mapping[str, Any]) -> tuple[Shape, str]:
    reference = node.get("$ref", "").removeprefix(_REF)
    if reference:
        if "properties" in definition(reference):
            return Shape.STRUCT, reference
        types = _types(definition(reference))
        return (Shape.ANY, "") if not types or "object" in types else (Shape.SCALAR, "")
    types = _types(node)
    if "array" in types:
        return Shape.LIST, _struct(node.get("items", {}))
    if "object" in types:
        values = node.get("additionalProperties")
        return (Shape.MAP, _struct(values)) if isinstance(values, Mapping) else (Shape.ANY, "")
    return (Shape.SCALAR, "") if types else (Shape.ANY, "")


def _struct(node: Mapping[str, Any]) -> str:
    shape, of = _shape(node)
    return of if shape is Shape.STRUCT else ""


def _types(node: Mapping[str, Any]) -> set[str]:
    types = node.get("type", [])
    if "oneOf" in node:  # int-or-string
        types = ["string"]
    return {types} if isinstance(types, str) else set(types)
