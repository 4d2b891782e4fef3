"""The valid objects that the corpus grows from (seeds/*.yaml), and what they teach about values.

Read by generate. A seed is written as a client would send it; names may be left out. Every field of every kind that a
server has on by default occurs in some seed, so that each definition has examples.
"""

from __future__ import annotations

import functools
import pathlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import yaml

from kybern.machinery import schema, scheme
from tools.corpus import forms

HERE = pathlib.Path(__file__).parent / "seeds"


def load() -> list[dict[str, Any]]:
    """All seeds, in the order of their files. Fresh objects at every call."""
    return [obj for file in sorted(HERE.glob("*.yaml")) for obj in yaml.load(file.read_text(), Loader=Text)]


class Text(yaml.CSafeLoader):
    """YAML without dates: an unquoted time stays the text that it is in JSON."""


Text.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def reference_of(described: Any) -> str:
    """The definition that a property's schema names, or ""."""
    if "$ref" in described:
        return str(described["$ref"]).rpartition("/")[2]
    for part in described.get("allOf", ()):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    for part in described.get("anyOf", ()):  # null or the definition
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return ""


def definition_of(obj: dict[str, Any]) -> str:
    of_form = forms.DEFINITIONS.get((obj["apiVersion"], obj["kind"]))
    if of_form:
        return of_form
    resource = scheme.kind_of(obj["apiVersion"], obj["kind"])
    assert resource is not None, obj["kind"]
    return resource.definition


@functools.cache
def examples() -> dict[tuple[str, str], list[Any]]:
    """(definition, field) -> the values that seeds give the field."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    fragments = yaml.load((HERE / "fragments.yml").read_text(), Loader=Text)
    for name, values in fragments.items():
        kind, _, field = name.partition(".")
        for definition in _definitions_called(kind):
            if field in properties(definition):
                found[definition, field].extend(values)
    for seed in [*load(), *(form for bodies in forms.load().values() for form in bodies)]:
        for definition, field, value in walk(definition_of(seed), seed):
            if value not in found[definition, field]:
                found[definition, field].append(value)
    return dict(found)


def _definitions_called(kind: str) -> list[str]:
    return [name for name in schema.definitions() if name.rpartition(".")[2] == kind]


def walk(definition: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Every (definition, field, value) in an object, from the outside in."""
    if not isinstance(value, dict):
        return
    for field, described in properties(definition).items():
        if field in value:
            yield definition, field, value[field]
            yield from _walk_in(described, value[field])


def _walk_in(described: Any, value: Any) -> Iterator[tuple[str, str, Any]]:
    reference = reference_of(described)
    if reference:
        yield from walk(reference, value)
    elif isinstance(value, list):
        for item in value:
            yield from _walk_in(described.get("items", {}), item)
    elif isinstance(value, dict) and isinstance(described.get("additionalProperties"), dict):
        for item in value.values():
            yield from _walk_in(described["additionalProperties"], item)


def properties(definition: str) -> dict[str, Any]:
    """Field -> its schema; {} for scalars and free-form JSON."""
    found: dict[str, Any] = schema.definition(definition).get("properties", {})
    return found
