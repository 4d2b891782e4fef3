"""WATCH: the state first where it is asked for, then every change, until the client or the time is up.

Reads watch_cache (or the store's history for old revisions), then hands the sink to the hub.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from functools import partial

from kybern.apiserver import negotiate, query
from kybern.apiserver.custom_resources import converted_watch
from kybern.apiserver.handlers import forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.get import too_large
from kybern.apiserver.handlers.selection import ListOptions, asked_of
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import ResourceStore
from kybern.apiserver.request import Answer, Request, Resting, Sink, StreamResponse
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry
from kybern.apiserver.watch_cache.feed import ROOT, Feed
from kybern.apiserver.watch_cache.hub import Hub, Selection, Watcher
from kybern.apiserver.watch_cache.select import select
from kybern.machinery.status import ApiError
from kybern.storage.interface import Compacted, FutureRevision, Revision

# Upstream ends a watch after 30 to 60 minutes (--min-request-timeout), so that clients spread over servers.
MIN_SECONDS = 1800
# Shorter watches end on time, by a task of their own; others when the server next looks, a second later.
LONG_SECONDS = 60
# Let the kernel take what is written after so many initial events.
DRAIN_EVERY = 256


def watch(handlers: Handlers, request: Request, served: Served) -> Answer:
    """Start a watch. Raises ApiError 400, 406, 410."""
    accepted = negotiate.choose(request.headers.get("accept", ""), True, served.has_protobuf)
    selection, options = asked_of(request, served, watch=True)
    form = handlers.forms.form_of(served, accepted, query.include_object(request))
    seconds = options.timeout or MIN_SECONDS + handlers.rng.randrange(MIN_SECONDS)

    def told() -> None:
        if request.seat is not None:  # flow control counts a watch until it has told what there is
            request.seat.release()

    converter = served.codec.converter
    if converter is None:
        following = _Following(handlers, served.store, selection, options, form, told)
    else:  # what comes is told as it is stored; it is converted and selected on its way out
        everything = converted_watch.everything(selection)
        following = _Following(handlers, served.store, everything, options, converted_watch.RawForm(form), told)
    following.check()

    async def follow(sink: Sink) -> None:
        try:
            async with asyncio.timeout(seconds):
                await following.run(sink)
        except TimeoutError:
            following.say_goodbye(sink)
        except _Ended:
            return

    async def run(sink: Sink) -> Resting | None:
        if converter is None:
            if seconds >= LONG_SECONDS:
                return await following.rest(sink, seconds)
            await follow(sink)
            return None
        converting = converted_watch.ConvertingSink(sink, selection, form, converter)
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(converting.pump(), name="convert watched objects")
            await follow(converting)
            pump.cancel()
        return None

    return StreamResponse(run, content_type=accepted.stream_type)


def _resting(feed: Feed, hub: Hub, watcher: Watcher, deadline: float) -> Resting:
    """A watch that is up to date. It holds as little as it can: there may be ten thousand."""

    def say_goodbye() -> None:
        hub.unsubscribe(watcher)
        if watcher.bookmarks:
            watcher.sink.write_framed(watcher.form.bookmark(feed.revision, {}))

    return Resting(deadline, say_goodbye, (partial(hub.unsubscribe, watcher),))


class _Ended(Exception):
    """The watch can't go on; the client has been told why."""


