"""Pipes and splices: order, bounds, and ends."""

from __future__ import annotations

import asyncio

import pytest

from kybern.testing.streams import connect
from kybern.wire.pipe import Pipe
from kybern.wire.splice import splice


def test_a_pipe_gives_what_was_fed_and_then_its_end() -> None:
    async def main() -> None:
        pipe = Pipe()
        pipe.feed(b"a")
        pipe.feed(b"b")
        pipe.feed_eof()
        pipe.feed(b"late")
        assert await pipe.read() == b"ab"
        assert await pipe.read() == b""
        assert pipe.at_eof

    asyncio.run(main())


def test_a_pipe_tells_its_fault_after_what_was_fed() -> None:
    async def main() -> None:
        pipe = Pipe()
        pipe.feed(b"a")
        pipe.feed_eof(ConnectionResetError("gone"))
        assert await pipe.read() == b"a"
        with pytest.raises(ConnectionResetError):
            await pipe.read()

    asyncio.run(main())


def test_a_feeder_waits_for_its_reader_or_for_nobody() -> None:
    async def main() -> None:
        for leave in (lambda p: p.read(), None):
            pipe = Pipe()
            pipe.feed(b"x" * 300_000)
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(pipe.wait_room())
                await asyncio.sleep(0)
                assert not waiting.done()
                if leave is None:
                    pipe.abandon()
                else:
                    await leave(pipe)

    asyncio.run(main())


def test_spliced_connections_carry_both_ways_and_end_together() -> None:
    async def main() -> None:
        client, near = connect()
        far, server = connect()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(splice(near, far))
            await client.write(b"question")
            assert await server.read() == b"question"
            await server.write(b"answer")
            server.close()
            assert await client.read() == b"answer"
            assert await client.read() == b""

    asyncio.run(main())
