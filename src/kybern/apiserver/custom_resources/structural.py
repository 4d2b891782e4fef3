"""The structure of a custom resource: which fields there are, as a tree made once of its OpenAPI schema.

Made by version (one tree a version of a CustomResourceDefinition), read by prune, defaults, lists and rules. What
values are right is validate's business. Source: "Specifying a structural schema" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kybern.pausing import pausing

Schema = Mapping[str, Any]


class Node:
    """One place in an object."""

    __slots__ = (
        "additional", "default", "embedded", "has_default", "int_or_string", "items", "list_type", "map_keys",
        "map_type", "nullable", "preserve", "properties", "schema", "type",
    )  # fmt: skip

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.type: str = schema.get("type", "")
        self.properties: dict[str, Node] = {}
        self.additional: Node | None = None  # what other fields hold
        self.items: Node | None = None
        self.preserve: bool = schema.get("x-kubernetes-preserve-unknown-fields") is True
        self.embedded: bool = schema.get("x-kubernetes-embedded-resource") is True
        self.int_or_string: bool = schema.get("x-kubernetes-int-or-string") is True
        self.nullable: bool = schema.get("nullable") is True
        self.has_default = schema.get("default") is not None
        self.default: Any = schema.get("default")
        self.list_type: str = schema.get("x-kubernetes-list-type", "")
        self.map_keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        self.map_type: str = schema.get("x-kubernetes-map-type", "")

    def field(self, name: str) -> Node | None:
        """What is known of a field; None: nothing."""
        return self.properties.get(name) or self.additional


def compile_schema(schema: Schema) -> Node:
    """The tree of a schema that definition.structure has found to be structural."""
    node = Node(schema)
    for name, inner in pausing(schema.get("properties", {}).items()):
        node.properties[name] = compile_schema(inner)
    others = schema.get("additionalProperties")
    if others is True:
        node.additional = compile_schema({"x-kubernetes-preserve-unknown-fields": True})
    elif isinstance(others, Mapping):
        node.additional = compile_schema(others)
    items = schema.get("items")
    if isinstance(items, Mapping):
        node.items = compile_schema(items)
    return node


# Of a definition without a schema (written before they were asked for): everything is kept.
ANYTHING: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
