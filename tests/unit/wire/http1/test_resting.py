"""Streams that go on without a task: they end with their client, their time or their server, and are told so once."""

from __future__ import annotations

import asyncio
from typing import Any

from kybern.wire.http1.body import frame_chunk
from kybern.wire.message import Request, Response, Resting, Sink, StreamResponse
from tests.unit.wire.http1.test_connection import Client, run

WATCH = b"GET /watch HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"0\r\n\r\n"


class Watches:
    """An application whose streams rest; keeps their sinks, and what was told of their ends."""

    def __init__(self, seconds: float = 3600.0) -> None:
        self.sinks: list[Sink] = []
        self.told: list[str] = []
        self._seconds = seconds

    def __call__(self, request: Request) -> Any:
        if request.path != "/watch":
            return Response(200, b"plain")

        async def run(sink: Sink) -> Resting:
            self.sinks.append(sink)
            sink.write(b"state")

            def say_goodbye() -> None:
                self.told.append("time")
                sink.write(b"bye")

            deadline = asyncio.get_running_loop().time() + self._seconds
            return Resting(deadline, say_goodbye, (lambda: self.told.append("end"), lambda: self.told.append("after")))

        return StreamResponse(run)


async def watching(tasks: asyncio.TaskGroup, request: bytes = WATCH) -> tuple[Client, Watches]:
    watches = Watches()
    client = Client(tasks, watches)
    assert (await client.send(request)).endswith(b"state" if b"1.0" in request else b"5\r\nstate\r\n")
    return client, watches


def test_what_is_written_later_reaches_the_client() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client, watches = await watching(tasks)
        watches.sinks[0].write_framed(frame_chunk(b"event"))
        assert client.transport.sent.endswith(b"5\r\nevent\r\n")
        assert not client.connection.is_answering
        client.hang_up()

    run(scenario)


def test_the_end_of_a_client_is_told_once() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client, watches = await watching(tasks)
        client.hang_up()
        await client.settle()
        assert watches.told == ["end", "after"]
        assert watches.sinks[0].closed
        watches.sinks[0].write(b"into the void")

    run(scenario)


def test_a_client_that_goes_while_the_state_is_told_is_not_kept() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        watches = Watches()
        client = Client(tasks, watches)
        client.connection.data_received(WATCH)
        client.connection.connection_lost(None)
        await client.settle()
        assert watches.told in ([], ["end", "after"])  # never begun, or ended
        assert not client.server.connections

    run(scenario)


def test_when_the_time_is_up_the_last_words_are_said_and_the_connection_goes_on() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client, watches = await watching(tasks)
        now = asyncio.get_running_loop().time()
        client.server.expire(now + 3599)
        assert watches.told == []
        client.connection.data_received(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
        client.server.expire(now + 3602)
        await client.settle()
        assert watches.told == ["time", "end", "after"]
        stream, _, rest = client.transport.sent.partition(LAST)
        assert stream.endswith(b"3\r\nbye\r\n")
        assert rest.endswith(b"\r\n\r\nplain")
        assert not client.transport.closed
        client.hang_up()
        await client.settle()
        assert watches.told == ["time", "end", "after"]

    run(scenario)


def test_who_asked_for_one_answer_only_gets_no_more() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        for request in (b"GET /watch HTTP/1.0\r\n\r\n", WATCH.replace(b"Host", b"Connection: close\r\nHost")):
            client, watches = await watching(tasks, request)
            client.server.expire(float("inf"))
            await client.settle()
            assert watches.told == ["time", "end", "after"]
            assert client.transport.closed

    run(scenario)


def test_a_server_that_ends_lets_them_end_well() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client, watches = await watching(tasks)
        client.server.is_closing = True
        client.connection.shut_down()
        assert not client.transport.closed
        client.connection.end_stream()
        await client.settle()
        assert watches.told == ["end", "after"]
        assert client.transport.sent.endswith(LAST)
        assert client.transport.closed

    run(scenario)


def test_who_was_slow_once_is_heard_again() -> None:
    async def scenario(tasks: asyncio.TaskGroup) -> None:
        client, _ = await watching(tasks)
        client.connection.pause_writing()
        assert not client.transport.reading
        client.connection.resume_writing()
        assert client.transport.reading  # or nobody would notice that it goes
        client.hang_up()

    run(scenario)
