"""The store in an etcd cluster, shared by any number of API servers.

See interface.Store. Neighbours: client speaks to the members, watch follows changes. Revisions are etcd's own; keys and
values are as upstream lays them out, so that its API server can go on with them.
A transaction whose outcome is unknown is not done again blindly: its precondition would refuse the second one, and the
value that is found there tells whose it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kybern.storage.etcd.client import Endpoints, EtcdClient, Refused
from kybern.storage.etcd.ranges import EVERYTHING, span
from kybern.storage.etcd.watch import EtcdWatch
from kybern.storage.interface import (
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    OutcomeUnknown,
    Page,
    Record,
    Revision,
    RevisionMismatch,
    StoreUnavailable,
)

PAGE = 5_000  # records asked for at once
SETTLE_TRIES = 5  # questions after the outcome of one write


class EtcdStore:
    """See interface.Store; `open` it."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._pb = client.pb
        self._revision = Revision(0)
        self._oldest = Revision(0)
        self._watches: set[EtcdWatch] = set()
        self._closed = False

    @classmethod
    async def open(cls, endpoints: Endpoints) -> EtcdStore:
        """Connect, and learn where history begins and ends. Raises StoreUnavailable, OSError (certificates)."""
        store = cls(EtcdClient(endpoints))
        try:
            await store.refresh()
            await store._find_oldest()
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def revision(self) -> Revision:
        """The newest revision this process has heard of; `refresh` asks the cluster."""
        return self._revision

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def oldest(self) -> Revision:
        return self._oldest

    @property
    def superseded_bytes(self) -> int:
        return 0

    async def refresh(self) -> Revision:
        """The newest revision of the whole cluster, as of some moment since the call. Raises StoreUnavailable."""
        self._check_open()
        request = self._pb.RangeRequest(key=b"\0", count_only=True)
        return self.heard(await self._range(request))

    def heard(self, response: Any) -> Revision:
        """Note the revision in the header of any answer."""
        self._revision = max(self._revision, Revision(response.header.revision))
        return self._revision

    async def get(self, key: str, revision: Revision | None = None) -> Record | None:
        self._check_readable(revision)
        if revision == 0:
            return None  # to etcd that would be now
        response = await self._range(self._pb.RangeRequest(key=key.encode(), revision=revision or 0))
        return record_of(response.kvs[0]) if response.kvs else None

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        self._check_readable(revision)
        begin, end = span(prefix)
        if after:
            begin = max(begin, after.encode() + b"\0")
        is_empty = end != EVERYTHING and begin >= end
        if is_empty or revision == 0:
            return Page((), await self.refresh() if revision is None else revision, False, 0)
        records: list[Record] = []
        at = revision
        while True:
            wanted = min(PAGE, limit - len(records)) if limit else PAGE
            request = self._pb.RangeRequest(key=begin, range_end=end, limit=wanted, revision=at or 0)
            response = await self._range(request)
            if at is None:
                at = Revision(response.header.revision)  # what follows is read at the same one
            records += map(record_of, response.kvs)
            remaining = response.count - len(response.kvs)
            if not remaining or (limit and len(records) >= limit):
                return Page(records, at, remaining > 0, remaining)
            begin = response.kvs[-1].key + b"\0"

    async def create(self, key: str, value: bytes) -> Record:
        response, is_retry = await self._commit(key, Revision(0), self._put(key, value))
        if response.succeeded:
            revision = Revision(response.header.revision)
            return Record(key, value, revision, revision)
        found = self._read_back(response)
        if found is None:
            raise StoreUnavailable(f"etcd contradicts itself about {key}")
        if is_retry:
            return _ours(found, value)
        raise KeyExists(found)

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        if not expected:
            return await self._unconditionally(key, expected, lambda now: self.update(key, value, now))
        response, is_retry = await self._commit(key, expected, self._put(key, value))
        if response.succeeded:
            previous = response.responses[0].response_put.prev_kv
            return Record(key, value, Revision(previous.create_revision), Revision(response.header.revision))
        found = self._read_back(response)
        if is_retry:
            return _ours(found, value)
        if found is None:
            raise KeyMissing(key)
        raise RevisionMismatch(found)

    async def delete(self, key: str, expected: Revision | None) -> Record:
        if not expected:
            return await self._unconditionally(key, expected, lambda now: self.delete(key, now))
        deleting = self._pb.DeleteRangeRequest(key=key.encode(), prev_kv=True)
        response, is_retry = await self._commit(key, expected, self._pb.RequestOp(request_delete_range=deleting))
        if response.succeeded:
            gone = record_of(response.responses[0].response_delete_range.prev_kvs[0])
            return Record(key, gone.value, gone.create_revision, Revision(response.header.revision))
        if is_retry:
            # Gone, or made anew: by the first try, or by somebody else who wanted the same. Nothing tells which.
            raise OutcomeUnknown(f"whether {key} was deleted by this request is not known")
        found = self._read_back(response)
        if found is not None:
            raise RevisionMismatch(found)
        raise KeyMissing(key)

    def watch(self, prefix: str, since: Revision) -> EtcdWatch:
        self._check_readable(since)
        if since > self._revision:
            raise FutureRevision(self._revision)
        watch = EtcdWatch(self._client, self, prefix, since)
        self._watches.add(watch)
        return watch

    async def compact(self, revision: Revision) -> None:
        self._check_open()
        if revision <= self._oldest:
            return
        try:
            self.heard(await self._client.compact(self._pb.CompactionRequest(revision=revision)))
        except Refused as refusal:
            if "future revision" in str(refusal):
                raise FutureRevision(await self.refresh()) from None
            if "compacted" not in str(refusal):
                raise StoreUnavailable(f"etcd does not compact: {refusal}") from None
            await self._find_oldest()
            return
        self._oldest = max(self._oldest, revision)

    async def close(self) -> None:
        self._closed = True
        for watch in list(self._watches):
            watch.fail(StoreUnavailable("the store is closed"))
        await self._client.close()

    def forget(self, watch: EtcdWatch) -> None:
        """It was closed."""
        self._watches.discard(watch)

    def compacted(self, oldest: Revision) -> None:
        """Another process has compacted."""
        self._oldest = max(self._oldest, oldest)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _put(self, key: str, value: bytes) -> Any:
        return self._pb.RequestOp(request_put=self._pb.PutRequest(key=key.encode(), value=value, prev_kv=True))

    def _read_back(self, response: Any) -> Record | None:
        found = response.responses[0].response_range.kvs
        return record_of(found[0]) if found else None

    async def _commit(self, key: str, expected: Revision, change: Any) -> tuple[Any, bool]:
        """Do `change` if the key is at `expected` (0: if there is none), else read it.

        Returns etcd's answer, and whether an earlier try of the same may have been carried out.
        """
        self._check_open()
        pb, name = self._pb, key.encode()
        condition = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=name, mod_revision=expected)
        read = pb.RequestOp(request_range=pb.RangeRequest(key=name))
        request = pb.TxnRequest(compare=[condition], success=[change], failure=[read])
        is_retry = False
        for _ in range(SETTLE_TRIES):
            try:
                response = await self._client.transaction(request)
            except OutcomeUnknown:
                is_retry = True
                continue
            except Refused as refusal:
                raise StoreUnavailable(f"etcd takes no write: {refusal}") from None
            self.heard(response)
            return response, is_retry
        raise OutcomeUnknown("etcd does not tell whether a write was done")

    async def _unconditionally(
        self, key: str, expected: Revision | None, write: Callable[[Revision], Awaitable[Record]]
    ) -> Record:
        """Of any revision (None), or of one that no record has (0)."""
        while True:
            current = await self.get(key)
            if current is None:
                raise KeyMissing(key)
            if expected is not None:
                raise RevisionMismatch(current)
            try:
                return await write(current.mod_revision)
            except RevisionMismatch:
                continue  # another one was faster; this write takes any revision

    async def _range(self, request: Any) -> Any:
        try:
            response = await self._client.range(request)
        except Refused as refusal:
            if "compacted" in str(refusal):
                await self._find_oldest()
                raise Compacted(self._oldest) from None
            if "future revision" in str(refusal):
                raise FutureRevision(await self.refresh()) from None
            raise StoreUnavailable(f"etcd does not answer a read: {refusal}") from None
        self.heard(response)
        return response

    async def _find_oldest(self) -> None:
        """Ask for the first revision there ever was; where it is refused, a watch is told what to begin at."""
        try:
            await self._client.range(self._pb.RangeRequest(key=b"\0", revision=1, count_only=True))
            return
        except Refused as refusal:
            if "compacted" not in str(refusal):
                raise StoreUnavailable(f"etcd does not answer a read: {refusal}") from None
        watch = EtcdWatch(self._client, self, "/", Revision(0))
        try:
            await anext(watch)
        except Compacted:
            pass  # and noted by `compacted`
        finally:
            await watch.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _check_readable(self, revision: Revision | None) -> None:
        self._check_open()
        if revision is not None and revision < self._oldest:
            raise Compacted(self._oldest)


def record_of(pair: Any) -> Record:
    """A key-value pair of etcd's as a Record."""
    return Record(pair.key.decode(), pair.value, Revision(pair.create_revision), Revision(pair.mod_revision))


def _ours(found: Record | None, value: bytes) -> Record:
    """The record of a write whose first try was carried out after all; its value tells. Raises OutcomeUnknown.

    Another value proves nothing: ours may have been there, and somebody else's come after it.
    """
    if found is not None and found.value == value:
        return found
    raise OutcomeUnknown("whether a write was done before the next one is not known")
