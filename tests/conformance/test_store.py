"""The store's contract on every implementation there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from kybern.apiserver.encryption.rules import Providers, Rule, Rules
from kybern.apiserver.encryption.store import EncryptedStore
from kybern.apiserver.encryption.transformers import AesGcm
from kybern.storage.interface import Store
from kybern.storage.memory import MemoryStore
from kybern.storage.sqlite import SqliteStore
from kybern.testing.store_machine import machine_of
from kybern.testing.store_suite import StoreSuite

pytestmark = pytest.mark.thorough


async def open_memory(directory: Path) -> Store:
    return MemoryStore()


async def open_sqlite(directory: Path) -> Store:
    return await SqliteStore.open(directory / "kybern.db")


async def open_encrypted(directory: Path) -> Store:
    return EncryptedStore(MemoryStore(), Rules([Rule(("*.*",), Providers((AesGcm("key1", bytes(32)),)))]))


class TestEncrypted(StoreSuite):
    async def open_store(self, directory: Path) -> Store:
        return await open_encrypted(directory)


class TestMemory(StoreSuite):
    async def open_store(self, directory: Path) -> Store:
        return await open_memory(directory)


class TestSqlite(StoreSuite):
    async def open_store(self, directory: Path) -> Store:
        return await open_sqlite(directory)


TestMemoryMachine = machine_of(open_memory, is_durable=False)
TestMemoryMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSqliteMachine = machine_of(open_sqlite, is_durable=True)
TestSqliteMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
