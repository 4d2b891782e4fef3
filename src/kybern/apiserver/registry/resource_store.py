"""Write one resource: the rules of create, update and delete, over the store with optimistic concurrency.

Called by handlers with decoded objects, writes storage, waits for watch_cache. Returns bytes as clients get them.
Promise: what is returned was durable before, and is what every later read shows.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from kybern.api.meta_v1 import DeleteOptions
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes, Operation
from kybern.apiserver.registry import keys, metadata
from kybern.apiserver.registry.extract import Extract
from kybern.apiserver.registry.object_codec import ObjectCodec
from kybern.apiserver.registry.ownership import Owner, Ownership
from kybern.apiserver.registry.strategy import Strategy
from kybern.apiserver.request import User
from kybern.apiserver.watch_cache.cache import ResourceCache
from kybern.apiserver.watch_cache.entry import Entry, splice
from kybern.apiserver.watch_cache.feed import Feed
from kybern.apiserver.watch_cache.hub import Hub
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError, FieldError
from kybern.pausing import pause
from kybern.storage import interface as storage

log = structlog.get_logger(__name__)

# generateName collides once in 27**5; more than a few in a row means that the name's space is full.
_NAME_TRIES = 8
# An unconditional update that loses this many races in a row is answered with a conflict. Every round has a winner, so
# this is how many writers may want one object at once.
_UPDATE_TRIES = 512
WHOLE = "whole"  # as a subresource: spec and status at once, as only the server itself writes them

Half = Callable[[Attributes], Awaitable[None] | None]


class Gate(Protocol):
    """Admission in its two halves: what may change a write comes before validation, what judges it after."""

    @property
    def mutate(self) -> Half: ...

    @property
    def validate(self) -> Half: ...


class Face(Protocol):
    """An object as a subresource shows it: a Scale instead of a Deployment."""

    subresource: str

    def of(self, obj: Any) -> Any:
        """A new one."""
        ...

    def put_back(self, obj: Any, seen: Any) -> None:
        """What admission made of it, into the object. Raises ApiError."""
        ...


@dataclass(slots=True)
class Write:
    """Who writes and how: what all verbs share."""

    user: User
    dry_run: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)
    options: Any = None
    admit: bool = True  # False: the server's own writes
    owner: Owner | None = None  # of what it changes; None leaves managedFields as they are
    is_apply: bool = False  # the object brings the managedFields that `Ownership.applied` made
    requested: Resource | None = None  # the version the client named, where it is not the stored one
    is_collection: bool = False  # one of many, of a deletecollection
    face: Face | None = None  # what admission sees instead of the object


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: the object's last bytes, and whether it is gone."""

    data: bytes
    gone: bool
    uid: str


