"""The schema package's definitions, as a kube-apiserver would publish them.

Read by documents. The package marks optional fields by `null` among their types and pins apiVersion and kind to one
value; upstream's documents do neither. Nothing is kept in memory beyond the documents made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kybern.machinery import schema
from kybern.pausing import pausing

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def normalise(node: Any, prefix: str) -> Any:
    """A copy of a schema in upstream's spelling, with references under `prefix`."""
    if isinstance(node, list):
        return [normalise(item, prefix) for item in pausing(node)]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str):
        target = {"$ref": prefix + reference.removeprefix("#/$defs/")}
        rest = {k: v for k, v in node.items() if k != "$ref"}
        return {**rest, "allOf": [target]} if rest and prefix.startswith("#/components") else {**rest, **target}
    if "oneOf" in node and isinstance(node["oneOf"], list):
        return _either(node, prefix)
    result: dict[str, Any] = {}
    for key, value in pausing(node.items()):
        if key == "type" and isinstance(value, list):
            result[key] = _single(value)
        elif key == "properties" and isinstance(value, dict):
            # Property names are data: one may be called "type" or "enum".
            result[key] = {name: _property(name, inner, prefix) for name, inner in pausing(value.items())}
        else:
            result[key] = normalise(value, prefix)
    return result


def _single(kinds: Any) -> Any:
    """The one type besides null."""
    return next((k for k in kinds if k != "null"), "null") if isinstance(kinds, list) else kinds


def _either(node: dict[str, Any], prefix: str) -> dict[str, Any]:
    """IntOrString and Quantity; what else is a choice stays as it is (schemas of custom resources)."""
    kinds = {_single(choice.get("type")) for choice in node["oneOf"] if isinstance(choice, dict)}
    rest = {key: value for key, value in node.items() if key != "oneOf"}
    if prefix.startswith("#/definitions") and kinds in ({"string", "integer"}, {"string", "number"}):
        # OpenAPI 2 has no choices: it says "string" and hints at the rest.
        return {**rest, "type": "string", **({"format": "int-or-string"} if "integer" in kinds else {})}
    if kinds == {"string", "integer"} and len(node["oneOf"]) == 2:
        return {**rest, "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    if kinds == {"string", "number"} and len(node["oneOf"]) == 2:
        return {**rest, "oneOf": [{"type": "string"}, {"type": "number"}]}
    return {**rest, "oneOf": [normalise(choice, prefix) for choice in node["oneOf"]]}


def _property(name: str, node: Any, prefix: str) -> Any:
    if name in ("apiVersion", "kind") and isinstance(node, dict) and "enum" in node:
        node = {k: v for k, v in node.items() if k != "enum"}
    return normalise(node, prefix)


# What a schema of OpenAPI 2 cannot say, or not of what may be null or hold anything.
_UNSAYABLE = frozenset({"nullable", "default", "anyOf", "oneOf", "allOf", "not"})
_STRUCTURE = frozenset({"type", "properties", "items", "additionalProperties", "required"})


def version_2(node: Mapping[str, Any], *, is_root: bool = True) -> dict[str, Any]:
    """The schema of a custom resource, of which OpenAPI 2 is told only what no client can take amiss."""
    free = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    dropped: frozenset[str] = _UNSAYABLE
    if is_root and free:
        dropped |= _STRUCTURE - {"type"} | {"x-kubernetes-preserve-unknown-fields"}
    elif free or node.get("nullable"):
        dropped |= _STRUCTURE
    made: dict[str, Any] = {}
    for key, value in pausing(node.items()):
        if key in dropped:
            continue
        if key == "properties":
            made[key] = {name: version_2(inner, is_root=False) for name, inner in pausing(value.items())}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            made[key] = version_2(value, is_root=False)
        else:
            made[key] = value
    return made


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


def closure(names: Iterable[str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The named definitions and all they refer to, as the package (or `extra`, for custom resources) spells them."""
    found: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        definition = extra.get(name) or schema.definitions().get(name)
        if definition is None:
            continue
        found[name] = definition
        waiting.extend(references(definition))
    return found


def meta(name: str) -> str:
    """The full name of a meta/v1 definition."""
    return _META + name
