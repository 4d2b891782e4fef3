"""One object as bytes, ready to be sent, with what selectors need taken out once.

Made by feed (from the store) out of what registry prepared; read by handlers and hub. Immutable but for the decoded
object and its other encodings, which are filled in when somebody first asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kybern.storage.interface import Revision

_METADATA = b'"metadata":{'


def splice(value: bytes, revision: int) -> bytes:
    """A stored value with its resourceVersion put in.

    The version is not part of what is stored (the store assigns it on commit), so it is put in front of the other
    metadata. Stored values open with kind, apiVersion and metadata, so the first match is the object's own.
    """
    head, mark, tail = value.partition(_METADATA)
    if not mark:
        return value  # somebody else's, and no object: it is told as it stands
    comma = b"" if tail.startswith(b"}") else b","
    return b'%b%b"resourceVersion":"%d"%b%b' % (head, mark, revision, comma, tail)


class Decoder(Protocol):
    """What an entry needs of its kind's codec."""

    def decode(self, data: bytes) -> Any:
        """A private object of bytes that are known to be right."""
        ...


class Entry:
    """One object at one revision."""

    __slots__ = (
        "_codec",
        "_object",
        "fields",
        "is_stored_otherwise",
        "key",
        "labels",
        "name",
        "namespace",
        "other_forms",
        "revision",
        "value",
    )

    def __init__(
        self,
        key: str,
        namespace: str,
        name: str,
        value: bytes,
        revision: Revision,
        labels: Mapping[str, str],
        fields: Mapping[str, str],
        codec: Decoder,
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.name = name
        self.revision = revision
        # The very bytes that the store keeps: an object is in memory once.
        self.value = value
        self.labels = labels
        self.fields = fields
        self._codec = codec
        self._object: Any = None
        # Its bytes in encodings that somebody asked for, by the key of the form: filled by handlers/protobuf_form.
        self.other_forms: dict[str, bytes] | None = None
        # The store holds other bytes of it (an older version, without defaults): an update that changes nothing counts.
        self.is_stored_otherwise = False

    @property
    def data(self) -> bytes:
        """The bytes that clients get. Made anew each time, which costs little more than copying them."""
        return splice(self.value, self.revision)

    @property
    def object(self) -> Any:
        """The decoded object, shared: never change it."""
        if self._object is None:
            self._object = self.decode()
        return self._object

    def release(self) -> None:
        """It is no longer the present state: what was made of it goes, its bytes stay for watches that are behind."""
        self._object = None
        self.other_forms = None

    def decode(self) -> Any:
        """A private copy."""
        return self._codec.decode(self.data)

    def data_at(self, revision: int) -> bytes:
        """The bytes with another resourceVersion: how a deleted object is told."""
        return splice(self.value, revision)


# (labels, selectable fields) of a stored value; see registry.resource_store.
Indexer = Callable[[bytes], tuple[Mapping[str, str], Mapping[str, str]]]
