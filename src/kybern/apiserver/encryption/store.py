"""A Store that encrypts on the way in and decrypts on the way out, by the rules of an EncryptionConfiguration.

Between registry and watch_cache on one side and any store on the other. Promises: nothing of a resource that is
selected reaches the store as plain text; a value that does not decrypt is never handed on: whoever reads it gets
`Undecryptable`, which names the key, and a server that loads such a store does not start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from kybern.apiserver.encryption.rules import PLAIN, Providers, Rules, resource_of
from kybern.apiserver.encryption.transformers import ENCRYPTED, CannotDecrypt
from kybern.apiserver.registry.keys import ROOT
from kybern.storage.interface import (
    Change,
    KeyExists,
    Page,
    Record,
    Revision,
    RevisionMismatch,
    Store,
    StoreError,
    Watch,
)

_CIPHERS = (b"aescbc:v1", b"aesgcm:v1", b"secretbox:v1", b"kms:v1", b"kms:v2")


class Undecryptable(StoreError):
    """A stored value cannot be read with the keys configured."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(
            f"the stored value of {key} cannot be decrypted: {why}; "
            "check the keys in the file of --encryption-provider-config"
        )


class EncryptedStore:
    """See storage.interface.Store. `rules` may be replaced at any time."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self.inner = store
        self._rules = rules
        # Keys under one of these prefixes have the group of a custom resource in front: /registry/<group>/<plural>/
        self._providers: dict[str, Providers | None] = {}
        # (resource, status, direction, how it was written) -> how often, for the metrics
        self.operations: dict[tuple[str, str, str, str], int] = {}

    @property
    def rules(self) -> Rules:
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self._providers = {}

    @property
    def revision(self) -> Revision:
        return self.inner.revision

    @property
    def is_shared(self) -> bool:
        return self.inner.is_shared

    @property
    def superseded_bytes(self) -> int:
        return self.inner.superseded_bytes

    async def refresh(self) -> Revision:
        return await self.inner.refresh()

    @property
    def oldest(self) -> Revision:
        return self.inner.oldest

    async def get(self, key: str, revision: Revision | None = None) -> Record | None:
        record = await self.inner.get(key, revision)
        return record if record is None else self._opened(record)

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        page = await self.inner.list(prefix, limit=limit, after=after, revision=revision)
        return Page([self._opened(r) for r in page.records], page.revision, page.more, page.remaining)

    async def create(self, key: str, value: bytes) -> Record:
        providers = self._providers_of(key)
        if providers is None:
            return await self.inner.create(key, value)
        try:
            return _with(await self.inner.create(key, self._closed(providers, value, key)), value)
        except KeyExists as error:
            raise KeyExists(self._opened(error.record)) from None

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        providers = self._providers_of(key)
        if providers is None:
            return await self.inner.update(key, value, expected)
        try:
            return _with(await self.inner.update(key, self._closed(providers, value, key), expected), value)
        except RevisionMismatch as error:
            raise RevisionMismatch(self._opened(error.record)) from None

    async def delete(self, key: str, expected: Revision | None) -> Record:
        if self._providers_of(key) is None:
            return await self.inner.delete(key, expected)
        try:
            return self._opened(await self.inner.delete(key, expected))
        except RevisionMismatch as error:
            raise RevisionMismatch(self._opened(error.record)) from None

    def watch(self, prefix: str, since: Revision) -> Watch:
        return _Opening(self, self.inner.watch(prefix, since))

    async def compact(self, revision: Revision) -> None:
        await self.inner.compact(revision)

    async def close(self) -> None:
        await self.inner.close()

    async def is_stale(self, key: str) -> bool:
        """Whether writing the same value again would put another key's ciphertext into the store."""
        providers = self._providers_of(key)
        record = await self.inner.get(key) if providers is not None else None
        return providers is not None and record is not None and providers.is_stale(record.value)

    def opened(self, change: Change) -> Change:
        """The change with its values decrypted. Raises Undecryptable."""
        record, previous = change.record, change.previous
        if self._providers_of(change.key) is None and not (record and record.value.startswith(ENCRYPTED)):
            return change
        return Change(
            change.revision,
            change.key,
            None if record is None else self._opened(record),
            None if previous is None else self._opened(previous),
        )

    def _closed(self, providers: Providers, value: bytes, key: str) -> bytes:
        written = providers.encrypt(value, key)
        self._count(key, "OK", "to_storage", written)
        return written

    def _count(self, key: str, status: str, direction: str, written: bytes) -> None:
        group, plural = resource_of(_prefix_of(key))
        name = (f"{plural}.{group}" if group else plural, status, direction, written_by(written))
        self.operations[name] = self.operations.get(name, 0) + 1

    def _opened(self, record: Record) -> Record:
        providers = self._providers_of(record.key)
        if providers is None:
            if not record.value.startswith(ENCRYPTED):
                return record
            providers = PLAIN
        try:
            value = providers.decrypt(record.value, record.key)
            self._count(record.key, "OK", "from_storage", record.value)
            return _with(record, value)
        except CannotDecrypt as error:
            self._count(record.key, "Unknown", "from_storage", record.value)
            raise Undecryptable(record.key, str(error)) from None

    def _providers_of(self, key: str) -> Providers | None:
        prefix = _prefix_of(key)
        try:
            return self._providers[prefix]
        except KeyError:
            found = self._providers[prefix] = self._rules.providers_of(prefix)
            return found


def _prefix_of(key: str) -> str:
    """The first part of the key, or the first two where they name a group and a resource."""
    end = key.find("/", len(ROOT)) + 1
    prefix = key[:end]
    if "." in prefix or prefix == f"{ROOT}services/":
        prefix = key[: key.find("/", end) + 1]
    return prefix


def written_by(value: bytes) -> str:
    """The cipher of a stored value, without the name of its key: `k8s:enc:aescbc:v1:`."""
    if not value.startswith(ENCRYPTED):
        return "identity"
    cipher, _, rest = value[len(ENCRYPTED) :].partition(b":")
    version = rest.partition(b":")[0]
    told = b":".join(filter(None, (cipher, version)))
    # Ciphers that nobody knows must not become labels.
    return f"{ENCRYPTED.decode()}{told.decode() if told in _CIPHERS else 'unknown'}:"


def _with(record: Record, value: bytes) -> Record:
    return Record(record.key, value, record.create_revision, record.mod_revision)


class _Opening:
    """A watch whose changes are decrypted."""

    def __init__(self, store: EncryptedStore, inner: Watch) -> None:
        self._store = store
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        async for batch in self._inner:
            yield [self._store.opened(change) for change in batch]

    async def close(self) -> None:
        await self._inner.close()
