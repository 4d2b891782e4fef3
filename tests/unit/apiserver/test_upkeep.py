from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kybern.apiserver import upkeep
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

EVENTS = "/api/v1/namespaces/default/events"


def event(name: str, **more: Any) -> dict[str, Any]:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    return {"metadata": {"name": name, "namespace": "default"}, "involvedObject": about, **more}


async def names(api: Api) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.get(EVENTS)).ok()["items"]]


@pytest.mark.thorough
def test_events_go_when_nobody_added_to_them_for_an_hour() -> None:
    async def scenario(api: Api) -> None:
        clock = api.clock
        assert isinstance(clock, FakeClock)
        await api.create(EVENTS, event("old"))
        await api.create(EVENTS, event("again", count=1, lastTimestamp="2026-01-01T00:00:00Z"))
        await clock.advance(3000)
        await api.create(EVENTS, event("young"))
        (await api.patch(f"{EVENTS}/again", {"count": 2, "lastTimestamp": "2026-01-01T00:50:00Z"})).ok()
        await clock.advance(700)
        assert await names(api) == ["again", "young"]
        await clock.advance(3600)
        assert await names(api) == []

    api_server.run(scenario)


def test_the_server_s_own_service_is_there_and_comes_back() -> None:
    async def scenario(api: Api) -> None:
        path = "/api/v1/namespaces/default/services/kubernetes"
        service = (await api.get(path)).ok()
        assert service["spec"]["clusterIP"] == "10.96.0.1"
        endpoints = (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).ok()
        assert endpoints["subsets"][0]["addresses"] == [{"ip": api_server.ADDRESS}]
        (await api.delete(path)).ok()
        (await api.patch("/api/v1/namespaces/default/endpoints/kubernetes", {"subsets": None})).ok()
        await api.clock.advance(11)  # type: ignore[attr-defined]
        assert (await api.get(path)).ok()["spec"]["clusterIP"] == "10.96.0.1"
        assert (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).ok()["subsets"]

    api_server.run(scenario)


def test_an_address_that_endpoints_refuse_does_not_keep_the_server_down() -> None:
    async def scenario(api: Api) -> None:
        assert (await api.get("/readyz")).status == 200
        assert (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).status == 404

    api_server.run(scenario, store=MemoryStore(), options={"advertise_address": "127.0.0.1"})


def test_upkeep_goes_on_after_any_fault() -> None:
    async def main() -> int:
        clock = FakeClock()
        rounds = 0

        async def work() -> None:
            nonlocal rounds
            rounds += 1
            if rounds < 3:
                raise (ValueError, KeyError)[rounds - 1]("odd")

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(upkeep.forever("work", 10.0, clock, work))
            await clock.advance(45)
            task.cancel()
        return rounds

    assert asyncio.run(main()) == 4