class _Following:
    """One watch from its start to its end."""

    def __init__(
        self,
        handlers: Handlers,
        store: ResourceStore,
        selection: Selection,
        options: ListOptions,
        form: forms.AnyForm | converted_watch.RawForm,
        told: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._feed = handlers.feed
        self._store = store
        self._selection = selection
        self._options = options
        self._form = form  # how the next event is told
        self._told = told  # called once the present is told
        self._is_present = False  # whether all was told that there was

    def check(self) -> None:
        """What must be refused before the answer's head is sent."""
        version = self._start()
        if version is None:
            return
        if version < self._store.cache.complete_since and version < self._feed.store.oldest:
            raise ApiError.expired(f"too old resource version: {version} ({self._feed.store.oldest})")

    async def run(self, sink: Sink) -> None:
        """Write events until the client is gone."""
        watcher = await self._subscribe(sink)
        try:
            await sink.wait_closed()
        finally:
            self._store.hub.unsubscribe(watcher)

    async def rest(self, sink: Sink, seconds: int) -> Resting | None:
        """Write what there is, and leave the rest to the hub until the time is up."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                watcher = await self._subscribe(sink)
        except TimeoutError:
            self.say_goodbye(sink)
            return None
        except _Ended:
            return None
        return _resting(self._feed, self._store.hub, watcher, deadline)

    async def _subscribe(self, sink: Sink) -> Watcher:
        revision = await self._begin(sink)
        while revision < self._feed.revision:
            # Changes that came while the sink was draining; the last round ends without an await.
            revision = await self._catch_up(sink, revision)
        self._told()
        self._is_present = True
        return self._store.hub.subscribe(self._selection, self._form, sink, self._options.bookmarks)

    def say_goodbye(self, sink: Sink) -> None:
        """The time is up: a last bookmark lets the client resume where it is.

        Not while it is being told of the past, or waits for what this server has not heard of.
        """
        if self._is_present and self._options.bookmarks and not sink.closed:
            sink.write_framed(self._form.bookmark(self._feed.revision, {}))

    def _start(self) -> Revision | None:
        """The revision to start after, or None: the state first."""
        version = self._options.resource_version
        if version in ("", "0") or self._options.send_initial:
            return None
        return Revision(int(version))

    async def _begin(self, sink: Sink) -> Revision:
        """The state or the first changes; returns how far they reach."""
        start = self._start()
        asked = int(self._options.resource_version or 0)
        if asked > self._feed.revision:
            try:
                async with asyncio.timeout(3):
                    await self._feed.wait_until(asked)
            except TimeoutError:
                self._write_error(sink, too_large(asked, self._feed.revision))
                raise _Ended from None
        if start is not None:
            return await self._catch_up(sink, start)
        revision = self._feed.revision
        if self._options.send_initial is False:
            return revision
        entries = iter(select(self._store.cache, self._selection))
        while some := list(itertools.islice(entries, DRAIN_EVERY)):
            self._put(sink, [self._frame("ADDED", entry, entry.revision) for entry in some])
            if len(some) == DRAIN_EVERY:
                await sink.drain()
        if self._options.send_initial:
            sink.write_framed(self._form.bookmark(revision, {forms.INITIAL_EVENTS_END: "true"}))
            self._form = self._form.rest
        return revision

    async def _catch_up(self, sink: Sink, since: Revision) -> Revision:
        """Write what happened after `since`; returns how far that reaches."""
        reached = self._feed.revision
        events = self._store.cache.events_after(since)
        if events is not None:
            self._write(sink, events)
            if sink.buffered:
                await sink.drain()
            return reached
        try:
            return await self._read_past(sink, since, reached)
        except (Compacted, FutureRevision) as error:
            self._write_error(sink, ApiError.expired(f"too old resource version: {since} ({error})"))
            raise _Ended from None

    async def _read_past(self, sink: Sink, since: Revision, until: Revision) -> Revision:
        """Write the store's history after `since`, until the cache knows the rest; returns how far that reaches.

        The whole store is followed, so that the end comes also where nothing of this resource has changed. What is
        newer than `until` is left to the cache, which may not have it yet.
        """
        past = self._feed.store.watch(ROOT, since)
        try:
            async for batch in past:
                known = [c for c in batch if c.revision <= until and c.key.startswith(self._store.prefix)]
                self._write(sink, map(self._store.cache.event_of, known))
                await sink.drain()
                since = min(batch[-1].revision, until)
                if since == until or self._store.cache.events_after(since) is not None:
                    break
        finally:
            await past.close()
        return since

    def _write(self, sink: Sink, events: Iterable[Event]) -> None:
        frames = []
        for event in events:
            told = self._selection.told_as(event)
            if told is not None:
                frames.append(self._frame(told[0], told[1], event.revision))
        self._put(sink, frames)

    def _frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        frame = self._form.frame(kind, entry, revision)
        self._form = self._form.rest
        return frame

    def _put(self, sink: Sink, frames: list[bytes]) -> None:
        for frame in frames:
            self._store.hub.note_sent(len(frame))
        if len(frames) > 1 and self._form.is_joinable:
            frames = [b"".join(frames)]
        for frame in frames:
            sink.write_framed(frame)

    def _write_error(self, sink: Sink, error: ApiError) -> None:
        sink.write_framed(self._form.error(forms.plain(error.status)))