class ResourceStore:
    """One resource in the store and in memory."""

    def __init__(
        self,
        resource: Resource,
        strategy: Strategy,
        prefix: str,
        codec: ObjectCodec,
        feed: Feed,
        gate: Gate,
        clock: Clock,
        rng: random.Random,
        ownership: Ownership,
        memory: tuple[ResourceCache, Hub] | None = None,
    ) -> None:
        """`memory`: that of another version of the resource, which both show; without it, one of its own."""
        self.resource = resource
        self.strategy = strategy
        self.prefix = prefix
        self.codec = codec
        self.ownership = ownership
        if memory is None:
            cache = ResourceCache(resource, prefix, codec, Extract(codec, strategy))
            memory = cache, feed.add(cache)
        self.cache, self.hub = memory
        self._feed = feed
        self._store = feed.store
        self._gate = gate
        self._clock = clock
        self._rng = rng

    # -- reads ---------------------------------------------------------------------------------------------------

    def entry(self, namespace: str, name: str, write: Write | None = None) -> Entry:
        """Raises ApiError 404, in the words of who writes."""
        found = self.cache.get(namespace, name)
        if found is None:
            resource = (write.requested if write is not None else None) or self.resource
            raise ApiError.not_found(resource.group, resource.plural, name)
        return found

    # -- create --------------------------------------------------------------------------------------------------

    async def create(self, obj: Any, namespace: str, write: Write) -> bytes:
        """Store a new object; returns its bytes. Raises ApiError."""
        metadata.check_namespace(self.resource, obj.metadata, namespace)
        metadata.drop_repeated_owners(obj.metadata, write.warnings)
        version = obj.metadata.resourceVersion  # what is no number is taken for none, as upstream
        has_version = version is not None and not write.dry_run and version.isdecimal() and int(version) > 0
        generated = not obj.metadata.name and bool(obj.metadata.generateName)
        for attempt in range(_NAME_TRIES):
            if generated:
                obj.metadata.name = ""
            try:
                return await self._create_once(obj, namespace, write, has_version)
            except ApiError as error:
                if not (generated and error.is_already_exists) or attempt == _NAME_TRIES - 1:
                    raise
        raise AssertionError("the loop returns or raises")

    async def _create_once(self, obj: Any, namespace: str, write: Write, has_version: bool) -> bytes:
        # What admission may change is what the client said; the server's share comes after, so that nobody changes it.
        self.strategy.apply_defaults(obj)
        pause()
        if not write.is_apply:
            obj.metadata.managedFields = self.ownership.created(obj, write.owner) if write.owner is not None else []
        attributes = self._attributes("CREATE", obj, None, namespace, write)
        obj = await self._mutated(obj, attributes, write)
        metadata.check_namespace(self.resource, obj.metadata, namespace)
        metadata.fill_on_create(obj.metadata, self._clock.now(), self._rng)
        self.strategy.prepare_create(obj, write.user)
        pause()
        attributes.name = obj.metadata.name
        self._refuse(self.strategy.validate_create(obj), obj.metadata.name)
        if write.admit:
            write.warnings.extend(self.strategy.warnings_on_create(obj))
        name = obj.metadata.name
        existing = self.cache.get(namespace, name)
        if existing is not None and not has_version:
            raise self._exists(existing, write)
        give_back = await self.strategy.allocate(obj, None, dry_run=write.dry_run) or _nothing
        try:
            await self._pass(self._gate.validate, attributes, write)  # judges also what was allocated
            if has_version:  # as upstream: the store's objection, after everybody else's
                raise ApiError.bad_request("resourceVersion should not be set on objects to be created")
            if self.codec.converter is not None:
                await self.codec.converter.warm_object(obj)
            value = self._encode(obj)
            if write.dry_run:
                give_back()
                return value
            key = keys.key_of(self.prefix, namespace, name)
            record = await self._stored(value, obj, self._store.create(key, value))
        except storage.KeyExists:
            give_back()
            raise ApiError.already_exists(*self._asked(write), name) from None
        except Exception:  # not when cancelled: the write may still happen, and the pool forgets by itself
            give_back()
            raise
        await self._feed.wait_until(record.mod_revision)
        return splice(value, record.mod_revision)

    def _asked(self, write: Write) -> tuple[str, str]:
        """Group and plural, in the words of who asks."""
        resource = write.requested or self.resource
        return resource.group, resource.plural

    def _exists(self, existing: Entry, write: Write) -> ApiError:
        error = ApiError.already_exists(*self._asked(write), existing.name)
        if existing.object.metadata.deletionTimestamp is not None:
            error.status.message = f"object is being deleted: {error.status.message}"
        return error

    # -- update --------------------------------------------------------------------------------------------------

    async def update(
        self,
        namespace: str,
        name: str,
        change: Callable[[Entry], Any],
        write: Write,
        *,
        create_missing: Callable[[], Any] | None = None,
    ) -> tuple[bytes, bool]:
        """Store `change(current)`; returns (bytes, whether it was created).

        `change` gets the current entry and returns a private new object; it runs again when the write lost a race and
        the new object carries no resourceVersion. `create_missing` gives the object to create where there is none, or
        raises ApiError; without it a missing object is an error.
        """
        expected = self.cache.get(namespace, name)
        for _ in range(_UPDATE_TRIES):
            if expected is None:
                if create_missing is not None:
                    missing = create_missing()
                    missing.metadata.resourceVersion = ""
                    return await self.create(missing, namespace, write), True
                raise ApiError.not_found(*self._asked(write), name)
            if self.codec.converter is not None:
                await self.codec.converter.warm((expected.data,))
            obj = change(expected)
            asked = obj.metadata.resourceVersion
            if asked and asked != str(expected.revision):
                raise ApiError.stale(*self._asked(write), name)
            data = await self._update_once(expected, obj, write)
            if data is not None:
                return data, False
            seen, expected = expected, self.cache.get(namespace, name)
            if expected is seen:
                break  # this store's memory is not kept up any more: the resource is served by another
            if asked and expected is not None:
                raise ApiError.stale(*self._asked(write), name)
        raise ApiError.stale(*self._asked(write), name)

    async def _update_once(self, current: Entry, obj: Any, write: Write) -> bytes | None:
        """The new bytes, or None where another write came first."""
        old = self.codec.view(current)
        name = current.name
        if obj.metadata.uid and obj.metadata.uid != old.metadata.uid:
            why = (
                f"StorageError: invalid object, Code: 4, Key: {current.key}, ResourceVersion: 0, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {obj.metadata.uid}, UID in object meta: {old.metadata.uid}"
            )
            raise ApiError.conflict(*self._asked(write), name, why)
        metadata.check_name(obj.metadata, name)
        metadata.check_namespace(self.resource, obj.metadata, current.namespace)
        metadata.drop_repeated_owners(obj.metadata, write.warnings)
        metadata.keep_on_update(obj.metadata, old.metadata)
        # Defaults first: a client that leaves them out has not changed the spec, and the generation must not rise.
        self.strategy.apply_defaults(obj)
        pause()
        if write.owner is None:
            obj.metadata.managedFields = list(old.metadata.managedFields)
        elif not write.is_apply:
            obj.metadata.managedFields = self.ownership.updated(old, obj, write.owner)
        obj.metadata.resourceVersion = str(current.revision)
        attributes = self._attributes("UPDATE", obj, old, current.namespace, write)
        obj = await self._mutated(obj, attributes, write)
        metadata.check_name(obj.metadata, name)
        metadata.check_namespace(self.resource, obj.metadata, current.namespace)
        metadata.keep_on_update(obj.metadata, old.metadata)
        pause()
        errors = self._prepare_update(obj, old, write)
        self._refuse(errors(obj, old), name)
        if write.admit and not write.subresource:
            write.warnings.extend(self.strategy.warnings_on_update(obj, old))
        obj.metadata.resourceVersion = str(current.revision)
        if write.face is not None:
            attributes.object = write.face.of(obj)
        give_back = _nothing
        if not write.subresource:
            give_back = await self.strategy.allocate(obj, old, dry_run=write.dry_run) or _nothing
        try:
            await self._pass(self._gate.validate, attributes, write)  # judges also what was allocated
            if self.codec.converter is not None:
                await self.codec.converter.warm_object(obj)
            value = self._encode(obj)
            data: bytes | None = splice(value, current.revision)
            unchanged = value == current.value and not current.is_stored_otherwise
            if unchanged and not await self._feed.is_stale(current.key):
                pass  # nothing changed: nothing is written
            elif write.dry_run:
                give_back()
            elif self._is_finished(obj):
                data = await self._remove(current, obj)
            else:
                data = await self._replace(current, value, obj)
        except Exception:  # not when cancelled, as in create
            give_back()
            raise
        if data is None:
            give_back()
        return data

    def _prepare_update(self, obj: Any, old: Any, write: Write) -> Callable[[Any, Any], list[FieldError]]:
        """Apply the rules of the (sub)resource; returns the validation that goes with them."""
        if write.subresource == "status":
            self.strategy.prepare_status_update(obj, old)
            return self.strategy.validate_status_update
        if write.subresource == WHOLE:
            return self.strategy.validate_update
        if write.subresource:
            prepare = getattr(self.strategy, f"prepare_{write.subresource}_update", None)
            if prepare is not None:
                prepare(obj, old)
            return getattr(self.strategy, f"validate_{write.subresource}_update", _nothing_wrong)
        self.strategy.prepare_update(obj, old)
        return self.strategy.validate_update

    async def _replace(self, current: Entry, value: bytes, obj: Any) -> bytes | None:
        try:
            record = await self._stored(value, obj, self._store.update(current.key, value, current.revision))
        except storage.RevisionMismatch as error:
            await self._feed.wait_until(error.record.mod_revision)
            return None
        except storage.KeyMissing:
            await self._feed.wait_until(self._store.revision)
            return None
        await self._feed.wait_until(record.mod_revision)
        return splice(value, record.mod_revision)

    async def _remove(self, current: Entry, obj: Any) -> bytes | None:
        try:
            record = await self._stored(b"", None, self._store.delete(current.key, current.revision))
        except storage.RevisionMismatch as error:
            await self._feed.wait_until(error.record.mod_revision)
            return None
        except storage.KeyMissing:
            await self._feed.wait_until(self._store.revision)
            return None
        await self._feed.wait_until(record.mod_revision)
        self.strategy.after_delete(obj)
        return splice(self._encode(obj), record.mod_revision)

    # -- delete --------------------------------------------------------------------------------------------------

    async def delete(self, namespace: str, name: str, options: DeleteOptions, write: Write) -> Deleted:
        """Begin or finish the removal of an object, by its grace period and finalizers. Raises ApiError."""
        write.warnings.extend(self.strategy.warnings_on_delete(options))
        for _ in range(_UPDATE_TRIES):
            current = self.entry(namespace, name, write)
            if self.codec.converter is not None:
                await self.codec.converter.warm((current.data,))
            self._check_preconditions(current, options)
            attributes = self._attributes("DELETE", None, self.codec.view(current), namespace, write)
            await self._pass(self._gate.mutate, attributes, write)
            await self._pass(self._gate.validate, attributes, write)
            done = await self._delete_once(current, options, write)
            if done is not None:
                return done
        raise ApiError.stale(*self._asked(write), name)

    async def _delete_once(self, current: Entry, options: DeleteOptions, write: Write) -> Deleted | None:
        obj = current.decode()
        obj.metadata.resourceVersion = ""
        uid = obj.metadata.uid
        self.strategy.before_delete(obj)
        grace = self.strategy.graceful_seconds(obj, options.gracePeriodSeconds)
        already = obj.metadata.deletionTimestamp is not None
        if already and grace >= (obj.metadata.deletionGracePeriodSeconds or 0) > 0:
            return Deleted(current.data, False, uid)  # it is going, and no sooner for this
        if self.strategy.has_dependents:
            default = None if obj.metadata.deletionTimestamp is not None else self.strategy.default_propagation
            obj.metadata.finalizers = metadata.finalizers_after(
                obj, options.propagationPolicy, options.orphanDependents, default
            )
        else:
            obj.metadata.finalizers = metadata.finalizers_after(obj, "Background", None)
        if grace == 0 and self.strategy.may_go(obj):
            if self.strategy.is_graceful:
                metadata.mark_deleted(obj.metadata, self._clock.now(), 0)
            if write.dry_run:
                return Deleted(splice(self._encode(obj), current.revision), True, uid)
            data = await self._remove(current, obj)
            return None if data is None else Deleted(data, True, uid)
        metadata.mark_deleted(obj.metadata, self._clock.now(), grace)
        if not already:
            self.strategy.begin_deletion(obj)
        value = self._encode(obj)
        if value == current.value:
            return Deleted(current.data, False, uid)
        if write.dry_run:
            return Deleted(splice(value, current.revision), False, uid)
        data = await self._replace(current, value, obj)
        return None if data is None else Deleted(data, False, uid)

    def _check_preconditions(self, current: Entry, options: DeleteOptions) -> None:
        wanted = options.preconditions
        if wanted is None:
            return
        uid = current.object.metadata.uid
        why = ""
        if wanted.uid is not None and wanted.uid != uid:
            why = (
                f"the UID in the precondition ({wanted.uid}) does not match the UID in record ({uid}). "
                "The object might have been deleted and then recreated"
            )
        elif wanted.resourceVersion is not None and wanted.resourceVersion != str(current.revision):
            why = (
                f"the ResourceVersion in the precondition ({wanted.resourceVersion}) does not match the "
                f"ResourceVersion in record ({current.revision}). The object might have been modified"
            )
        if why:
            raise ApiError.conflict(self.resource.group, self.resource.kind, current.name, why)

    def _is_finished(self, obj: Any) -> bool:
        """A deleted object whose last finalizer has just gone and that has no time left to wait for."""
        meta = obj.metadata
        return (
            meta.deletionTimestamp is not None
            and (meta.deletionGracePeriodSeconds or 0) == 0
            and self.strategy.may_go(obj)
        )

    # -- shared --------------------------------------------------------------------------------------------------

    def _attributes(self, operation: Operation, obj: Any, old: Any, namespace: str, write: Write) -> Attributes:
        """The write as admission sees it."""
        name = (obj or old).metadata.name
        face = write.face
        if face is not None:
            obj, old = (face.of(each) if each is not None else None for each in (obj, old))
        return Attributes(
            operation=operation,
            resource=self.resource,
            subresource=face.subresource if face is not None else write.subresource,
            namespace=namespace,
            name=name,
            object=obj,
            old=old,
            user=write.user,
            dry_run=write.dry_run,
            options=write.options,
            warnings=write.warnings,
            requested=write.requested,
            is_collection=write.is_collection,
        )

    async def _mutated(self, obj: Any, attributes: Attributes, write: Write) -> Any:
        """The object after the half of admission that may change it, or put another one in its place."""
        owners = obj.metadata.managedFields
        await self._pass(self._gate.mutate, attributes, write)
        if write.face is not None:
            write.face.put_back(obj, attributes.object)
            return obj
        admitted = attributes.object
        assert admitted is not None, "there is an object after a create or update"
        admitted.metadata.managedFields = owners  # what admission adds has no owner, as upstream
        return admitted

    async def _pass(self, half: Half, attributes: Attributes, write: Write) -> None:
        """One half of admission; only what waits costs a task switch."""
        waiting = half(attributes) if write.admit else None
        if waiting is not None:
            await waiting

    def _refuse(self, errors: list[FieldError], name: str) -> None:
        if errors:
            raise ApiError.invalid(self.resource.group, self.resource.kind, name, errors)

    def _encode(self, obj: Any) -> bytes:
        """The value for the store."""
        obj.metadata.resourceVersion = ""
        return self.codec.encode(obj)

    async def _stored(self, value: bytes, obj: Any, writing: Awaitable[storage.Record]) -> storage.Record:
        """Write `value`, with what selectors need of `obj` (None: a deletion) kept aside for the cache."""
        if obj is not None:
            self.cache.prepare(value, obj.metadata.labels, self.strategy.selectable_fields(obj))
        try:
            return await writing
        except storage.StoreError as error:
            self.cache.forget(value)
            if isinstance(error, storage.StoreUnavailable):
                raise ApiError.unavailable(f"the store takes no writes: {error}") from error
            raise


def _nothing() -> None:
    pass


def _nothing_wrong(_obj: Any, _old: Any) -> list[FieldError]:
    return []
