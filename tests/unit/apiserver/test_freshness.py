"""Two API servers over one store: what one has acknowledged, the other shows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from kybern.apiserver.options import ServerOptions
from kybern.apiserver.server import ApiServer
from kybern.storage.interface import Change, Revision, StoreUnavailable, Watch
from kybern.storage.memory import MemoryStore
from kybern.testing.api_server import ADMIN, Api
from kybern.testing.clock import FakeClock, VirtualLoop

CONFIGS = "/api/v1/namespaces/default/configmaps"


class SharedStore(MemoryStore):
    """A store that says it is shared. Its watches can be held back, its newest revision be denied."""

    def __init__(self) -> None:
        super().__init__()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.questions = 0
        self.fails = False

    @property
    def is_shared(self) -> bool:
        return True

    async def refresh(self) -> Revision:
        self.questions += 1
        await asyncio.sleep(0.001)
        if self.fails:
            raise StoreUnavailable("no etcd member answers")
        return await super().refresh()

    def watch(self, prefix: str, since: Revision) -> Watch:
        return _Held(self, super().watch(prefix, since))


class _Held:
    def __init__(self, store: SharedStore, inner: Watch) -> None:
        self._store = store
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        async for batch in self._inner:
            await self._store.flowing.wait()
            yield batch

    async def close(self) -> None:
        await self._inner.close()


def play(scenario: Any) -> None:
    async def main() -> None:
        store, clock = SharedStore(), FakeClock()
        tokens = f'{ADMIN.name},{ADMIN.name},1,"system:masters"\n'
        servers = [
            ApiServer(
                ServerOptions(static_tokens=tokens, advertise_address="192.0.2.1"), store, clock, random.Random(s)
            )
            for s in (1, 2)
        ]
        async with asyncio.TaskGroup() as tasks:
            started = [asyncio.Event() for _ in servers]
            upkeeps = [
                tasks.create_task(_serve(server, event), name="server")
                for server, event in zip(servers, started, strict=True)
            ]
            for event in started:
                await event.wait()
            await scenario(store, *(Api(server, clock, ADMIN, tasks) for server in servers))
            for upkeep in upkeeps:
                upkeep.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


async def _serve(server: ApiServer, started: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        started.set()


def test_what_one_server_acknowledged_the_other_shows() -> None:
    async def scenario(store: SharedStore, one: Api, other: Api) -> None:
        for i in range(20):
            made = (await one.create(CONFIGS, {"metadata": {"name": f"c{i}"}})).ok()
            seen = (await other.get(f"{CONFIGS}/c{i}")).ok()
            assert seen["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
            assert len((await other.get(CONFIGS)).ok()["items"]) >= i + 1
            assert (await other.delete(f"{CONFIGS}/c{i}")).status == 200
            assert (await one.get(f"{CONFIGS}/c{i}")).status == 404
            assert (await one.create(CONFIGS, {"metadata": {"name": f"c{i}"}})).status == 201

    play(scenario)


def test_a_read_waits_for_a_server_that_lags_unless_it_names_a_revision() -> None:
    async def scenario(store: SharedStore, one: Api, other: Api) -> None:
        (await one.create(CONFIGS, {"metadata": {"name": "a"}})).ok()
        store.flowing.clear()
        await store.update("/registry/configmaps/default/a", b'{"kind":"ConfigMap","metadata":{}}', None)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(other.get(f"{CONFIGS}/a"), name="read")
            await asyncio.sleep(1)
            assert not reading.done()
            assert (await other.get(f"{CONFIGS}/a?resourceVersion=0")).status == 200
            store.flowing.set()
        assert reading.result().ok()["metadata"]["resourceVersion"] == str(store.revision)

    play(scenario)


def test_requests_share_a_question_that_begins_after_they_came() -> None:
    async def scenario(store: SharedStore, one: Api, other: Api) -> None:
        store.questions = 0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(one.get(CONFIGS), name="list")
        assert store.questions <= 2

    play(scenario)


def test_a_store_that_does_not_answer_is_an_error_for_all_who_asked() -> None:
    async def scenario(store: SharedStore, one: Api, other: Api) -> None:
        store.fails = True
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one.get(CONFIGS), name="list") for _ in range(5)]
        assert {task.result().status for task in asked} == {503}
        store.fails = False
        assert (await one.get(CONFIGS)).status == 200

    play(scenario)


def test_a_store_that_tells_no_changes_is_not_waited_for_for_ever() -> None:
    async def scenario(store: SharedStore, one: Api, other: Api) -> None:
        store.flowing.clear()
        await store.create("/registry/configmaps/default/b", b'{"kind":"ConfigMap","metadata":{}}')
        assert (await one.get(CONFIGS)).status == 503
        store.flowing.set()
        assert (await one.get(CONFIGS)).status == 200

    play(scenario)
