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
            others = [s for s in self._registry.served() if s.store is served.store and s is not served]
            others.sort(key=lambda s: not s.is_stored_version)
            known = self._known[key] = (served, tuple(s.resource for s in others))
        return known[1]

    def encode(self, a: Attributes, obj: Any, wanted: Resource) -> bytes | None:
        """JSON of the object (the new or the old one) as `wanted`; None for None. Raises ValueError."""
        if obj is None:
            return None
        served = self._other(a, obj, wanted)
        if served is None:
            return codec.encode(obj)
        return codec.encode(served.from_stored(served.store.codec.encode(obj)))

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
        if served is not None:
            made = served.to_stored(served.codec.from_json(value)[0])
            served.store.strategy.apply_defaults(made)
            return made
        own = self._own(a) if is_whole(a, obj) else None
        if own is not None:
            made = own.store.codec.from_json(value)[0]
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
