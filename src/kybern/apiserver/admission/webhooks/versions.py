"""How an object under admission looks in the version that a webhook wants, and back.

Used by plugin. A resource's versions are those that share its store.
"""

from __future__ import annotations

from typing import Any

from kybern.api import codec
from kybern.api.custom import CustomObject
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.webhooks.review import is_whole
from kybern.apiserver.registry.registry import Registry, Served
from kybern.machinery import defaults


class Versions:
    """The registry's versions of each resource."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str, str], tuple[Served, tuple[Resource, ...]]] = {}

    def siblings(self, a: Attributes) -> tuple[Resource, ...]:
        """The other versions of what is written, the stored one first."""
        asked = a.as_requested
        key = (asked.group, asked.version, asked.plural)
        served = self._registry.by_path.get(key)
        if served is None:
            return ()
        known = self._known.get(key)
        if known is None or known[0] is not served:
            others = [s for s in self._registry.served() if s is not served and _is_sibling(s, served)]
            others.sort(key=lambda s: not s.is_stored_version)
            known = self._known[key] = (served, tuple(s.resource for s in others))
        return known[1]

    def must_ask(self, a: Attributes, wanted: Resource) -> bool:
        """Whether somebody else converts to this version: `prepare` must come before `encode`."""
        if wanted.api_version == a.resource.api_version:
            return False
        served = self._other(a, a.object if a.object is not None else a.old, wanted)
        return served is not None and served.codec.converter is not None

    async def prepare(self, a: Attributes, wanted: Resource) -> None:
        """Have what `encode` needs at hand: where a webhook converts, it is asked here. Raises ApiError."""
        if wanted.api_version == a.resource.api_version:
            return
        objects = [obj for obj in (a.object, a.old) if obj is not None]
        served = self._other(a, objects[0], wanted)
        if served is not None and served.codec.converter is not None:
            await served.codec.converter.warm([codec.encode(obj) for obj in objects])

    async def prepare_back(self, a: Attributes, value: Any, wanted: Resource) -> None:
        """The same for `decode`."""
        own = self._own(a)
        if wanted.api_version == a.resource.api_version or own is None or own.codec.converter is None:
            return
        served = self._other(a, a.object, wanted)
        if served is not None and isinstance(value, dict):
            await own.codec.converter.warm([codec.encode(served.codec.from_json(value)[0])])

    def encode(self, a: Attributes, obj: Any, wanted: Resource) -> bytes | None:
        """JSON of the object (the new or the old one) as `wanted`; None for None. Raises ValueError."""
        if obj is None:
            return None
        served = self._other(a, obj, wanted)
        if served is None:
            return codec.encode(obj)
        if served.store.resource.api_version == a.resource.api_version:
            return codec.encode(served.from_stored(served.store.codec.encode(obj)))
        return served.codec.shown(codec.encode(obj))

    def decode(self, a: Attributes, value: Any, wanted: Resource) -> Any:
        """The object under admission made anew of JSON of version `wanted`, complete with defaults.

        Raises ValueError (which msgspec.ValidationError is one of) when it is not an object of its kind any more.
        """
        obj: Any = a.object
        if not isinstance(value, dict):
            raise ValueError("the patched object is not an object")
        was = obj if isinstance(obj, dict) else {"kind": obj.kind, "apiVersion": obj.apiVersion}
        served = self._other(a, obj, wanted)
        api_version = served.resource.api_version if served is not None else was["apiVersion"]
        if value.get("kind") not in (None, was["kind"]) or value.get("apiVersion") not in (None, api_version):
            said = f'no kind "{value.get("kind")}" is registered for version "{value.get("apiVersion")}"'
            raise ValueError(said)
        value = {"kind": was["kind"], "apiVersion": api_version, **value}
        if isinstance(obj, dict):
            return value
        own = self._own(a) if is_whole(a, obj) else None
        if own is not None:
            made = _of_version(served, value, own) if served is not None else own.store.codec.from_json(value)[0]
            own.store.strategy.apply_defaults(made)
            return made
        assert not isinstance(obj, CustomObject), "custom objects are of a served kind"
        made = codec.from_json(type(obj), value)[0]
        defaults.apply(made)
        return made

    def _own(self, a: Attributes) -> Served | None:
        stored = a.resource
        return self._registry.by_path.get((stored.group, stored.version, stored.plural))

    def _other(self, a: Attributes, obj: Any, wanted: Resource) -> Served | None:
        """The version to convert to and from; None where the object is in it already."""
        if wanted.api_version == a.resource.api_version or not is_whole(a, obj):
            return None
        return self._registry.by_path.get((wanted.group, wanted.version, wanted.plural))


def _is_sibling(one: Served, other: Served) -> bool:
    """Versions of built-in resources share a store; each of a custom resource has its own."""
    a, b = one.resource, other.resource
    return one.store is other.store or (a.group == b.group and a.plural == b.plural)


def _of_version(served: Served, value: dict[str, Any], own: Served) -> Any:
    """JSON of one version as an object of `own`, which is of the version under admission."""
    made = served.codec.from_json(value)[0]
    if served.store.resource.api_version == own.resource.api_version:
        return served.to_stored(made)
    return own.codec.decode(own.codec.shown(codec.encode(made)))
