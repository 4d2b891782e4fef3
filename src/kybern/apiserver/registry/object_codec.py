"""Bytes and JSON to objects of one kind and back: the codec that belongs to a Served and its ResourceStore.

Used by handlers (bodies and patches), registry/resource_store and watch_cache. Built-in kinds have `StructCodec`;
custom resources bring their own (custom_resources/codec), so that nobody else asks what kind of object it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import msgspec
import structlog

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import conversion, defaults

log = structlog.get_logger(__name__)

# An upstream API server ends what it stores with a line end; this one does not.
_FOREIGN_END = b"\n"


class ObjectCodec(Protocol):
    """What is to be known about a kind to read and write it."""

    @property
    def kind(self) -> str: ...

    @property
    def version(self) -> str:
        """Of its group, as messages name it."""
        ...

    @property
    def struct(self) -> type[Any] | None:
        """The Struct of a built-in kind: what protobuf bodies need."""
        ...

    def decode(self, data: bytes) -> Any:
        """A private object of bytes that are known to be right."""
        ...

    def decode_body(self, data: bytes) -> Any:
        """The object of a client's bytes, if they are what they should be to the letter.

        Raises msgspec.ValidationError if they must be looked at closer (`from_json`), msgspec.DecodeError for no JSON.
        """
        ...

    def decode_foreign(self, data: bytes) -> Any:
        """The object of a stored value that another process wrote. Raises ValueError."""
        ...

    def shown(self, value: bytes) -> bytes:
        """A stored value that another process wrote, as it is shown: the same object where it needs no change."""
        ...

    def view(self, entry: Entry) -> Any:
        """The entry's object in this version: shared, never to be changed."""
        ...

    @property
    def converter(self) -> Converter | None:
        """What must be awaited before objects of other versions can be viewed or encoded; None: nothing."""
        ...

    def from_json(self, value: Any) -> tuple[Any, list[str]]:
        """The object of decoded JSON, and the paths of what was dropped for being unknown. Raises ValueError."""
        ...

    def encode(self, obj: Any) -> bytes:
        """The bytes to be stored. They open with kind, apiVersion and metadata."""
        ...


class Converter(Protocol):
    """Conversions that take time: by a webhook."""

    async def warm(self, datas: Iterable[bytes]) -> None:
        """Have stored objects at hand in the codec's version. Raises ApiError."""
        ...

    async def warm_object(self, obj: Any) -> None:
        """Have an object of the codec's version at hand as it is stored. Raises ApiError."""
        ...


class StructCodec:
    """The codec of a built-in kind."""

    __slots__ = ("api_version", "kind", "struct", "version")
    converter: ClassVar[Converter | None] = None

    def __init__(self, struct: type[Any], api_version: str = "") -> None:
        self.struct: type[Any] | None = struct
        self.kind = struct.__name__
        self.api_version = api_version
        self.version = api_version.rpartition("/")[2]

    def decode(self, data: bytes) -> Any:
        assert self.struct is not None
        # Another server on the same store writes null where this one leaves out.
        return codec.decode_pruned(self.struct, data)[0]

    def decode_body(self, data: bytes) -> Any:
        assert self.struct is not None
        return codec.decode(self.struct, data)

    def decode_foreign(self, data: bytes) -> Any:
        assert self.struct is not None
        return codec.decode_pruned(self.struct, data)[0]

    def shown(self, value: bytes) -> bytes:
        """Upstream stores some kinds in older versions, and defaults on every read what it did not when it wrote."""
        if not value.endswith(_FOREIGN_END):
            return value
        try:
            document = msgspec.json.decode(value)
            told = str(document.get("apiVersion", ""))
            if told != self.api_version:
                document = conversion.convert(document, self.kind, told, self.api_version)
            obj, _ = self.from_json(document)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            log.warning("an object in the store is not of its type", kind=self.kind, error=str(error))
            return value
        defaults.apply(obj)
        return self.encode(obj)

    def view(self, entry: Entry) -> Any:
        return entry.object

    def from_json(self, value: Any) -> tuple[Any, list[str]]:
        assert self.struct is not None
        return codec.from_json(self.struct, value)

    def encode(self, obj: Any) -> bytes:
        return codec.encode(obj)


def struct_codec(resource: Resource, struct: type[Any]) -> StructCodec:
    return StructCodec(struct, resource.api_version)
