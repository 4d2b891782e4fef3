"""The store's contract on a real etcd, on Debian's or whichever is installed."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from kybern.storage.etcd import Endpoints, EtcdStore
from kybern.storage.interface import Store
from kybern.testing import etcd
from kybern.testing.store_machine import machine_of
from kybern.testing.store_suite import StoreSuite

_numbers = itertools.count()
_member: list[etcd.Member] = []


def member() -> etcd.Member:
    """One for all tests of this process."""
    if not _member:
        folder = Path(tempfile.mkdtemp(prefix="etcd-"))
        made = etcd.cluster(folder, 1, ("--unsafe-no-fsync",))
        etcd.run(made)
        _member.extend(made)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(made[0].kill)
    return _member[0]


async def open_etcd(directory: Path) -> Store:
    store = await EtcdStore.open(Endpoints.parse(member().url))
    return await etcd.begin(store, f"/t{next(_numbers)}")


class TestEtcd(StoreSuite):
    async def open_store(self, directory: Path) -> Store:
        return await open_etcd(directory)


TestEtcdMachine = machine_of(open_etcd, is_durable=False)
TestEtcdMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)


def test_where_etcd_is() -> None:
    found = Endpoints.parse("https://10.0.0.1:2379, https://10.0.0.2:2379/", "/ca.pem", "/c.pem", "/k.pem")
    assert found.urls == ("https://10.0.0.1:2379", "https://10.0.0.2:2379")
    assert found.key == Path("/k.pem")
    for wrong in ("", "10.0.0.1:2379", "unix:///x", "https://", "https://h:1/path"):
        with pytest.raises(ValueError, match="etcd"):
            Endpoints.parse(wrong)
    with pytest.raises(ValueError, match="needs its key"):
        Endpoints.parse("https://h:1", certificate="/c.pem")


def test_no_member_is_an_error_and_no_hang() -> None:
    from kybern.storage.interface import StoreUnavailable

    async def run() -> None:
        with pytest.raises(StoreUnavailable, match="no etcd member answers"):
            await EtcdStore.open(Endpoints.parse(f"http://127.0.0.1:{etcd.free_ports(1)[0]}"))

    asyncio.run(run())
