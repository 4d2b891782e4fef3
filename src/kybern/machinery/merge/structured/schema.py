"""What the merge must know of a kind's fields: `Node`s, compiled from OpenAPI once a type.

Built-in kinds come from machinery/schema (`of_definition`), custom resources hand in their own schema (`of_custom`).
Read by typed, compare and combine. A node tells whether a map is merged key by key or taken whole (atomic), and
whether a list is taken whole, a set of scalars or a map of items by their keys. Source: "Merge strategy" in the
documentation of server-side apply.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import Any

from kybern.api import protobuf
from kybern.api.protobuf_fields import FIELDS
from kybern.machinery import schema

_REF = "#/$defs/"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


_NONE: frozenset[str] = frozenset()


class Kind(enum.Enum):
    SCALAR = enum.auto()
    MAP = enum.auto()  # struct, map, or both
    LIST = enum.auto()
    ANY = enum.auto()  # whatever it holds: maps are merged, lists are atomic


class Node:
    """One type. Types may hold themselves, so a node is filled after it is made; then it is read-only."""

    __slots__ = (
        "_texts", "atomic", "element", "fields", "is_set", "key_defaults", "keys", "kind", "nulls", "required",
        "scalar", "shapes", "structs", "zeros",
    )  # fmt: skip

    def __init__(self, kind: Kind, *, scalar: str = "", element: Node | None = None, atomic: bool = False) -> None:
        self.kind = kind
        self.scalar = scalar  # "string", "numeric", "boolean"; "" takes any of them
        self.fields: dict[str, Node] = {}  # of a map: keys with a type of their own
        self.element = element  # of the items of a list, and of the other keys of a map (None: there are none)
        self.atomic = atomic
        self.is_set = False
        self.keys: tuple[str, ...] = ()  # of a list: what identifies its items
        self.key_defaults: dict[str, Any] = {}  # what a key counts as that an item leaves out
        # Of the structs of built-in kinds, which upstream holds as Go structs:
        self.nulls: frozenset[str] = _NONE  # times that are told as null where they are not set
        self.zeros: frozenset[str] = _NONE  # scalars that are not told where they are zero
        self.structs: frozenset[str] = _NONE  # structs that are always there, if empty
        self._texts: dict[str, tuple[str, Node]] = {}
        # What `first` found out about values with these keys ("": that it depends on what is below them).
        self.shapes: dict[tuple[str, ...], str] = {}
        self.required: dict[str, Any] = {}  # other fields that are always there, and what they are if nobody sets them

    @property
    def texts(self) -> dict[str, tuple[str, Node]]:
        """`fields`, with the text of their path element in front: `"f:name":`."""
        if not self._texts:
            self._texts = {name: (f'"f:{name}":', node) for name, node in self.fields.items()}
        return self._texts

    def become(self, other: Node) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))
        self._texts, self.shapes = {}, {}

    def as_atomic(self) -> Node:
        """The same type, taken whole."""
        node = Node(self.kind)
        node.become(self)
        node.atomic = True
        return node


SCALAR = Node(Kind.SCALAR)
ANY = Node(Kind.ANY)
WHOLE = Node(Kind.ANY, atomic=True)  # free-form JSON in built-in kinds
ANY_MAP = Node(Kind.MAP, element=ANY)
ANY_LIST = Node(Kind.LIST, element=ANY, atomic=True)
_TYPED_SCALARS = {name: Node(Kind.SCALAR, scalar=name) for name in ("string", "numeric", "boolean")}
_SCALAR_NAMES = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}
_ZEROES: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}

# Of protobuf's kinds and labels.
_ZERO_OF: dict[str, Any] = {"s": "", "b": False, "i": 0, "d": 0, "*": [], "%": {}}

# Times that are left out where they are not set, though they are no pointers.
_OMITTED_TIMES = frozenset({"creationTimestamp"})

# Defaults of list keys, which the schema package leaves out: (definition, field). Required fields have their zero.
_KEY_DEFAULTS = {
    ("io.k8s.api.core.v1.ContainerPort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.ServicePort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.LocalObjectReference", "name"): "",
}


def resolve(node: Node, value: Any) -> Node:
    """The node of this very value: what ANY holds decides for itself."""
    if node.kind is not Kind.ANY or node.atomic:
        return node
    if isinstance(value, dict):
        return ANY_MAP
    return ANY_LIST if isinstance(value, list) else SCALAR


# -- built-in kinds


@functools.cache
def of_definition(name: str) -> Node:
    """The type of an OpenAPI definition of the built-in kinds. Raises KeyError."""
    node = Node(Kind.ANY)
    _UNDER_WAY[name] = node
    try:
        spec = schema.definition(name)
        node.become(_of_schema(spec, name))
        _learn_presence(node, name, spec)
    finally:
        del _UNDER_WAY[name]
    return node


_UNDER_WAY: dict[str, Node] = {}


def _learn_presence(node: Node, definition: str, spec: Mapping[str, Any]) -> None:
    """What is there though nobody set it, and what is not: the protobuf tables know which fields are pointers."""
    parts = definition.split(".")
    message = f"{parts[-3]}_{parts[-2]}.{parts[-1]}"
    if message not in FIELDS or "properties" not in spec:
        return
    required = set(spec.get("required", ()))
    told = [f for f in protobuf.layout(message).values() if not f.has_presence and not f.is_inline]
    plain = [f for f in told if not f.label]
    node.nulls = frozenset(f.name for f in plain if f.kind in ("T", "U") and f.name not in _OMITTED_TIMES)
    node.zeros = frozenset(f.name for f in plain if f.kind in ("s", "i", "b", "d") and f.name not in required)
    node.structs = frozenset(f.name for f in plain if len(f.kind) > 1)
    zeroes = {f.name: _ZERO_OF.get(f.label or f.kind) for f in told if f.name in required}
    node.required = {name: zero for name, zero in zeroes.items() if zero is not None}


def _of_schema(spec: Mapping[str, Any], definition: str) -> Node:
    reference = spec.get("$ref", "").removeprefix(_REF)
    if reference:
        node = _UNDER_WAY.get(reference) or of_definition(reference)
        return node.as_atomic() if spec.get("x-kubernetes-map-type") == "atomic" else node
    if "oneOf" in spec:
        return SCALAR  # quantities, and integers or strings
    kind = _type_of(spec)
    if kind == "object":
        return _of_object(spec)
    if kind == "array":
        items = spec.get("items", {})
        return _of_list(spec, _of_schema(items, ""), _required_keys(items))
    return _TYPED_SCALARS[_SCALAR_NAMES[kind]] if kind in _SCALAR_NAMES else WHOLE


def _of_object(spec: Mapping[str, Any]) -> Node:
    properties, others = spec.get("properties"), spec.get("additionalProperties")
    if not properties and not isinstance(others, Mapping):
        return WHOLE
    node = Node(Kind.MAP, atomic=spec.get("x-kubernetes-map-type") == "atomic")
    node.fields = {name: _of_schema(inner, "") for name, inner in (properties or {}).items()}
    if isinstance(others, Mapping):
        node.element = _of_schema(others, "")
    return node


def _of_list(spec: Mapping[str, Any], items: Node, key_defaults: dict[str, Any]) -> Node:
    node = Node(Kind.LIST, element=items)
    match spec.get("x-kubernetes-list-type"):
        case "set":
            node.is_set = True
        case "map":
            node.keys = tuple(spec.get("x-kubernetes-list-map-keys", ()))
            node.key_defaults = {key: key_defaults[key] for key in node.keys if key in key_defaults}
        case _:
            node.atomic = True
    return node


def _required_keys(items: Mapping[str, Any]) -> dict[str, Any]:
    """What an item's fields count as where they are left out."""
    reference = items.get("$ref", "").removeprefix(_REF)
    if not reference:
        return {}
    definition = schema.definition(reference)
    found = {field: value for (owner, field), value in _KEY_DEFAULTS.items() if owner == reference}
    for field in definition.get("required", ()):
        kind = _type_of(definition.get("properties", {}).get(field, {}))
        if kind in _ZEROES:
            found.setdefault(field, _ZEROES[kind])
    return found


