"""The custom resources that are served now: rows for discovery, stores and codecs for requests.

Told by the watch cache of every change of a CustomResourceDefinition, at once and in order. What a changed definition
brings is made anew, as a `Family`, and its objects are loaded from the store; meanwhile requests for it wait (`find`).
What was served before ends: its watches are closed, and clients take up where they were.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from kybern.api.apiextensions_v1 import CustomResourceDefinition
from kybern.api.resource import Resource
from kybern.apiserver.custom_resources import conditions, publish
from kybern.apiserver.custom_resources.codec import CustomCodec
from kybern.apiserver.custom_resources.convert import (
    Conversions,
    ConvertedCache,
    ConvertedFields,
    StoredCodec,
    WebhookCodec,
)
from kybern.apiserver.custom_resources.fields import CustomFields
from kybern.apiserver.custom_resources.served import CustomServed
from kybern.apiserver.custom_resources.strategy import CustomStrategy
from kybern.apiserver.custom_resources.version import Version, stored_version
from kybern.apiserver.registry import keys
from kybern.apiserver.registry.ownership import Ownership
from kybern.apiserver.registry.registry import Registry, Served
from kybern.apiserver.registry.resource_store import Gate, ResourceStore
from kybern.apiserver.registry.strategy import Context
from kybern.apiserver.watch_cache.cache import Event, ResourceCache
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.watch_cache.hub import Hub
from kybern.apiserver.webhooks.client import WebhookClient
from kybern.machinery.clock import Clock
from kybern.storage.interface import StoreError

log = structlog.get_logger(__name__)

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
RETRY_SECONDS = 1.0
# What may still be done with objects of a definition that is on its way out; writes too, but nobody is told.
_LAST_VERBS = ("delete", "deletecollection", "get", "list", "watch")


class Family:
    """All versions of one definition, as of one state of it."""

    def __init__(self, definition: CustomResourceDefinition) -> None:
        self.definition = definition
        self.versions = {v.name: Version(definition, v) for v in definition.spec.versions}
        self.served = tuple(self.versions[v.name] for v in definition.spec.versions if v.served)
        self.is_terminating = conditions.has(definition, "Terminating")
        self.settled = asyncio.Event()  # loaded, or replaced by another before that
        self.cache: ResourceCache | None = None
        self.hub = Hub()
        self.conversions: Conversions | None = None  # by webhook

    def rows(self) -> list[Resource]:
        """What discovery tells."""
        rows = [version.resource for version in self.served]
        return [replace(row, verbs=_LAST_VERBS) for row in rows] if self.is_terminating else rows

    def is_like(self, definition: CustomResourceDefinition) -> bool:
        """Whether objects are served alike under another state of the definition."""
        own = self.definition
        return (
            own.metadata.uid == definition.metadata.uid
            and own.spec == definition.spec
            and own.status.acceptedNames == definition.status.acceptedNames
        )


class CustomResources:
    """Built by server with the registry; `start` once the store is loaded."""

    def __init__(
        self,
        registry: Registry,
        feed: Feed,
        gate: Gate,
        clock: Clock,
        rng: random.Random,
        webhooks: WebhookClient,
    ) -> None:
        self._registry = registry
        self._feed = feed
        self._gate = gate
        self._clock = clock
        self._rng = rng
        self._webhooks = webhooks
        objects = registry.objects
        self._context = Context(objects, objects, clock, rng)
        self._built_in = frozenset(registry.by_path)
        self._families: dict[str, Family] = {}  # by the definition's name
        self._paths: dict[tuple[str, str, str], Family] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._rows: tuple[Resource, ...] = ()
        self._schemas: Mapping[str, Any] = {}
        registry.custom_rows = self.rows
        registry.custom_schemas = self.schemas
        registry.coming = self.find

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Serve what is defined, and follow. After the feed is loaded."""
        self._tasks = tasks
        store = self._registry.objects.stores[DEFINITIONS]
        store.hub.listen(self._changed)
        for entry in store.cache.entries():
            self._take(entry.object)

    # -- what others ask -----------------------------------------------------------------------------------------

    def rows(self) -> tuple[Resource, ...]:
        """For discovery; the same tuple until something changes."""
        return self._rows

    def schemas(self) -> Mapping[str, Any]:
        """For OpenAPI, by name; replaced when something changes."""
        return self._schemas

    def find(self, group: str, version: str, plural: str) -> Awaitable[Served | None] | None:
        """What is served at a path, once it is; None if nothing ever will be."""
        path = (group, version, plural)
        return self._when_loaded(path) if path in self._paths else None

    async def _when_loaded(self, path: tuple[str, str, str]) -> Served | None:
        while (family := self._paths.get(path)) is not None:
            await family.settled.wait()
            found = self._registry.get(*path)
            if found is not None:
                return found
        return None

    # -- definitions come, change and go -------------------------------------------------------------------------

    def _changed(self, event: Event) -> None:
        if event.entry is not None:
            self._take(event.entry.object)
        elif event.previous is not None:
            self._drop(event.previous.name)
            self._publish()

    def _take(self, definition: CustomResourceDefinition) -> None:
        name = definition.metadata.name
        old = self._families.get(name)
        if not conditions.has(definition, "Established") or not any(v.storage for v in definition.spec.versions):
            self._drop(name)
        elif old is not None and old.is_like(definition):
            old.is_terminating = conditions.has(definition, "Terminating")
        else:
            self._drop(name)
            family = self._families[name] = Family(definition)
            if needs_webhook(definition):
                family.conversions = Conversions(definition, self._webhooks, self._rng)
            for version in family.served:
                path = (definition.spec.group, version.name, version.resource.plural)
                if path not in self._built_in:
                    self._paths[path] = family
            assert self._tasks is not None
            self._tasks.create_task(self._load(family, old), name=f"load {name}")
        self._publish()

    def _drop(self, name: str) -> None:
        """Serve a definition's objects no more; its watches end."""
        family = self._families.pop(name, None)
        if family is None:
            return
        for path in [path for path, owner in self._paths.items() if owner is family]:
            del self._paths[path]
            self._registry.remove(*path)
        self._registry.objects.stores.pop(name, None)
        if family.cache is not None:
            self._feed.leave(family.cache)
        family.hub.close()

    def _publish(self) -> None:
        families = [self._families[name] for name in sorted(self._families)]
        rows = tuple(row for family in families for row in family.rows() if self._is_ours(row))
        if rows != self._rows or any(family.settled.is_set() is False for family in families):
            self._rows = rows
            self._schemas = publish.definitions([version for family in families for version in family.served])

    def _is_ours(self, row: Resource) -> bool:
        return (row.group, row.version, row.plural) not in self._built_in

    async def _load(self, family: Family, old: Family | None) -> None:
        """Bring a family's objects into memory, and let requests in."""
        if old is not None:
            await old.settled.wait()  # two must not load the same objects at once
        name = family.definition.metadata.name
        try:
            while self._families.get(name) is family:
                try:
                    cache = self._new_cache(family)
                    await self._feed.join(cache, family.hub)
                except StoreError as error:
                    log.warning("cannot load custom objects", definition=name, error=str(error))
                    await self._clock.sleep(RETRY_SECONDS)
                    continue
                family.cache = cache
                if self._families.get(name) is family:
                    self._admit(family, cache)
                else:
                    self._feed.leave(cache)
                break
        finally:
            family.settled.set()

    def _new_cache(self, family: Family) -> ResourceCache:
        stored = self._stored(family)
        conversions = family.conversions
        codec = CustomCodec(stored) if conversions is None else StoredCodec(stored)
        strategy = CustomStrategy(self._context, stored, _selectable(family), family)

        def index(value: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
            try:
                obj = codec.decode_foreign(value)
            except ValueError as error:
                log.error("an object in the store is not of its type", kind=codec.kind, error=str(error))
                return {}, {}
            if conversions is None:
                return obj.metadata.labels, strategy.selectable_fields(obj)
            plain = {"metadata.name": obj.metadata.name, "metadata.namespace": obj.metadata.namespace}
            return obj.metadata.labels, ConvertedFields(value, plain, selecting, conversions)

        selecting = {name: (v, path) for v in family.versions.values() for name, path in v.selectable.items()}
        prefix = keys.prefix_of(stored.resource, custom=True)
        kind = ResourceCache if conversions is None else ConvertedCache
        return kind(stored.resource, prefix, codec, index)

    def _admit(self, family: Family, cache: ResourceCache) -> None:
        memory = (cache, family.hub)
        stored = self._stored(family)
        fields = CustomFields(family.versions)
        for version in {stored.name: stored, **{v.name: v for v in family.served}}.values():
            strategy = CustomStrategy(self._context, version, _selectable(family), family)
            conversions = family.conversions
            codec = CustomCodec(version) if conversions is None else WebhookCodec(version, conversions)
            store = ResourceStore(
                version.resource, strategy, cache.prefix, codec, self._feed, self._gate, self._clock,
                self._rng, Ownership(version.resource, fields, self._clock, is_custom=True), memory,
            )  # fmt: skip
            if version is stored:
                self._registry.objects.stores[family.definition.metadata.name] = store
            if self._paths.get((version.resource.group, version.name, version.resource.plural)) is family:
                self._registry.add(CustomServed(version.resource, store.codec, store, version))

    def _stored(self, family: Family) -> Version:
        return family.versions[stored_version(family.definition).partition("/")[2]]


def needs_webhook(definition: CustomResourceDefinition) -> bool:
    """Whether objects may have to be converted by a webhook: there is one, and there are versions to convert."""
    conversion = definition.spec.conversion
    return conversion is not None and conversion.strategy == "Webhook" and len(definition.spec.versions) > 1


def _selectable(family: Family) -> dict[str, Any]:
    return {name: path for version in family.versions.values() for name, path in version.selectable.items()}
