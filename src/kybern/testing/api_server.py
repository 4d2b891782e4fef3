"""A real API server in a test: on a MemoryStore, with time and dice of the test's own, and no sockets.

`run(scenario)` starts one (a tenth of a second), hands the scenario an `Api` and stops the server when it returns.
An `Api` speaks as one user: `await api.get(path)` goes through the whole pipeline and comes back as an `Answer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from kybern.apiserver.admission.python_policies import Policies
from kybern.apiserver.aggregator.backend import Wire
from kybern.apiserver.options import ServerOptions
from kybern.apiserver.request import Request, Response, StreamResponse, User
from kybern.apiserver.server import ApiServer
from kybern.apiserver.webhooks.transport import Exchanger
from kybern.machinery.clock import Clock
from kybern.storage.interface import Page, Record, Revision, Store
from kybern.storage.memory import MemoryStore
from kybern.testing.clock import FakeClock, VirtualLoop
from kybern.wire.http1 import body as chunks
from kybern.wire.http1 import target as targets

T = TypeVar("T")
ADMIN = User("admin", "1", ("system:masters",))
ADDRESS = "192.0.2.10"  # of the server, RFC 5737; nothing listens there
PATIENCE = 10.0  # seconds of the loop, which jump: a watch waits so long for an event before the test fails


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `json` is its body decoded."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    seconds: float  # of CPU time: what a busy machine does besides does not count

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def warnings(self) -> list[str]:
        """The texts of the Warning headers."""
        joined = self.headers.get("warning", "")
        return [w.removeprefix('299 - "').removesuffix('"') for w in joined.split("\n")] if joined else []

    def ok(self) -> Any:
        """The decoded body of a success."""
        assert 200 <= self.status < 300, f"{self.status}: {self.body[:1000]!r}"
        return self.json


class MemorySink:
    """Where a streamed answer goes. `buffered` is what the test says; `abort` closes it."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.buffered = 0
        self._gone = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.received.put_nowait(data)

    def write_framed(self, data: bytes) -> None:
        for chunk in chunks.split(data):
            self.write(chunk)

    async def drain(self) -> None:
        await asyncio.sleep(0)
        await self.room.wait()

    @property
    def closed(self) -> bool:
        return self._gone.is_set()

    async def wait_closed(self) -> None:
        await self._gone.wait()

    def abort(self) -> None:
        self._gone.set()
        self.room.set()