def _type_of(spec: Mapping[str, Any]) -> str:
    kinds = spec.get("type", "")
    return kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "")


# -- custom resources


def of_custom(spec: Mapping[str, Any] | None, *, preserve_unknown: bool = False) -> Node:
    """The type of a custom resource's objects, by the structural schema of one version (None: there is none)."""
    root = Node(Kind.MAP, element=ANY)
    if spec is not None:
        root.become(_of_custom({**spec, "type": "object"}, preserve_unknown))
    root.fields = {**root.fields, **_of_any_object()}
    root.atomic = False
    return root


def _of_any_object() -> dict[str, Node]:
    text = _TYPED_SCALARS["string"]
    return {"apiVersion": text, "kind": text, "metadata": of_definition(_OBJECT_META)}


def _of_custom(spec: Mapping[str, Any], preserve: bool) -> Node:
    """What is below x-kubernetes-preserve-unknown-fields (`preserve`) may hold anything as well, as upstream."""
    preserve = preserve or bool(spec.get("x-kubernetes-preserve-unknown-fields"))
    if spec.get("x-kubernetes-int-or-string"):
        return SCALAR
    match spec.get("type"):
        case "object":
            return _of_custom_object(spec, preserve)
        case "array":
            items = spec.get("items") or {}
            defaults = {
                name: inner["default"] for name, inner in (items.get("properties") or {}).items() if "default" in inner
            }
            return _of_list(spec, _of_custom(items, preserve), defaults)
        case kind if kind in _SCALAR_NAMES:
            return _TYPED_SCALARS[_SCALAR_NAMES[kind]]
    return ANY


def _of_custom_object(spec: Mapping[str, Any], preserve: bool) -> Node:
    properties, others = spec.get("properties") or {}, spec.get("additionalProperties")
    node = Node(Kind.MAP, atomic=spec.get("x-kubernetes-map-type") == "atomic")
    node.fields = {name: _of_custom(inner, preserve) for name, inner in properties.items()}
    if isinstance(others, Mapping):
        node.element = _of_custom(others, preserve)
    elif others or preserve or not (properties or node.atomic):
        node.element = ANY
    if spec.get("x-kubernetes-embedded-resource"):
        node.fields = {**node.fields, **_of_any_object()}
    return node
