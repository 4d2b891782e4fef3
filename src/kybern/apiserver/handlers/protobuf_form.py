"""Objects to protobuf: the form that client-go asks for by default.

Made by forms for clients that accept it, over the JSON that another form gives. An object is encoded once a revision
and version, when somebody first asks, and kept with its entry; lists and watch events are joined from those bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kybern.api import protobuf_encode
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import scheme

# Objects encoded in one go; longer lists let others have a turn.
AT_ONCE = 32
# Kinds of answers that are no resources.
_META = ("Status", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions")


class ProtobufForm:
    """Objects of one version, whole or their metadata (`shape_version` of meta.k8s.io)."""

    shape = "protobuf"
    is_joinable = True

    def __init__(
        self, served: Served, json_key: str, json_of: Callable[[bytes], bytes], shape_version: str = ""
    ) -> None:
        self.served = served
        self.key = f"{json_key}/protobuf"
        self._json_of = json_of  # stored bytes -> JSON of this version and shape
        resource = served.resource
        if shape_version:
            self._api_version, self._kind = f"meta.k8s.io/{shape_version}", "PartialObjectMetadata"
            self._message = "meta_v1.PartialObjectMetadata"
        else:
            assert served.codec.struct is not None
            self._api_version, self._kind = resource.api_version, resource.kind
            self._message = protobuf_encode.message_of(served.codec.struct)

    @property
    def rest(self) -> ProtobufForm:
        """How a watch goes on after its first event."""
        return self

    def object_bytes(self, entry: Entry) -> bytes:
        """One object, for GET."""
        return self._envelope(self._content(entry))

    def whole(self, data: bytes) -> bytes:
        """The object of a write's answer, given in stored bytes."""
        return self._envelope(self._encode(data))

    def list_bytes(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        """A listing with its metadata."""
        head = self.list_head(entries, revision, token, remaining)
        return b"%b%b%b" % (head, self.items_bytes(entries), self.list_tail)

    separator = b""
    list_tail = protobuf_encode.ENVELOPE_END
    is_quick = True  # once it is prepared

    def list_head(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        """Everything before the items: it tells how many bytes they are."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if token:
            metadata["continue"] = token
        if remaining:
            metadata["remainingItemCount"] = remaining
        sizes = map(len, map(self._content, entries))
        return protobuf_encode.listing_head(self._api_version, f"{self._kind}List", metadata, sizes)

    def items_bytes(self, entries: Iterable[Entry]) -> bytes:
        parts: list[bytes] = []
        for entry in entries:
            content = self._content(entry)
            parts += (protobuf_encode.item_head(len(content)), content)
        return b"".join(parts)

    async def prepare(self, entries: Sequence[Entry]) -> None:
        """Encode what is not yet, with pauses: `list_bytes` of these entries is quick afterwards."""
        for start in range(0, len(entries), AT_ONCE):
            missing = [e for e in entries[start : start + AT_ONCE] if self.key not in (e.other_forms or ())]
            for entry in missing:
                self._content(entry)
            if missing:
                await asyncio.sleep(0)

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        """A framed watch event, told at `revision`."""
        content = self._content(entry) if revision == entry.revision else self._encode(entry.data_at(revision))
        return _frame(kind, self._envelope(content))

    def bookmark(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return _frame("BOOKMARK", self._envelope(protobuf_encode.content(self._message, {"metadata": metadata})))

    def error(self, status: bytes) -> bytes:
        """A framed ERROR event: why the watch ends."""
        return _frame("ERROR", document(status))

    def _content(self, entry: Entry) -> bytes:
        kept = entry.other_forms
        if kept is None:
            kept = entry.other_forms = {}
        found = kept.get(self.key)
        if found is None:
            found = kept[self.key] = self._encode(entry.data)
        return found

    def _encode(self, data: bytes) -> bytes:
        return protobuf_encode.content(self._message, msgspec.json.decode(self._json_of(data)))

    def _envelope(self, content: bytes) -> bytes:
        return protobuf_encode.envelope(self._api_version, self._kind, content)


def _frame(kind: str, document: bytes) -> bytes:
    """One event as one HTTP/1.1 chunk."""
    event = protobuf_encode.watch_event(kind, document)
    return b"%x\r\n%s\r\n" % (len(event), event)


def document(data: bytes) -> bytes:
    """Any JSON answer (a Status, a Scale, a review, a discovery document) as protobuf."""
    value = msgspec.json.decode(data)
    kind = value.get("kind", "")
    # The oldest discovery documents say no apiVersion.
    api_version = value.get("apiVersion") or ("" if kind == "APIVersions" else "v1")
    return protobuf_encode.envelope(api_version, kind, protobuf_encode.content(_message_of(api_version, kind), value))


def _message_of(api_version: str, kind: str) -> str:
    if kind in _META:
        return f"meta_v1.{kind}"
    struct = scheme.struct_of(api_version, kind)
    if struct is not None:
        return protobuf_encode.message_of(struct)
    item = scheme.struct_of(api_version, kind.removesuffix("List"))
    assert item is not None, (api_version, kind)
    return f"{protobuf_encode.message_of(item)}List"
