"""Bytes and JSON of one version of a custom resource to CustomObjects and back: its ObjectCodec.

Made by serving, one a version; called by handlers, registry and watch_cache. On the way in an object is pruned and
defaulted by the schema of the version it is written in; on the way out of the store by that of the version it is
shown in. What is stored is of the stored version, with its keys in order, so that equal objects are equal bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kybern.api import codec
from kybern.api.custom import CustomObject
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.custom_resources import defaults, prune
from kybern.apiserver.custom_resources.version import Version

if TYPE_CHECKING:
    from kybern.apiserver.registry.object_codec import Converter
    from kybern.apiserver.watch_cache.entry import Entry

_sorted = msgspec.json.Encoder(order="deterministic").encode


class CustomCodec:
    """The codec of a version whose objects differ from those of other versions by nothing but their apiVersion."""

    struct: type[Any] | None = None
    converter: Converter | None = None

    def __init__(self, version: Version) -> None:
        self._version = version
        self.kind = version.resource.kind
        self.version = version.name
        self._api_version = version.resource.api_version

    def decode(self, data: bytes) -> CustomObject:
        return codec.decode(CustomObject, data)

    def decode_body(self, data: bytes) -> Any:
        """Every body is looked at closer."""
        msgspec.json.decode(data)
        raise msgspec.ValidationError

    def decode_foreign(self, data: bytes) -> CustomObject:
        return self.decode(data)

    def from_json(self, value: Any) -> tuple[CustomObject, list[str]]:
        unknown: list[str] = []
        given = dict(value)
        api_version, kind = _text(given.pop("apiVersion", "")), _text(given.pop("kind", ""))
        if not kind:
            raise ValueError("Object 'Kind' is missing")
        if not api_version:
            raise ValueError("Object 'apiVersion' is missing")
        metadata = _metadata(given.pop("metadata", None), unknown)
        dropped: list[str] = []
        content = self._shaped(given, dropped)
        return CustomObject(api_version, kind, metadata, content), unknown + sorted(dropped)

    def encode(self, obj: CustomObject) -> bytes:
        return render(obj, self._version.stored_as)

    def shown(self, value: bytes) -> bytes:
        """In this version, by its present schema."""
        try:
            given = codec.decode(CustomObject, value)
            given.kind = self.kind
            given.content = self._shaped(given.content, [])
            made = render(given, self._api_version)
        except (ValueError, TypeError):  # no such object: as it stands, like those of other resources
            return value
        return value if made == value else made

    def view(self, entry: Entry) -> Any:
        found = entry.object
        return found if found.apiVersion == self._api_version else self.decode(self.shown(entry.data))

    def _shaped(self, content: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
        tree = self._version.tree
        shaped: dict[str, Any] = prune.prune(content, tree, None, unknown)
        defaults.apply(shaped, tree)
        return shaped


def render(obj: CustomObject, api_version: str) -> bytes:
    """The bytes of an object, told as of `api_version`: kind, apiVersion and metadata first, then by name."""
    head = b'{"kind":%s,"apiVersion":%s,"metadata":%s' % (
        codec.encode(obj.kind), codec.encode(api_version), codec.encode(obj.metadata),
    )  # fmt: skip
    rest = _sorted(obj.content)
    return head + (b"}" if rest == b"{}" else b"," + rest[1:])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("apiVersion and kind must be strings")
    return value


def _metadata(value: Any, unknown: list[str]) -> ObjectMeta:
    if value is None:
        return ObjectMeta()
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {prune.type_of(value)} into Go value of type v1.ObjectMeta")
    metadata, dropped = prune.metadata_of(value)
    unknown.extend(f"metadata.{name}" for name in sorted(dropped))
    return metadata
