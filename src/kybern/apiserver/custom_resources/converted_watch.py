"""Watch objects that a webhook converts: events wait here for their conversion, in order.

Used by handlers/watch through Served.watched. The hub tells everything of the namespace, as it is stored; here it is
converted, selected, and framed as the client wants it. A client too far behind is cut off as anywhere else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from kybern.apiserver.handlers import forms
from kybern.apiserver.registry.object_codec import Converter
from kybern.apiserver.request import Sink
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry
from kybern.apiserver.watch_cache.hub import Selection
from kybern.machinery.status import ApiError

MAX_WAITING = 10_000
_AT_ONCE = 64
_EVENT = "EVENT"


class Everything(Selection):
    """What is told to such watches: every event of a namespace, whole."""

    def told_as(self, event: Event) -> tuple[str, Entry] | None:
        return _EVENT, cast("Entry", event)


def everything(selection: Selection) -> Everything:
    """In place of what a client selects; only the namespace can be judged before the conversion."""
    return Everything(selection.namespace, None, None, ("converted", selection.namespace))


class _Waiting(bytes):
    """A frame that is to be made: stands where bytes stand."""

    kind: str
    what: Any
    revision: int


class RawForm:
    """Frames nothing: hands on what is to be framed."""

    is_joinable = False

    def __init__(self, form: forms.AnyForm) -> None:
        self._form = form
        self.key = f"{form.key}/converted"

    @property
    def rest(self) -> RawForm:
        return self if self._form.rest is self._form else RawForm(self._form.rest)

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        waiting = _Waiting()
        waiting.kind, waiting.what, waiting.revision = kind, entry, revision
        return waiting

    def bookmark(self, revision: int, annotations: Any) -> bytes:
        return self._form.bookmark(revision, annotations)

    def error(self, status: bytes) -> bytes:
        return self._form.error(status)


class ConvertingSink:
    """A Sink in front of a client's. `pump` must run beside what writes to it."""

    def __init__(self, sink: Sink, selection: Selection, form: forms.AnyForm, converter: Converter) -> None:
        self._sink = sink
        self._selection = selection
        self._form = form
        self._converter = converter
        self._waiting: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def write(self, data: bytes) -> None:
        self.write_framed(forms.frame_chunk(data))

    def write_framed(self, data: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.abort()
            return
        self._waiting.append(data)
        self._empty.clear()
        self._came.set()

    @property
    def buffered(self) -> int:
        return self._sink.buffered

    async def drain(self) -> None:
        await self._empty.wait()
        await self._sink.drain()

    @property
    def closed(self) -> bool:
        return self._sink.closed

    async def wait_closed(self) -> None:
        await self._sink.wait_closed()

    def abort(self) -> None:
        self._sink.abort()

    async def pump(self) -> None:
        """Convert and hand on, until cancelled, or until the webhook fails: then the client is told, and it ends."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                try:
                    await self._converter.warm(data for frame in batch for data in _datas(frame))
                except ApiError as error:
                    self._sink.write_framed(self._form.error(forms.plain(error.status)))
                    self._sink.abort()
                    return
                for frame in batch:
                    self._hand_on(frame)
                await self._sink.drain()
            self._empty.set()

    def _hand_on(self, frame: bytes) -> None:
        if not isinstance(frame, _Waiting):
            self._sink.write_framed(frame)
        elif frame.kind == _EVENT:
            told = self._selection.told_as(frame.what)
            if told is not None:
                self._sink.write_framed(self._form.frame(told[0], told[1], frame.revision))
                self._form = self._form.rest
        elif self._selection.matches(frame.what):
            self._sink.write_framed(self._form.frame(frame.kind, frame.what, frame.revision))
            self._form = self._form.rest


def _datas(frame: bytes) -> list[bytes]:
    """The objects that a frame is about."""
    if not isinstance(frame, _Waiting):
        return []
    if frame.kind != _EVENT:
        return [frame.what.data]
    event: Event = frame.what
    return [entry.data for entry in (event.entry, event.previous) if entry is not None]
