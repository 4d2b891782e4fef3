"""Objects to bytes: how one version, shape and encoding tells an object, a list and a watch event.

Chosen by `form_of` from what the client accepts; used by get, list, watch and (for their answers) the writes.
Bytes of other forms than the stored JSON are kept for the newest revisions, so that many watchers share one rendering.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson
import yaml

from kybern.api import codec, protobuf
from kybern.api.meta_v1 import Status
from kybern.api.resource import Resource
from kybern.apiserver import negotiate, table
from kybern.apiserver.handlers import protobuf_form
from kybern.apiserver.handlers.protobuf_form import ProtobufForm
from kybern.apiserver.negotiate import Accepted
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import scheme
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

MEMO_SIZE = 4096
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def frame_chunk(data: bytes) -> bytes:
    """One HTTP/1.1 chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Form:
    """The stored JSON as it is; other forms override `object_bytes` and `list_bytes`."""

    shape = ""
    is_joinable = True

    def __init__(self, served: Served) -> None:
        self.served = served
        resource = served.resource
        self.key = f"{resource.api_version}/{self.shape}"
        self._list_head = (
            f'{{"kind":"{scheme.list_kind_of(resource)}","apiVersion":"{resource.api_version}","metadata":'
        )
        # What the list's kind says already is not said again by each item, but for custom resources (as upstream).
        self._item_head = b""
        if served.has_protobuf:
            self._item_head = f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode()
        self._memo: dict[tuple[str, int], bytes] = {}

    @property
    def rest(self) -> AnyForm:
        """How a watch goes on after its first event."""
        return self

    def object_bytes(self, entry: Entry) -> bytes:
        """One object, for GET."""
        if self.served.is_stored_version:
            return entry.data
        return self._memoised(entry, entry.revision)

    def whole(self, data: bytes) -> bytes:
        """The object of a write's answer, given in stored bytes."""
        return self.served.bytes_from_stored(data)

    def list_bytes(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        """A listing with its metadata."""
        head = self.list_head(entries, revision, token, remaining)
        return b"%b%b%b" % (head, self.items_bytes(entries), self.list_tail)

    # A long listing is told in parts: its head, some items, the separator, more items, its tail.
    separator = b","
    list_tail = b"]}"

    @property
    def is_quick(self) -> bool:
        """Items cost no more than copying their bytes."""
        return self.served.is_stored_version

    async def prepare(self, entries: Sequence[Entry]) -> None:
        """What takes time and must be done before the head is known."""

    def list_head(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        return f'{self._list_head}{list_metadata(revision, token, remaining)},"items":['.encode()

    def items_bytes(self, entries: Iterable[Entry]) -> bytes:
        head = self._item_head
        if not self.served.is_stored_version:
            datas = map(self.object_bytes, entries)
            return b",".join([_without_type(data, head) for data in datas] if head else datas)
        if not head:
            return b",".join([entry.data for entry in entries])
        # The long lists of most clients: of what is stored nothing is copied but by the join.
        head += b'"metadata":{"'
        skip = len(head)
        parts: list[bytes | memoryview] = []
        for entry in entries:
            value = entry.value
            if value.startswith(head):
                parts += (b',{"metadata":{"resourceVersion":"%d","' % entry.revision, memoryview(value)[skip:])
            else:
                parts += (b",", _without_type(entry.data, self._item_head))
        return b"".join(parts)[1:]

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        """A framed watch event, told at `revision` (a deletion's own revision is newer than the object's)."""
        if self.shape == "" and self.served.is_stored_version:
            data = entry.data if revision == entry.revision else entry.data_at(revision)
        else:
            data = self._memoised(entry, revision)
        return frame_chunk(b'{"type":"%s","object":%s}\n' % (kind.encode(), data))

    def bookmark(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        return frame_chunk(b'{"type":"BOOKMARK","object":%s}\n' % self._bookmark_object(revision, annotations))

    def error(self, status: bytes) -> bytes:
        """A framed ERROR event: why the watch ends."""
        return frame_chunk(b'{"type":"ERROR","object":%s}\n' % status)

    def _bookmark_object(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        resource = self.served.resource
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})

    def _memoised(self, entry: Entry, revision: int) -> bytes:
        key = (entry.key, revision)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= MEMO_SIZE:
                self._memo.pop(next(iter(self._memo)))
            data = entry.data if revision == entry.revision else entry.data_at(revision)
            found = self._memo[key] = self._render(data)
        return found

    def _render(self, data: bytes) -> bytes:
        return self.served.bytes_from_stored(data)


def _without_type(data: bytes, head: bytes) -> bytes:
    """An object's bytes without kind and apiVersion. `head`: where they stand in what this server writes."""
    if data.startswith(head):
        return b"{%b" % data[len(head) :]
    document = orjson.loads(data)
    document.pop("kind", None)
    document.pop("apiVersion", None)
    return orjson.dumps(document)


class MetadataForm(Form):
    """PartialObjectMetadata and its list."""

    shape = "PartialObjectMetadata"
    is_quick = False

    def __init__(self, served: Served, version: str) -> None:
        super().__init__(served)
        self.version = version
        self.key += version
        self._list_head = f'{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/{version}","metadata":'

    def object_bytes(self, entry: Entry) -> bytes:
        return self._memoised(entry, entry.revision)

    def items_bytes(self, entries: Iterable[Entry]) -> bytes:
        return b",".join([self._render(entry.data) for entry in entries])

    def whole(self, data: bytes) -> bytes:
        return self._render(data)

    def _render(self, data: bytes) -> bytes:
        return table.partial_object(data, self.version)

    def _bookmark_object(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return orjson.dumps(
            {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self.version}", "metadata": metadata}
        )


class TableForm(Form):
    """A Table: one row an object. `include` is the request's includeObject: None, Metadata or Object."""

    shape = "Table"
    is_quick = False

    def __init__(self, served: Served, version: str, include: str, clock: Clock, *, columns: bool = True) -> None:
        super().__init__(served)
        self.version = version
        self.include = include
        self._clock = clock
        self._columns = columns  # whether watch events tell the columns: only the first of a watch does
        self.key += f"{version}/{include}" if columns else f"{version}/{include}/rest"

    @functools.cached_property
    def _rest(self) -> TableForm:
        return TableForm(self.served, self.version, self.include, self._clock, columns=False)

    @property
    def rest(self) -> AnyForm:
        return self._rest if self._columns else self

    def object_bytes(self, entry: Entry) -> bytes:
        return self._table([entry.data], str(entry.revision), "", None)

    def whole(self, data: bytes) -> bytes:
        return self._table([data], None, "", None)

    @property
    def is_ordered(self) -> bool:
        """Rows are in an order of their own, which takes all of them to find."""
        return table.printer_of(self._resource, self.served.printer).order is not None

    def list_bytes(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        return self._table([entry.data for entry in entries], str(revision), token, remaining)

    def list_head(self, entries: Sequence[Entry], revision: int, token: str, remaining: int | None) -> bytes:
        return self._table([], str(revision), token, remaining).removesuffix(self.list_tail)

    def items_bytes(self, entries: Iterable[Entry]) -> bytes:
        document = self._table([entry.data for entry in entries], "", "", None)
        return document[len(self._empty_head) :].removesuffix(self.list_tail)

    @functools.cached_property
    def _empty_head(self) -> bytes:
        return self._table([], "", "", None).removesuffix(self.list_tail)

    @property
    def _resource(self) -> Resource:
        return self.served.store.resource if self.served.printer is None else self.served.resource

    def _table(self, datas: list[bytes], revision: str | None, token: str, remaining: int | None) -> bytes:
        served = self.served
        stored = served.store
        # Cells are those of the stored version, whatever version was asked for; a row's object is of the latter.
        objects = [
            stored.codec.decode_foreign(data) if served.printer is None else served.from_stored(data) for data in datas
        ]
        shown = None
        if self.include == "Object" and not served.is_stored_version and served.printer is None:
            shown = [served.from_stored(data) for data in datas]
        return table.render(
            self._resource,
            objects,
            self._clock.now(),
            version=self.version,
            include=self.include,
            resource_version=revision,
            continue_token=token,
            remaining=remaining,
            chosen=served.printer,
            shown=shown,
            columns=self._columns,
        )

    def _memoised(self, entry: Entry, revision: int) -> bytes:
        """Tables tell ages: each is as old as its telling."""
        data = entry.data if revision == entry.revision else entry.data_at(revision)
        return self._table([data], None, "", None)

    def _bookmark_object(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        """A Table without rows but one that carries the revision, as kubectl reads it."""
        served, columns = self.served, self._columns
        return table.bookmark(
            served.resource, self.version, str(revision), annotations, served.printer, columns=columns
        )


def list_metadata(revision: int, token: str, remaining: int | None) -> str:
    """The ListMeta of a listing, as JSON."""
    text = f'{{"resourceVersion":"{revision}"'
    if token:
        text += f',"continue":"{token}"'
    if remaining:
        text += f',"remainingItemCount":{remaining}'
    return text + "}"


AnyForm = Form | ProtobufForm


class Forms:
    """The forms in use, one object each, so that memos and watchers are shared."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._forms: dict[tuple[str, str, str, str, str, bool], AnyForm] = {}

    def form_of(self, served: Served, accepted: Accepted, include: str) -> AnyForm:
        """The form for what `negotiate.choose` chose; `include` matters to tables only."""
        resource = served.resource
        shape = "PartialObjectMetadata" if accepted.shape == "PartialObjectMetadataList" else accepted.shape
        if shape != "Table":
            include = ""
        is_protobuf = accepted.encoding == "protobuf"
        key = (resource.api_version, resource.plural, shape, accepted.shape_version, include, is_protobuf)
        form = self._forms.get(key)
        if form is None or form.served is not served:
            if shape == "Table":
                form = TableForm(served, accepted.shape_version, include, self._clock)
            elif shape:
                form = MetadataForm(served, accepted.shape_version)
            else:
                form = Form(served)
            if is_protobuf:
                form = ProtobufForm(served, form.key, form.whole, accepted.shape_version)
            self._forms[key] = form
        return form


# Subresources that upstream cannot show as rows.
_WITHOUT_TABLES = ("ephemeralcontainers", "resize")


def chosen(request: Request, served: Served) -> Accepted:
    """The form of an answer that is one object. Raises ApiError 406."""
    accept = request.headers.get("accept", "")
    if not accept:
        return negotiate.PLAIN
    accepted = negotiate.choose(accept, None, served.has_protobuf, request.info.subresource not in _WITHOUT_TABLES)
    if accepted.shape:
        negotiate.check_shape(accepted, served.resource, is_list=False)
    return accepted


class _Dumper(yaml.CSafeDumper):
    """Strings that YAML 1.1 would read as something else get quotes (the base class's own rule)."""


def to_yaml(data: bytes) -> bytes:
    """A JSON document as YAML."""
    try:
        text: str = yaml.dump(msgspec.json.decode(data), Dumper=_Dumper, default_flow_style=False, allow_unicode=True)
    except RecursionError:
        raise ApiError.make(406, "NotAcceptable", "the object is nested too deeply to be told as YAML") from None
    return text.encode()


def encoded(data: bytes, accepted: Accepted) -> bytes:
    """The answer's bytes in the encoding the client accepts. Those of a ProtobufForm are so already."""
    if accepted.encoding == "json" or data.startswith(protobuf.MAGIC):
        return data
    return to_yaml(data) if accepted.encoding == "yaml" else protobuf_form.document(data)


def success(accepted: Accepted) -> Response:
    """201 of what makes no object of its own: a binding, an eviction."""
    status = codec.encode(Status(status="Success", code=201))
    return Response(status=201, body=encoded(status, accepted), content_type=accepted.content_type)


def plain(obj: Any) -> bytes:
    """Any Struct or JSON value as JSON."""
    return codec.encode(obj)
