"""OpenAPI schemas as the types of expressions. Written for custom resources (structural schemas) and built-in kinds.

`declare` gives a Schema: its `type` goes into an Environment's variables, its `objects` into the environment, and
schema_values.adapt shows an object by it. Source: "Validation rules: type checking" in the documentation of
CustomResourceDefinition (the table of OpenAPI types and CEL types).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kybern.machinery.cel import escaping, types
from kybern.machinery.cel.types import ObjectField, ObjectType, Type
from kybern.pausing import pausing

Kind = Literal[
    "any", "object", "map", "list", "string", "bytes", "timestamp", "date", "duration", "int", "double", "bool"
]
Definitions = Mapping[str, Mapping[str, Any]]

_STRINGS: Final[dict[str, Kind]] = {
    "byte": "bytes",
    "duration": "duration",
    "date": "date",
    "date-time": "timestamp",
}
_SCALARS: Final[dict[Kind, Type]] = {
    "any": types.DYN,
    "string": types.STRING,
    "bytes": types.BYTES,
    "timestamp": types.TIMESTAMP,
    "date": types.TIMESTAMP,
    "duration": types.DURATION,
    "int": types.INT,
    "double": types.DOUBLE,
    "bool": types.BOOL,
}


@dataclass(slots=True, eq=False)
class Property:
    key: str  # as the object spells it
    schema: Schema
    required: bool = False


@dataclass(slots=True, eq=False)
class Schema:
    """One node of a schema. May be recursive for built-in kinds."""

    kind: Kind
    type: Type
    element: Schema | None = None  # of list and map
    properties: dict[str, Property] = field(default_factory=dict)  # by their spelling in expressions
    list_type: str = ""  # set, map, or atomic
    list_keys: tuple[str, ...] = ()
    max_size: int | None = None  # elements, properties or characters, as the schema says
    values: tuple[Any, ...] = ()  # enum
    nullable: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)

    def property(self, name: str) -> Property | None:
        """By its spelling in expressions; words that only other languages reserve may stand as they are, too."""
        found = self.properties.get(name)
        if found is None and name in escaping.LENIENT:
            return self.properties.get(f"__{name}__")
        return found


@dataclass(slots=True, eq=False)
class Declared:
    """A schema and all object types in it."""

    schema: Schema
    objects: dict[str, ObjectType]

    @property
    def type(self) -> Type:
        return self.schema.type


_ROOT: Final[dict[str, dict[str, Any]]] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}},
}


def declare(
    schema: Mapping[str, Any], name: str = "selfType", *, is_root: bool = False, definitions: Definitions | None = None
) -> Declared | None:
    """The types of a schema; None if it says nothing that an expression could read.

    `is_root`: of a whole custom object, which has apiVersion, kind, metadata.name and metadata.generateName also where
    the schema does not say so. `definitions`: what `$ref` points into ("#/definitions/<name>").
    """
    declaring = _Declaring(definitions or {})
    found = declaring.declare(schema, name, is_root=is_root)
    return Declared(found, declaring.objects) if found is not None else None


class _Declaring:
    """One declaration: the object types met so far, and the references already followed."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._by_reference: dict[str, Schema] = {}
        self.objects: dict[str, ObjectType] = {}

    def declare(self, schema: Mapping[str, Any], name: str, *, is_root: bool = False) -> Schema | None:
        reference = schema.get("$ref")
        if reference is None and len(schema.get("allOf", ())) == 1 and "type" not in schema:
            reference = schema["allOf"][0].get("$ref")
        if isinstance(reference, str):
            return self._referred(reference)
        if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
            return Schema("any", types.DYN, source=schema)
        if schema.get("x-kubernetes-embedded-resource"):
            is_root = True
        match _type_of(schema):
            case "array":
                return self._list(schema, name)
            case "object":
                return self._object(schema, name, is_root=is_root)
            case "string":
                kind = _STRINGS.get(schema.get("format", ""), "string")
                longest = schema.get("maxLength")
                return Schema(
                    kind,
                    _SCALARS[kind],
                    max_size=longest,
                    values=tuple(schema.get("enum", ())),
                    nullable=bool(schema.get("nullable")),
                    source=schema,
                )
            case "boolean":
                return Schema("bool", types.BOOL, nullable=bool(schema.get("nullable")), source=schema)
            case "integer":
                return Schema("int", types.INT, nullable=bool(schema.get("nullable")), source=schema)
            case "number":
                return Schema("double", types.DOUBLE, nullable=bool(schema.get("nullable")), source=schema)
        return None

    def _referred(self, reference: str) -> Schema | None:
        name = reference.rpartition("/")[2]
        if name == _INT_OR_STRING:
            return Schema("any", types.DYN)
        known = self._by_reference.get(name)
        if known is not None:
            return known
        definition = self._definitions.get(name)
        if definition is None:
            return None
        # The place is taken first, so that a schema may name itself.
        place = self._by_reference[name] = Schema("any", types.DYN)
        if "properties" in definition:
            place.kind, place.type = "object", Type("object", name)
        found = self.declare(definition, name)
        if found is None:
            del self._by_reference[name]
            return None
        for slot in Schema.__slots__:
            setattr(place, slot, getattr(found, slot))
        return place

    def _list(self, schema: Mapping[str, Any], name: str) -> Schema | None:
        items = schema.get("items")
        element = self.declare(items, f"{name}.@idx") if isinstance(items, Mapping) else None
        if element is None:
            return None
        return Schema(
            "list",
            types.list_of(element.type),
            element,
            list_type=schema.get("x-kubernetes-list-type", ""),
            list_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
            max_size=schema.get("maxItems"),
            nullable=bool(schema.get("nullable")),
            source=schema,
        )

    def _object(self, schema: Mapping[str, Any], name: str, *, is_root: bool) -> Schema | None:
        nullable = bool(schema.get("nullable"))
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and more:
            element = self.declare(more, f"{name}.@elem")
            if element is None:
                return None
            kind = types.map_of(types.STRING, element.type)
            return Schema("map", kind, element, max_size=schema.get("maxProperties"), nullable=nullable, source=schema)
        properties = schema.get("properties") or {}
        if is_root:
            properties = {**properties, **{k: _root(properties.get(k), v) for k, v in _ROOT.items()}}
        if not properties:
            if schema.get("x-kubernetes-preserve-unknown-fields") or more:
                return Schema("any", types.DYN, source=schema)
            if "properties" not in schema and self._definitions:
                return Schema("any", types.DYN, source=schema)  # a built-in kind that says no more
        required = frozenset(schema.get("required", ()))
        found = Schema("object", Type("object", name), nullable=nullable, source=schema)
        for key, inner in pausing(sorted(properties.items())):
            spelled = escaping.escape(key)
            declared = self.declare(inner, f"{name}.{key}") if spelled is not None else None
            if spelled is not None and declared is not None:
                found.properties[spelled] = Property(key, declared, key in required)
        fields = {s: ObjectField(p.schema.type, p.key, p.schema) for s, p in found.properties.items()}
        fields |= {p.key: fields[s] for s, p in found.properties.items() if p.key in escaping.LENIENT}
        self.objects[name] = ObjectType(name, fields)
        return found


_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


def _type_of(schema: Mapping[str, Any]) -> str | None:
    """The one type; built-in kinds' definitions say beside it that null is as good as nothing."""
    found = schema.get("type")
    if isinstance(found, list):
        named = [t for t in found if t != "null"]
        return named[0] if len(named) == 1 else None
    return found


def _root(declared: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an object always has, with what the schema says of it."""
    if declared is None or wanted["type"] != "object":
        return declared or wanted
    return {**declared, "type": "object", "properties": {**wanted["properties"], **(declared.get("properties") or {})}}
