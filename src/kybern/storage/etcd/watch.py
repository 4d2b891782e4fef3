"""Follow changes in etcd: one stream, resumed at another member where it broke off.

Made by store. Back-pressure is gRPC's: nothing is read ahead of the reader, and what waits, waits in etcd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from kybern.storage.etcd.ranges import span
from kybern.storage.interface import Change, Compacted, Record, Revision, StoreUnavailable

if TYPE_CHECKING:
    from kybern.storage.etcd.client import EtcdClient

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds between tries to resume


class Owner(Protocol):
    """The store, as its watches see it."""

    def heard(self, response: Any) -> Revision: ...

    def forget(self, watch: EtcdWatch) -> None: ...

    def compacted(self, oldest: Revision) -> None: ...


class EtcdWatch:
    """See interface.Watch. For one reader."""

    def __init__(self, client: EtcdClient, owner: Owner, prefix: str, since: Revision) -> None:
        self._client = client
        self._owner = owner
        self._prefix = prefix
        self._since = since  # everything up to here was delivered
        self._stream: Any = None
        self._closed = False
        self._failure: StoreUnavailable | None = None

    def __aiter__(self) -> EtcdWatch:
        return self

    async def __anext__(self) -> Sequence[Change]:
        pause = FIRST_PAUSE
        while True:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            try:
                stream = self._stream if self._stream is not None else await self.begin()
                if self._closed or self._failure is not None:
                    stream.cancel()  # while it began
                    continue
                batch = await self._read(stream)
            except (self._client.rpc_error, StreamEnded, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and not (self._closed or self._failure):
                    raise
                if self._closed or self._failure:
                    continue
                log.warning("the watch of etcd broke off and is resumed", since=self._since, error=_text(error))
                self._drop()
                self._client.leave()
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if batch:
                return batch

    async def begin(self) -> Any:
        """Open the stream, and return it. Raises Compacted, and what a broken stream does."""
        pb = self._client.pb
        key, end = span(self._prefix)
        created = pb.WatchCreateRequest(
            key=key, range_end=end, start_revision=self._since + 1, prev_kv=True, progress_notify=True
        )
        stream = self._stream = self._client.watch()
        await stream.write(pb.WatchRequest(create_request=created))
        self._check(await stream.read())
        return stream

    async def _read(self, stream: Any) -> list[Change]:
        response = await stream.read()
        self._check(response)
        changes = [change_of(event) for event in response.events]
        self._owner.heard(response)
        if changes:
            self._since = changes[-1].revision
        return changes

    def _check(self, response: Any) -> None:
        """Raises Compacted; and, for a stream that has ended, as if it had broken."""
        if not hasattr(response, "canceled"):
            raise StreamEnded
        if response.canceled:
            self._drop()
            if response.compact_revision:
                self._owner.compacted(Revision(response.compact_revision))
                raise Compacted(Revision(response.compact_revision))
            raise StreamEnded

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    def fail(self, failure: StoreUnavailable) -> None:
        """End the iteration with an error."""
        self._failure = failure
        self._drop()

    async def close(self) -> None:
        self._closed = True
        self._drop()
        self._owner.forget(self)


class StreamEnded(Exception):
    """The member has closed the stream."""


def change_of(event: Any) -> Change:
    """An event of etcd's as a Change. What a deleted key held last is `previous`."""
    pair = event.kv
    key = pair.key.decode()
    previous = None
    if event.HasField("prev_kv"):
        old = event.prev_kv
        previous = Record(key, old.value, Revision(old.create_revision), Revision(old.mod_revision))
    if event.type == event.DELETE:
        return Change(Revision(pair.mod_revision), key, None, previous)
    record = Record(key, pair.value, Revision(pair.create_revision), Revision(pair.mod_revision))
    if previous is None and record.create_revision != record.mod_revision:
        previous = record  # what it was is compacted; that it was is not
    return Change(record.mod_revision, key, record, previous)


def _text(error: BaseException) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)
