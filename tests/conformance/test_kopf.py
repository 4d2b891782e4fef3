"""kopf, a framework of operators, against a real server on a socket: its examples' handlers do their work.

What they rely on: discovery, watches of custom objects, merge patches of objects and their status, finalizers, events.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import kopf
import pytest

from kybern.apiserver.options import ServerOptions
from kybern.apiserver.request import Request
from kybern.apiserver.server import ApiServer
from kybern.client.clock import RealClock
from kybern.storage.memory import MemoryStore
from kybern.testing.api_server import ADMIN, Api
from kybern.testing.definitions import DEFINITIONS, custom, definition
from kybern.wire.http1.server import serve

pytestmark = pytest.mark.thorough

GROUP = "kopf.dev"
PLURAL = "kopfexamples"
WHERE = f"/apis/{GROUP}/v1/namespaces/default/{PLURAL}"
PATIENCE = 20.0


def operator_of(done: list[str]) -> kopf.OperatorRegistry:
    """The handlers of kopf's examples: creation with a result, fields, updates, deletion behind a finalizer."""
    registry = kopf.OperatorRegistry()

    @kopf.on.create(GROUP, PLURAL, id="create_fn", registry=registry)
    def create_fn(spec: Any, name: str, **_: Any) -> dict[str, Any]:
        done.append(f"created {name}")
        return {"message": f"hello world {spec.get('field')}"}

    @kopf.on.update(GROUP, PLURAL, id="update_fn", registry=registry)
    def update_fn(name: str, **_: Any) -> None:
        done.append(f"updated {name}")

    @kopf.on.field(GROUP, PLURAL, id="field_fn", field="spec.field", registry=registry)
    def field_fn(old: Any, new: Any, **_: Any) -> None:
        done.append(f"field {old} {new}")

    @kopf.on.delete(GROUP, PLURAL, id="delete_fn", registry=registry)
    def delete_fn(name: str, patch: Any, **_: Any) -> None:
        patch.status["deleting"] = True
        done.append(f"deleted {name}")

    return registry


async def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def play(done: list[str]) -> None:
    tokens = f'{ADMIN.name},{ADMIN.name},0,"system:masters"\n'
    options = ServerOptions(static_tokens=tokens, advertise_address="192.0.2.10")
    server = ApiServer(options, MemoryStore(), RealClock(), random.Random(1))
    async with asyncio.TaskGroup() as tasks:
        started = asyncio.Event()
        upkeep = tasks.create_task(_serve(server, started))
        await started.wait()
        http = await serve(
            server.application, request_type=Request, tasks=tasks, clock=RealClock(), host="127.0.0.1", port=0
        )
        api = Api(server, RealClock(), ADMIN, tasks)
        schema = {
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
        document = definition(PLURAL, "KopfExample", schema, group=GROUP, names={"shortNames": ["kopfex"]})
        (await api.create(DEFINITIONS, document)).ok()

        memo: dict[str, Any] = {}
        stop, ready = asyncio.Event(), asyncio.Event()
        registry = operator_of(done)
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False

        @kopf.on.login(registry=registry)
        def login(**_: Any) -> kopf.ConnectionInfo:
            return kopf.ConnectionInfo(server=f"http://127.0.0.1:{http.port}", token=ADMIN.name)

        running = tasks.create_task(
            kopf.operator(
                registry=registry,
                settings=settings,
                namespaces=["default"],
                standalone=True,
                stop_flag=stop,
                ready_flag=ready,
                memo=kopf.Memo(memo),
            )
        )
        await asyncio.wait_for(ready.wait(), PATIENCE)
        version = f"{GROUP}/v1"
        (await api.create(WHERE, custom("one", "KopfExample", api_version=version, spec={"field": "a"}))).ok()
        await until(lambda: "created one" in done, "the object is created")
        await _settled(api, lambda o: o.get("status", {}).get("create_fn"), "the handler's result is written")
        (await api.patch(f"{WHERE}/one", {"spec": {"field": "b"}})).ok()
        await until(lambda: {"updated one", "field a b"} <= set(done), "the object is updated")
        found = (await api.get(f"{WHERE}/one")).ok()
        assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        assert found["status"]["create_fn"] == {"message": "hello world a"}
        (await api.delete(f"{WHERE}/one")).ok()
        await until(lambda: "deleted one" in done, "the object is deleted")
        await _gone(api)
        stop.set()
        await running
        await http.close()
        upkeep.cancel()


async def _serve(server: ApiServer, started: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        started.set()


async def _settled(api: Api, holds: Callable[[dict[str, Any]], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds((await api.get(f"{WHERE}/one")).ok()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def _gone(api: Api) -> None:
    deadline = time.monotonic() + PATIENCE
    while (await api.get(f"{WHERE}/one")).status != 404:
        assert time.monotonic() < deadline, "the finalizer is taken off"
        await asyncio.sleep(0.05)


def test_the_handlers_of_kopfs_examples_do_their_work() -> None:
    done: list[str] = []

    asyncio.run(play(done))
    assert done[0] == "created one" and done[-1] == "deleted one"
