"""Who owns which fields of a resource's objects: metadata.managedFields of every write.

Asked by registry/resource_store after defaults and before anything the server itself changes (so that nobody owns what
the server decides), and by handlers/apply. The rules are machinery/merge/structured; here are the kinds' versions,
empty objects and the fields that an endpoint resets. Promise: an object whose managedFields make no sense is written
all the same, with those it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from kybern.api import codec, scalars
from kybern.api.meta_v1 import ManagedFieldsEntry
from kybern.api.resource import Resource
from kybern.apiserver.registry import resets
from kybern.machinery import conversion, scheme
from kybern.machinery.clock import Clock
from kybern.machinery.merge.structured import compare, fields, first, last_applied, managers, rules, schema
from kybern.machinery.merge.structured.managers import Key, Manager
from kybern.machinery.merge.structured.rules import Writing
from kybern.machinery.merge.structured.schema import Node

# The server's own name among managers.
SERVER = "kube-apiserver"

FORGET = [ManagedFieldsEntry()]
"""What a client sends so that nobody is tracked any more; handlers put it for an explicit empty list, too."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a write makes the owner of what it changes."""

    name: str
    api_version: str  # that the writer speaks
    subresource: str = ""


class SchemaSource(Protocol):
    """The types of one kind in all its versions. Custom resources bring their own."""

    def node(self, api_version: str) -> Node | None:
        """None where there is no such version."""
        ...

    def empty(self, api_version: str) -> dict[str, Any]:
        """What an object is before anybody has said anything: its structs, empty."""
        ...

    def convert(self, value: dict[str, Any], source: str, target: str) -> dict[str, Any]:
        """Raises ValueError."""
        ...


class BuiltIn:
    """The versions of a built-in kind."""

    def __init__(self, versions: list[Resource]) -> None:
        self._versions = {resource.api_version: resource for resource in versions}
        self._nodes: dict[str, Node | None] = {}
        self._empty: dict[str, dict[str, Any]] = {}

    def node(self, api_version: str) -> Node | None:
        try:
            return self._nodes[api_version]
        except KeyError:
            resource = self._versions.get(api_version)
            if resource is None:
                return None  # not remembered: clients may name anything
            node = schema.of_definition(resource.definition)
            self._nodes[api_version] = node
            return node

    def empty(self, api_version: str) -> dict[str, Any]:
        found = self._empty.get(api_version)
        if found is None:
            struct = scheme.struct_of(api_version, self._versions[api_version].kind)
            assert struct is not None, api_version
            node = self.node(api_version)
            assert node is not None, api_version
            found = self._empty[api_version] = _with_structs(node, codec.to_json(struct()))
        return found

    def convert(self, value: dict[str, Any], source: str, target: str) -> dict[str, Any]:
        kind = self._versions[source].kind
        struct = scheme.struct_of(target, kind)
        assert struct is not None, target
        converted = conversion.convert(value, kind, source, target)
        return _without_managers(codec.to_json(codec.from_json(struct, converted)[0]))


def _with_structs(node: Node, value: dict[str, Any]) -> dict[str, Any]:
    """An empty object with exactly the structs that upstream's has, and theirs."""
    known = {**node.required, **{name: inner for name, inner in value.items() if not isinstance(inner, dict)}}
    for name in node.structs:
        own = node.fields.get(name)
        if own is not None:
            known[name] = _with_structs(own, value.get(name) or {})
    return known


