"""The API server's side of policies: worker processes that are started, asked, cut, replaced and reloaded.

Used by process/apiserver; asked by apiserver/admission/python_policies. Promises: the loop never waits for a policy's
code; a call ends soon after its budget whatever the code does; new files count only when all of them load.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from pathlib import Path

import msgspec
import structlog

from kybern.policies import protocol
from kybern.policies.errors import PolicyError
from kybern.policies.load import Stamp, stamp_of
from kybern.policies.protocol import Ask, Entry, Outcome

log = structlog.get_logger(__name__)

SIZE = 2  # workers: calls that run at once
_LOADING = 30.0  # seconds for a folder to load
# A policy is cut by its own process at its budget. If that does not help (it hangs in C), the process is ended.
_GRACE = 0.5


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, catalogue: protocol.Catalogue) -> None:
        self._process = process
        self.catalogue = catalogue

    @classmethod
    async def start(cls, folder: Path) -> _Worker:
        """Raises PolicyError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "kybern.policies.worker", str(folder),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_LOADING):
                said = await _receive(process)
            if not isinstance(said, protocol.Catalogue):
                raise PolicyError(said.error if isinstance(said, protocol.Broken) else "no catalogue")
        except TimeoutError:
            await _end(process)
            raise PolicyError(f"{folder}: the policies did not load in {_LOADING:g} s") from None
        except _Gone:
            await _end(process)
            raise PolicyError(f"{folder}: the process that loads policies ended") from None
        except BaseException:
            await _end(process)
            raise
        return cls(process, said)

    async def ask(self, ask: Ask, patience: float) -> Outcome:
        """Raises TimeoutError, or _Gone when the process ends."""
        assert self._process.stdin is not None
        async with asyncio.timeout(patience):
            try:
                self._process.stdin.write(protocol.frame(ask))
                await self._process.stdin.drain()
            except ConnectionError:
                raise _Gone from None
            said = await _receive(self._process)
        if not isinstance(said, Outcome):
            raise _Gone
        return said

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def end(self) -> None:
        await _end(self._process)


class _Gone(Exception):
    """The process ended, or says what it must not."""


async def _receive(process: asyncio.subprocess.Process) -> protocol.Message:
    assert process.stdout is not None
    try:
        length = protocol.length_of(await process.stdout.readexactly(protocol.PREFIX))
        message: protocol.Message = protocol.parse_message(await process.stdout.readexactly(length))
    except (asyncio.IncompleteReadError, ValueError, msgspec.MsgspecError):
        raise _Gone from None
    return message


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it, and wait until it is gone (a killed process goes at once)."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


class Generation:
    """The policies of one state of the folder, with the workers that have it loaded."""

    def __init__(self, folder: Path, first: _Worker | None, size: int) -> None:
        self.entries: tuple[Entry, ...] = tuple(first.catalogue.policies) if first is not None else ()
        self._folder = folder
        self._idle: deque[_Worker] = deque([first] if first is not None else [])
        self._turns = asyncio.Semaphore(size)
        self.users = 0  # writes that began with it

    async def evaluate(self, ask: Ask) -> Outcome:
        """The outcome of one call: a failure, too, is an outcome."""
        entry = self.entries[ask.policy]
        async with self._turns:
            try:
                worker = await self._take()
            except PolicyError as error:
                return Outcome(failure=str(error))
            try:
                outcome = await worker.ask(ask, entry.budget + _GRACE)
            except TimeoutError:
                await worker.end()
                return Outcome(failure=f"took longer than {entry.budget:g} s and did not stop: its process was ended")
            except _Gone:
                await worker.end()
                return Outcome(failure="its process ended while it ran")
            except BaseException:
                await worker.end()  # it would answer to the next one
                raise
            self._idle.append(worker)
            return outcome

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
        worker = await _Worker.start(self._folder)
        if tuple(worker.catalogue.policies) != self.entries:
            await worker.end()
            raise PolicyError("the policies have just changed: try again")
        return worker

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().end()


class WorkerPool:
    """Policies of a folder. `await WorkerPool.start(folder)`, then `acquire`, `evaluate`, `release`."""

    def __init__(self, folder: Path, current: Generation, stamp: Stamp, size: int) -> None:
        self._folder = folder
        self._current = current
        self._retired: list[Generation] = []
        self._stamp = stamp
        self._size = size

    @classmethod
    async def start(cls, folder: Path, size: int = SIZE) -> WorkerPool:
        """Raises PolicyError for files that cannot be used. A folder that is not there holds none, and may come."""
        stamp = _stamp(folder)
        first = await _first(folder, stamp)
        return cls(folder, Generation(folder, first, size), stamp, size)

    @property
    def count(self) -> int:
        return len(self._current.entries)

    def acquire(self) -> Generation:
        """The policies in force; they stay until released, whatever becomes of the folder."""
        self._current.users += 1
        return self._current

    def release(self, generation: Generation) -> None:
        generation.users -= 1

    async def reload_if_changed(self) -> None:
        """Take new files into force if all of them load; say what is wrong if not, once."""
        await self._end_retired()
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            first = await _first(self._folder, stamp)
        except PolicyError as error:
            log.error("policies changed and cannot be loaded: those before stay in force", error=str(error))
            return
        self._retired.append(self._current)
        self._current = Generation(self._folder, first, self._size)
        await self._end_retired()
        log.info("policies loaded", count=len(self._current.entries), folder=str(self._folder))

    async def close(self) -> None:
        """End all workers; nothing is asked any more."""
        for generation in (self._current, *self._retired):
            await generation.close()

    async def _end_retired(self) -> None:
        """Those that no write has in use."""
        for generation in [g for g in self._retired if not g.users]:
            self._retired.remove(generation)
            await generation.close()


async def _first(folder: Path, stamp: Stamp) -> _Worker | None:
    """The worker that loads the folder; none for a folder without files."""
    return await _Worker.start(folder) if stamp else None


def _stamp(folder: Path) -> Stamp:
    return stamp_of(folder) if folder.is_dir() else ()