class Watched:
    """A watch under way: its events, in order."""

    def __init__(self, sink: MemorySink) -> None:
        self.sink = sink

    async def next(self) -> dict[str, Any]:
        """The next event as JSON."""
        async with asyncio.timeout(PATIENCE):
            event: dict[str, Any] = msgspec.json.decode(await self.sink.received.get())
        return event

    async def take(self, count: int) -> list[tuple[str, str]]:
        """(type, name) of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(e["type"], e["object"].get("metadata", {}).get("name", "")) for e in events]

    def waiting(self) -> int:
        """How many events have come and were not taken."""
        return self.sink.received.qsize()


class Api:
    """One user's way to the server. Targets are as on the wire: `/api/v1/pods?limit=5`."""

    def __init__(self, server: ApiServer, clock: Clock, user: User, tasks: asyncio.TaskGroup) -> None:
        self.server = server
        self.clock = clock
        self._user = user
        self._tasks = tasks

    def as_user(self, user: User) -> Api:
        """The same server for one of the users that `run` was given."""
        return Api(self.server, self.clock, user, self._tasks)

    async def request(
        self, method: str, target: str, body: Any = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request; a body that is not bytes is sent as JSON. A streamed answer must come to its end."""
        began = time.process_time()
        answer = await self._ask(method, target, body, headers)
        if isinstance(answer, StreamResponse):
            answer = await _whole(answer)
        assert isinstance(answer, Response), f"{method} {target} is no plain answer"
        return Answer(answer.status, _headers_of(answer), answer.body, time.process_time() - began)

    async def get(self, target: str, **headers: str) -> Answer:
        return await self.request("GET", target, headers=_spelled(headers))

    async def create(self, target: str, obj: Any, **headers: str) -> Answer:
        return await self.request("POST", target, obj, _spelled(headers))

    async def update(self, target: str, obj: Any, **headers: str) -> Answer:
        return await self.request("PUT", target, obj, _spelled(headers))

    async def patch(self, target: str, patch: Any, kind: str = "merge") -> Answer:
        """`kind`: merge, strategic-merge or json."""
        return await self.request("PATCH", target, patch, {"content-type": f"application/{kind}-patch+json"})

    async def delete(self, target: str, options: Any = b"", **headers: str) -> Answer:
        return await self.request("DELETE", target, options, _spelled(headers))

    @contextlib.asynccontextmanager
    async def watch(self, target: str, **headers: str) -> AsyncIterator[Watched]:
        """Follow a target that answers with a stream; the client goes away at the end of the block."""
        answer = await self._ask("GET", target, b"", _spelled(headers))
        assert isinstance(answer, StreamResponse), answer
        sink = MemorySink()
        stream = self._tasks.create_task(follow(answer, sink), name=f"watch {target}")
        try:
            yield Watched(sink)
        finally:
            sink.abort()
            await stream

    async def _ask(self, method: str, target: str, body: Any, headers: Mapping[str, str] | None) -> Any:
        path, query = targets.split_target(target)
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        sent = {"authorization": f"Bearer {self._user.name}", **(headers or {})}
        if data and "content-type" not in sent:
            sent["content-type"] = "application/json"
        answer = self.server.application(Request(method, path, target, query, sent, data, "127.0.0.1"))
        answered = await answer if isinstance(answer, Awaitable) else answer
        if isinstance(answered, Response) and answered.on_sent is not None:
            answered.on_sent()
        return answered


async def _whole(answer: StreamResponse) -> Response:
    sink = MemorySink()
    async with asyncio.timeout(PATIENCE):
        await follow(answer, sink)
    body = b"".join(sink.received.get_nowait() for _ in range(sink.received.qsize()))
    return Response(answer.status, body, answer.content_type, answer.headers, answer.fields)


async def follow(answer: StreamResponse, sink: MemorySink) -> None:
    """Follow a stream to its end, as a connection does."""
    resting = await answer.run(sink)
    if resting is None:
        return
    try:
        async with asyncio.timeout_at(resting.deadline):
            await sink.wait_closed()
    except TimeoutError:
        resting.at_deadline()
    finally:
        resting.end()


def _spelled(headers: Mapping[str, str]) -> dict[str, str]:
    """`content_type="..."` as a header."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _headers_of(answer: Response) -> dict[str, str]:
    found: dict[str, str] = {"content-type": answer.content_type}
    lines = [line.partition(": ") for line in answer.fields.decode("latin-1").split("\r\n") if line]
    for name, value in (*((name, value) for name, _, value in lines), *answer.headers):
        key = name.lower()
        found[key] = f"{found[key]}\n{value}" if key == "warning" and key in found else value
    return found


def run(
    scenario: Callable[[Api], Coroutine[Any, Any, T]],
    *,
    users: Sequence[User] = (),
    store: Store | None = None,
    clock: Clock | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
    webhooks: Exchanger | None = None,
    backends: Wire | None = None,
    policies: Policies | None = None,
) -> T:
    """What `scenario(api)` returns; `api` is the admin's. `options` are fields of ServerOptions.

    `webhooks`: what answers the server's calls (testing.webhooks.FakeWebhooks); without it none can be reached.
    `backends`: the servers behind APIServices (testing.backends.FakeServers).
    `policies`: Python functions that are asked about writes (policies.offline.Inline).

    Without a `store` the server starts again on one that holds what a first start makes; with `store=MemoryStore()` it
    starts for the first time, which takes three times as long.
    """
    state = store or MemoryStore(*_of_a_first_start())

    async def main() -> T:
        tokens = "".join(f'{u.name},{u.name},{u.uid or "0"},"{",".join(u.groups)}"\n' for u in (ADMIN, *users))
        time_of_test = clock or FakeClock()
        chosen = ServerOptions(**{"static_tokens": tokens, "advertise_address": ADDRESS, **(options or {})})
        rng = random.Random(seed)
        server = ApiServer(chosen, state, time_of_test, rng, webhooks, backends, policies)
        async with asyncio.TaskGroup() as tasks:
            started = asyncio.Event()
            upkeep = tasks.create_task(_serve(server, started), name="api server")
            try:
                await started.wait()
                return await scenario(Api(server, time_of_test, ADMIN, tasks))
            finally:
                upkeep.cancel()

    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:  # what waits for a time-out need not wait
            return runner.run(main())
    except BaseExceptionGroup as group:
        raise _innermost(group) from None


@functools.cache
def _of_a_first_start() -> tuple[Revision, Sequence[Record]]:
    """The revision and the records that a server leaves which starts on an empty store."""
    store = MemoryStore()

    async def scenario(_: Api) -> Page:
        return await store.list("")

    page = run(scenario, store=store)
    return page.revision, page.records


def _innermost(error: BaseException) -> BaseException:
    """What really failed, out of the groups of the tasks around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _serve(server: ApiServer, started: asyncio.Event) -> None:
    """The server's own tasks, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        await server.start(tasks)
        started.set()
