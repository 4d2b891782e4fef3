"""A listing as an answer: short ones at once, long ones in slices, between which others have their turn.

Made by list out of the entries it chose, in the form the client accepts. Entries never change, so that a listing told
slowly is still that of one revision; their bytes are those of the cache, so that ten at once need little more memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kybern.apiserver.handlers import forms, protobuf_form
from kybern.apiserver.handlers.protobuf_form import ProtobufForm
from kybern.apiserver.negotiate import Accepted
from kybern.apiserver.request import Answer, Request, Response, Sink, StreamResponse
from kybern.apiserver.watch_cache.entry import Entry

# Of a slice: copied, encrypted and handed to the kernel in a fraction of a millisecond.
SLICE_BYTES = 128 * 1024
# Objects of a slice that must be decoded for their form (Table, metadata, another version): some milliseconds.
SLICE_OBJECTS = 32


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list answers."""

    entries: Sequence[Entry]
    revision: int
    token: str  # to go on with
    remaining: int | None


def answer(request: Request, form: forms.AnyForm, accepted: Accepted, listing: Listing) -> Answer | Awaitable[Answer]:
    """The listing in its form and encoding."""
    entries = listing.entries
    if not _is_long(form, entries):
        return _whole(form, accepted, listing)
    if isinstance(form, ProtobufForm) and len(entries) > protobuf_form.AT_ONCE:
        return _prepared(request, form, accepted, listing)
    if accepted.encoding == "yaml":
        return _in_thread(form, accepted, listing)
    return _in_slices(request, form, accepted, listing)


def _whole(form: forms.AnyForm, accepted: Accepted, listing: Listing) -> Response:
    data = form.list_bytes(listing.entries, listing.revision, listing.token, listing.remaining)
    return Response(body=forms.encoded(data, accepted), content_type=accepted.content_type)


async def _prepared(request: Request, form: ProtobufForm, accepted: Accepted, listing: Listing) -> Answer:
    """Objects of which some have to be encoded first: the head tells how long they all are."""
    await form.prepare(listing.entries)
    return _in_slices(request, form, accepted, listing)


async def _in_thread(form: forms.AnyForm, accepted: Accepted, listing: Listing) -> Response:
    """YAML is made of the whole document, slowly."""
    data = form.list_bytes(listing.entries, listing.revision, listing.token, listing.remaining)
    body = await asyncio.to_thread(forms.encoded, data, accepted)
    return Response(body=body, content_type=accepted.content_type)


def _in_slices(request: Request, form: forms.AnyForm, accepted: Accepted, listing: Listing) -> Answer:
    # The record wants all of it; objects that a webhook converted are at hand only now; some rows have to be sorted.
    if (
        (request.audit is not None and request.audit.keeps_answer)
        or form.served.warm is not None
        or (isinstance(form, forms.TableForm) and form.is_ordered)
        or request.method == "HEAD"
    ):
        return _whole(form, accepted, listing)
    streamed = StreamResponse(run=_nothing, content_type=accepted.content_type, is_document=True)
    streamed.run = partial(_tell, streamed, form, listing)
    return streamed


async def _nothing(_sink: Sink) -> None:
    pass


async def _tell(streamed: StreamResponse, form: forms.AnyForm, listing: Listing, sink: Sink) -> None:
    between = form.list_head(listing.entries, listing.revision, listing.token, listing.remaining)
    for entries in _slices(form, listing.entries):
        data = b"%b%b" % (between, form.items_bytes(entries))
        streamed.size += len(data)
        sink.write(data)
        await sink.drain()
        await asyncio.sleep(0)
        if sink.closed:
            return
        between = form.separator
    sink.write(form.list_tail)


def _slices(form: forms.AnyForm, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    taken: list[Entry] = []
    size, most = 0, len(entries) if form.is_quick else SLICE_OBJECTS
    for entry in entries:
        taken.append(entry)
        size += len(entry.value)
        if size >= SLICE_BYTES or len(taken) >= most:
            yield taken
            taken, size = [], 0
    if taken:
        yield taken


def _is_long(form: forms.AnyForm, entries: Sequence[Entry]) -> bool:
    if len(entries) > SLICE_OBJECTS and not form.is_quick:
        return True
    return sum(len(entry.value) for entry in entries) > SLICE_BYTES
