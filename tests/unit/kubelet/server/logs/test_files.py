"""Log files: tails, following, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kybern.kubelet.server.logs import files
from kybern.machinery.log_options import LogOptions
from kybern.testing.clock import FakeClock

ENTRY = "2026-01-01T00:00:00Z stdout F {}\n"


def write(path: Path, *lines: object) -> None:
    with path.open("a") as file:
        file.writelines(ENTRY.format(line) for line in lines)


class Client:
    """A Sink, and the clock that lets its follower look again."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.buffered = 0

    def write(self, data: bytes) -> None:
        self.data += data

    write_framed = write

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def abort(self) -> None: ...


def read(path: Path, options: LogOptions) -> bytes:
    async def never() -> bool:
        raise AssertionError("only followers ask")

    client = Client()
    asyncio.run(files.send_log(client, str(path), options, never, FakeClock()))
    return client.data


@pytest.mark.parametrize(
    ("tail", "expected"), [(0, b""), (1, b"4999\n"), (2, b"4998\n4999\n"), (5000, None), (9999, None), (None, None)]
)
def test_the_tail_is_counted_in_lines(tmp_path: Path, tail: int | None, expected: bytes | None) -> None:
    path = tmp_path / "0.log"
    write(path, *range(5000))
    found = read(path, LogOptions(tail_lines=tail))
    if expected is None:
        expected = b"".join(b"%d\n" % n for n in range(5000))
    assert found == expected


def test_an_unfinished_line_counts_for_the_tail(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, "one")
    with path.open("a") as file:
        file.write(ENTRY.format("two").rstrip("\n"))
    assert read(path, LogOptions(tail_lines=1)) == b"two\n"


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "0.log", LogOptions()) == b""


class Following:
    """A follower at work."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self.client = Client()
        self.running = True
        self._clock = FakeClock()
        self._path = path
        self._options = options

    async def run(self) -> None:
        async def is_running() -> bool:
            return self.running

        await files.send_log(self.client, str(self._path), self._options, is_running, self._clock)

    async def until(self, expected: bytes) -> None:
        async with asyncio.timeout(10):
            while self.client.data != expected:
                await self._clock.advance(0.2)
                await asyncio.sleep(0.001)


async def finish(following: Following, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        while not task.done():
            await following.until(following.client.data)
            await following._clock.advance(0.2)
            await asyncio.sleep(0.001)


def follow(path: Path, scenario: object, options: LogOptions | None = None) -> bytes:
    following = Following(path, options or LogOptions(follow=True))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(following.run())
            await scenario(following)  # type: ignore[operator]
            await finish(following, task)

    asyncio.run(main())
    return following.client.data


def test_following_shows_what_comes_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, 1)

    async def scenario(following: Following) -> None:
        await following.until(b"1\n")
        write(path, 2)
        await following.until(b"1\n2\n")
        write(path, 3)
        following.running = False

    assert follow(path, scenario) == b"1\n2\n3\n"


def test_following_goes_over_to_the_new_file_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, 1)

    async def scenario(following: Following) -> None:
        await following.until(b"1\n")
        with path.open("a") as still_open:
            path.rename(tmp_path / "0.log.rotated")
            still_open.write(ENTRY.format(2))
        write(path, 3)
        await following.until(b"1\n2\n3\n")
        following.running = False

    assert follow(path, scenario) == b"1\n2\n3\n"


def test_following_ends_when_the_limit_is_reached_or_the_client_goes(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, 1, 2, 3)

    async def limited(following: Following) -> None:
        await following.until(b"1\n2")

    assert follow(path, limited, LogOptions(follow=True, limit_bytes=3)) == b"1\n2"

    async def leaves(following: Following) -> None:
        await following.until(b"1\n2\n3\n")
        following.client.closed = True

    assert follow(path, leaves) == b"1\n2\n3\n"