class Ownership:
    """The rules for one resource."""

    def __init__(self, resource: Resource, source: SchemaSource, clock: Clock, *, is_custom: bool = False) -> None:
        self._stored = resource.api_version
        self._is_custom = is_custom
        self._source = source
        self._clock = clock
        self._resets = resets.of_resource(resource, is_custom=is_custom)
        self._hidden = first.hidden_of(fields.union(managers.SERVERS_OWN, self._resets.get("", fields.LEAF)))

    def node_of(self, api_version: str) -> Node | None:
        """How the kind merges in one of its versions."""
        return self._source.node(api_version)

    def created(self, obj: Any, owner: Owner) -> list[ManagedFieldsEntry]:
        """The entries of a new object that has its defaults."""
        time = scalars.render_time(self._clock.now())
        try:
            value = self._value(obj, owner.api_version)
            node = self._node(owner)
            empty = self._source.empty(owner.api_version)
            if obj.metadata.managedFields:
                given = self._decode(obj.metadata.managedFields) or {}
                ignored = self._resets.get(owner.subresource, fields.LEAF)
                writing = Writing(owner.name, owner.api_version, owner.subresource, time, ignored)
                return managers.encode(rules.update(self._source, empty, value, given, writing))
            text = first.text_of(node, empty, value, self._hidden)
        except ValueError:
            return []
        if not text:
            return []
        entry = ManagedFieldsEntry(
            apiVersion=owner.api_version,
            fieldsType=managers.FIELDS_TYPE,
            fieldsV1=scalars.FieldsV1.of(text.encode()),
            manager=owner.name or None,
            operation=managers.UPDATE,
            time=time,
        )
        return [entry]

    def updated(self, old: Any, obj: Any, owner: Owner) -> list[ManagedFieldsEntry]:
        """The entries of `obj`, which takes the place of `old`; those that it brings count, if it is a whole object."""
        before: list[ManagedFieldsEntry] = old.metadata.managedFields
        given: list[ManagedFieldsEntry] = obj.metadata.managedFields
        if owner.subresource or not given or given == before:
            given = before
        elif given == FORGET:
            return []
        owners = self._decode(given)
        if owners is None and given is not before:
            given = before
            owners = self._decode(before)
        if not owners:
            return [] if owners is not None else list(before)  # nobody is tracked, or nobody can be made out
        is_scale = owner.subresource == "scale"
        if is_scale and not self._is_custom and not any(map(_has_replicas, owners.values())):
            return list(before)  # to a Scale this object has no managers: nobody is tracked
        try:
            live, new = self._value(old, owner.api_version), self._value(obj, owner.api_version)
            if is_scale:
                new = _scaled(live, new)
            if live == new and given is before:
                return list(before)
            after = rules.update(self._source, live, new, owners, self._writing(owner))
            if after is owners and given is before:
                return list(before)
        except ValueError:
            return list(before)
        return _settled_times(managers.encode(after), before)

    def applied(self, old: Any | None, config: dict[str, Any], owner: Owner, *, force: bool) -> dict[str, Any]:
        """The object that `config` makes of `old` (None: of nothing), as JSON of the owner's version, with its entries.

        Raises structured errors (Conflicts, TypedError), ValueError for anything else that does not fit.
        """
        version = owner.api_version
        writing = self._writing(owner)
        owners: dict[Key, Manager] = {}
        if old is None:
            live = self._source.empty(version)
        else:
            live = compare.without_zeroes(self._node(owner), self._value(old, version))
            owners = self._decode(old.metadata.managedFields) or self._untracked(live, writing)
        done = last_applied.apply(self._source, live, config, owners, writing, force=force)
        value = dict(done.value)
        entries = managers.encode(done.managers)
        if old is not None:
            entries = _settled_times(entries, old.metadata.managedFields)
        value["metadata"] = {**(value.get("metadata") or {}), "managedFields": codec.to_json(entries)}
        return value

    def _untracked(self, live: dict[str, Any], writing: Writing) -> dict[Key, Manager]:
        """Whoever wrote an object of which nobody kept track, as one manager."""
        everything = compare.compare(self._node(writing), self._source.empty(writing.api_version), live).changed
        owned = managers.strip(fields.without(everything, writing.ignored))
        if not owned:
            return {}
        whoever = Manager(managers.BEFORE_FIRST_APPLY, managers.UPDATE, writing.api_version, "", writing.time, owned)
        return {whoever.key: whoever}

    def _decode(self, entries: list[ManagedFieldsEntry]) -> dict[Key, Manager] | None:
        """None for entries that make no sense."""
        try:
            return managers.decode(entries, self._source.node)
        except (ValueError, msgspec.DecodeError):
            return None

    def _writing(self, owner: Owner) -> Writing:
        now = scalars.render_time(self._clock.now())
        ignored = self._resets.get(owner.subresource, fields.LEAF)
        return Writing(owner.name, owner.api_version, owner.subresource, now, ignored)

    def _node(self, owner: Owner | Writing) -> Node:
        node = self._source.node(owner.api_version)
        if node is None:
            raise ValueError(f"there is no version {owner.api_version}")
        return node

    def _value(self, obj: Any, api_version: str) -> dict[str, Any]:
        value = _without_managers(codec.to_json_unowned(obj))
        return value if api_version == self._stored else self._source.convert(value, self._stored, api_version)


def _has_replicas(manager: Manager) -> bool:
    return "f:replicas" in manager.owned.get("f:spec", fields.LEAF)


def _scaled(live: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What a scale counts as: to zero and from zero nobody gets the replicas, and whoever had them loses them.

    As upstream, where a Scale tells no replicas if they are zero.
    """
    before, spec = (live.get("spec") or {}).get("replicas"), new.get("spec")
    if not isinstance(spec, dict) or before == spec.get("replicas") or (before != 0 and spec.get("replicas") != 0):
        return new
    return {**new, "spec": {name: inner for name, inner in spec.items() if name != "replicas"}}


def _without_managers(value: dict[str, Any]) -> dict[str, Any]:
    metadata = value.get("metadata")
    if metadata:
        metadata.pop("managedFields", None)
    return value


def _settled_times(after: list[ManagedFieldsEntry], before: list[ManagedFieldsEntry]) -> list[ManagedFieldsEntry]:
    """The old entries where nothing but times differs: that alone is no reason to write."""
    if len(after) != len(before):
        return after
    if all(_but_time(a) == _but_time(b) for a, b in zip(after, before, strict=True)):
        return list(before)
    return after


def _but_time(entry: ManagedFieldsEntry) -> tuple[Any, ...]:
    return entry.manager, entry.operation, entry.apiVersion, entry.subresource, entry.fieldsV1
