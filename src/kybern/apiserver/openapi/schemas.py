"""The schema package's definitions, as a kube-apiserver would publish them.

Read by documents. The package marks optional fields by `null` among their types and pins apiVersion and kind to one
value; upstream's documents do neither. Nothing is kept in memory beyond the documents made of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kybern.machinery import schema

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def normalise(node: Any, prefix: str) -> Any:
    """A copy of a schema in upstream's spelling, with references under `prefix`."""
    if isinstance(node, list):
        return [normalise(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str):
        target = {"$ref": prefix + reference.removeprefix("#/$defs/")}
        rest = {k: v for k, v in node.items() if k != "$ref"}
        return {**rest, "allOf": [target]} if rest and prefix.startswith("#/components") else {**rest, **target}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "type" and isinstance(value, list):
            result[key] = next(t for t in value if t != "null")
        elif key == "properties" and isinstance(value, dict):
            # Property names are data: one may be called "type" or "enum".
            result[key] = {name: _property(name, inner, prefix) for name, inner in value.items()}
        else:
            result[key] = normalise(value, prefix)
    return result


def _property(name: str, node: Any, prefix: str) -> Any:
    if name in ("apiVersion", "kind") and isinstance(node, dict) and "enum" in node:
        node = {k: v for k, v in node.items() if k != "enum"}
    return normalise(node, prefix)


def references(node: Any) -> Iterable[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix("#/$defs/")
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def closure(names: Iterable[str]) -> dict[str, Any]:
    """The named definitions and all they refer to, as the package spells them."""
    found: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in schema.definitions():
            continue
        definition = schema.definition(name)
        found[name] = definition
        waiting.extend(references(definition))
    return found


def meta(name: str) -> str:
    """The full name of a meta/v1 definition."""
    return _META + name
