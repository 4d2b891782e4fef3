"""What a caller of the REST client may ask for: a Struct class, a resource row (dicts), or a lean view of metadata.

Read by rest (paths, Accept, decoding) and informer (keys, versions). A `Shape` joins a resource to the form its
objects take in memory; `meta_of` reads the few fields every form has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.machinery import scheme

T = TypeVar("T")

JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """A resource, and how its objects are decoded."""

    resource: Resource
    decode: Callable[[bytes], T]
    accept: str = JSON
    accept_list: str = JSON


class OwnerView(msgspec.Struct, frozen=True):
    """An owner reference, as the garbage collector needs it."""

    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class MetaView(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None
    finalizers: list[str] = []
    ownerReferences: list[OwnerView] = []


class PartialView(msgspec.Struct):
    """What is left of any object when only its identity and ownership count: about a tenth of the memory."""

    apiVersion: str = ""
    kind: str = ""
    metadata: MetaView = msgspec.field(default_factory=MetaView)


_partial = msgspec.json.Decoder(PartialView)


def partial(resource: Resource) -> Shape[PartialView]:
    """Objects of a resource as PartialView, fetched as PartialObjectMetadata."""

    def decode(data: bytes) -> PartialView:
        view = _partial.decode(data)
        # The wrapper's own kind is PartialObjectMetadata: the row knows better.
        view.apiVersion, view.kind = resource.api_version, resource.kind
        return view

    return Shape(resource, decode, METADATA, METADATA_LIST)


@functools.cache
def _typed(kind: Hashable) -> Shape[Any]:
    struct = cast("type[Any]", kind)
    return Shape(scheme.resource_of(cast("Any", kind)), lambda data: codec.decode_pruned(struct, data)[0])


def _untyped(resource: Resource) -> Shape[dict[str, Any]]:
    def decode(data: bytes) -> dict[str, Any]:
        value = msgspec.json.decode(data, type=dict[str, Any])
        value.setdefault("apiVersion", resource.api_version)  # items of lists may lack them
        value.setdefault("kind", resource.kind)
        return value

    return Shape(resource, decode)


def of(kind: type[T] | Resource | Shape[T]) -> Shape[T]:
    """The shape behind what a caller named."""
    if isinstance(kind, Shape):
        return kind
    if isinstance(kind, Resource):
        return cast("Shape[T]", _untyped(kind))
    return cast("Shape[T]", _typed(cast("Hashable", kind)))


class Meta(NamedTuple):
    """Identity and version of any object."""

    namespace: str
    name: str
    uid: str
    resource_version: str


def meta_of(obj: Any) -> Meta:
    """Read from a Struct, a PartialView or a dict."""
    if isinstance(obj, dict):
        meta = obj.get("metadata") or {}
        return Meta(
            meta.get("namespace") or "",
            meta.get("name") or "",
            meta.get("uid") or "",
            meta.get("resourceVersion") or "",
        )
    meta = obj.metadata
    return Meta(meta.namespace, meta.name, meta.uid, meta.resourceVersion)


def key_of(obj: Any) -> str:
    """`namespace/name`, or `name` for what has no namespace."""
    meta = meta_of(obj)
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def split_key(key: str) -> tuple[str, str]:
    """The way back from `key_of`."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def resource_of(obj: Any) -> Resource:
    """The resource of an object. Raises KeyError for a kind that is not built in."""
    if isinstance(obj, dict):
        found = scheme.kind_of(obj.get("apiVersion", ""), obj.get("kind", ""))
        if found is None:
            raise KeyError((obj.get("apiVersion"), obj.get("kind")))
        return found
    return of(type(obj)).resource
