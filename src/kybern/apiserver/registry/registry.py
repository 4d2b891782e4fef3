"""Every resource that is served, by group, version and plural. Built once by apiserver/server.

`Served` ties a resource of one version to the store of the version that is kept; `Objects` is the server's own
window on them (request.Reader and request.Writer).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kybern.api import codec
from kybern.api.meta_v1 import DeleteOptions
from kybern.api.resource import Resource
from kybern.apiserver.registry import keys, ownership, strategies
from kybern.apiserver.registry.object_codec import ObjectCodec, struct_codec
from kybern.apiserver.registry.ownership import BuiltIn, Owner, Ownership
from kybern.apiserver.registry.resource_store import WHOLE, Gate, ResourceStore, Write
from kybern.apiserver.registry.strategy import Context, Strategy
from kybern.apiserver.request import User
from kybern.apiserver.table.column import Printer
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.watch_cache.hub import Selection
from kybern.apiserver.watch_cache.select import select
from kybern.machinery import conversion, fields, scheme, validation
from kybern.machinery.clock import Clock
from kybern.machinery.feature_gates import Gates
from kybern.machinery.status import ApiError
from kybern.machinery.warnings.versions import DEPRECATED
from kybern.storage.interface import Revision

# Resources that are questions, not objects: nothing of them is stored.
VIRTUAL = frozenset(
    {
        "bindings", "componentstatuses", "tokenreviews.authentication.k8s.io",
        "selfsubjectreviews.authentication.k8s.io", "localsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io", "selfsubjectrulesreviews.authorization.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
    }
)  # fmt: skip

_NO_SCHEMAS: Mapping[str, Any] = {}

# The server's own name in audit and admission.
SERVER = User("system:apiserver", groups=("system:masters",))


@dataclass(frozen=True, slots=True)
class Served:
    """A resource as one version shows it."""

    resource: Resource
    codec: ObjectCodec
    store: ResourceStore
    is_stored_version: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_stored_version", self.resource.api_version == self.store.resource.api_version)

    @property
    def has_protobuf(self) -> bool:
        """Whether its objects can be told in protobuf; the metadata of any object can."""
        return self.codec.struct is not None

    @property
    def printer(self) -> Printer | None:
        """How Tables show it, where that is not built in."""
        return None

    @property
    def warm(self) -> Callable[[Iterable[bytes]], Awaitable[None]] | None:
        """To be awaited with stored bytes before they are shown in this version; None: nothing is to be waited for."""
        return None

    @property
    def warning(self) -> str:
        """What every request for it is told."""
        resource = self.resource
        return DEPRECATED.get((resource.group, resource.version, resource.plural), "")

    @property
    def requested(self) -> Resource | None:
        """The version, for admission, where it is not the stored one."""
        return None if self.is_stored_version else self.resource

    def to_stored(self, obj: Any) -> Any:
        """An object of this version as one of the stored version. Raises ApiError 400."""
        if self.is_stored_version:
            return obj
        try:
            return self._convert(codec.to_json(obj), self.resource, self.store.resource, self.store.codec)
        except ValueError as error:
            kind = self.resource.kind
            raise ApiError.bad_request(
                f"{kind} cannot be converted to {self.store.resource.api_version}: {error}"
            ) from None

    def check(self, stored: Any, old: Any | None) -> None:
        """What this version asks for beyond the stored one; `old` is None if the object is new. Raises ApiError 422."""
        if self.is_stored_version:
            return
        faults = validation.validate_version(self.resource.api_version, stored, old)
        if faults:
            kept = self.store.resource
            raise ApiError.invalid(kept.group, kept.kind, stored.metadata.name, faults)

    def from_stored(self, data: bytes) -> Any:
        """Stored-version bytes as an object of this version."""
        obj = self.store.codec.decode_foreign(data)
        if self.is_stored_version:
            return obj
        return self._convert(codec.to_json(obj), self.store.resource, self.resource, self.codec)

    def bytes_from_stored(self, data: bytes) -> bytes:
        return data if self.is_stored_version else codec.encode(self.from_stored(data))

    def _convert(self, value: Any, source: Resource, target: Resource, kind: ObjectCodec) -> Any:
        converted = conversion.convert(value, source.kind, source.api_version, target.api_version)
        return kind.from_json(converted)[0]


class Objects:
    """request.Reader and request.Writer over the stores."""

    def __init__(self) -> None:
        self.stores: dict[str, ResourceStore] = {}

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        store = self.stores.get(resource)
        entry = store.cache.get(namespace, name) if store is not None else None
        return entry.object if entry is not None else None

    def list(self, resource: str, namespace: str | None = None) -> list[Any]:
        store = self.stores.get(resource)
        return [entry.object for entry in store.cache.entries(namespace)] if store is not None else []

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        store = self.stores.get(resource)
        if store is None:
            return []
        wanted = Selection(namespace, None, fields.FieldSelector(((field, "=", value),)), None)
        return [entry.object for entry in select(store.cache, wanted)]

    def version(self, resource: str) -> int:
        store = self.stores.get(resource)
        return store.cache.changed_at if store is not None else 0

    def changes(self, resource: str, since: int) -> Sequence[tuple[Any | None, Any | None]] | None:
        store = self.stores.get(resource)
        events = store.cache.events_after(Revision(since)) if store is not None else ()
        if events is None:
            return None
        # Decoded for the asker alone: what an entry once was is not kept as an object.
        return [(e.previous and e.previous.decode(), e.entry and e.entry.decode()) for e in events]

    async def create(self, resource: str, obj: Any) -> Any:
        store = self.stores[resource]
        owner = Owner(ownership.SERVER, store.resource.api_version)
        data = await store.create(obj, obj.metadata.namespace, Write(SERVER, admit=False, owner=owner))
        return store.codec.decode(data)

    async def update(self, resource: str, obj: Any) -> Any:
        store = self.stores[resource]
        # Status and spec at once: the server's own writes are whole.
        owner = Owner(ownership.SERVER, store.resource.api_version, _written(store, obj))
        write = Write(SERVER, subresource=WHOLE, admit=False, owner=owner)
        data, _ = await store.update(obj.metadata.namespace, obj.metadata.name, lambda _: obj, write)
        return store.codec.decode(data)

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        await self.stores[resource].delete(
            namespace, name, DeleteOptions(gracePeriodSeconds=0), Write(SERVER, admit=False)
        )


def _written(store: ResourceStore, obj: Any) -> str:
    """The subresource by which upstream writes what has changed: "status" where the spec is as it was."""
    current = store.cache.get(obj.metadata.namespace, obj.metadata.name)
    if current is None or all(subresource.name != "status" for subresource in store.resource.subresources):
        return ""
    return "status" if getattr(current.object, "spec", None) == getattr(obj, "spec", None) else ""


class Registry:
    """All resources. `by_path` is the look-up of every request."""

    def __init__(self, objects: Objects, is_enabled: Callable[[str, str], bool]) -> None:
        self.objects = objects
        self.is_enabled = is_enabled  # (group, version)
        self.by_path: dict[tuple[str, str, str], Served] = {}
        # What is not here yet but may be on its way: the custom resources. None: nothing will come.
        self.coming: Callable[[str, str, str], Awaitable[Served | None] | None] = lambda group, version, plural: None
        # Their rows (told before they are loaded) and OpenAPI definitions.
        self.custom_rows: Callable[[], Sequence[Resource]] = lambda: ()
        self.custom_schemas: Callable[[], Mapping[str, Any]] = lambda: _NO_SCHEMAS
        # Another one when what is served changes: what was found out under the last is then found out anew.
        self.edition = object()

    def get(self, group: str, version: str, plural: str) -> Served | None:
        return self.by_path.get((group, version, plural))

    def served(self) -> Iterable[Served]:
        return self.by_path.values()

    def add(self, served: Served) -> None:
        """Serve a resource from now on, in the place of what had its path."""
        resource = served.resource
        self.by_path[(resource.group, resource.version, resource.plural)] = served
        self.edition = object()

    def remove(self, group: str, version: str, plural: str) -> None:
        """Serve a resource no more."""
        if self.by_path.pop((group, version, plural), None) is not None:
            self.edition = object()


def _stored_version(versions: list[Resource]) -> Resource:
    """The most stable version of a resource (v1 before v1beta2 before v1alpha1); core events before the newer group."""

    def rank(resource: Resource) -> tuple[int, int]:
        version = resource.version
        stability = 2 if "alpha" in version else 1 if "beta" in version else 0
        number = int("".join(c for c in version.split("alpha")[0].split("beta")[0] if c.isdigit()) or 0)
        return stability, -number

    return min(versions, key=rank)


def build(
    feed: Feed,
    gate: Gate,
    clock: Clock,
    rng: random.Random,
    is_enabled: Callable[[str, str], bool],
    service_cidr: str,
    node_port_range: tuple[int, int],
    gates: Gates,
) -> Registry:
    """Make a store for every enabled built-in resource."""
    objects = Objects()
    registry = Registry(objects, is_enabled)
    context = Context(objects, objects, clock, rng, service_cidr, node_port_range, gates)
    families: dict[str, list[Resource]] = {}
    for resource in scheme.RESOURCES:
        if is_enabled(resource.group, resource.version) and resource.group_resource not in VIRTUAL:
            # Events of both groups are one resource.
            family = "events" if resource.plural == "events" else resource.group_resource
            families.setdefault(family, []).append(resource)
    for family, versions in families.items():
        stored = next((r for r in versions if family == "events" and not r.group), None) or _stored_version(versions)
        struct = scheme.struct_of(stored.api_version, stored.kind)
        assert struct is not None, stored
        make = strategies.STRATEGIES.get(stored.group_resource)
        strategy = make(context, stored) if make is not None else Strategy(context, stored)
        store = ResourceStore(
            stored,
            strategy,
            keys.prefix_of(stored),
            struct_codec(stored, struct),
            feed,
            gate,
            clock,
            rng,
            Ownership(stored, BuiltIn(versions), clock),
        )
        objects.stores[family] = store
        for resource in versions:
            own = scheme.struct_of(resource.api_version, resource.kind)
            assert own is not None, resource
            registry.add(Served(resource, struct_codec(resource, own), store))
    return registry
