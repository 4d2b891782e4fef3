"""Keep the components of a cluster running: start them in order, start again what dies, stop them in reverse.

Started by `kybern up` with a plan file, lives until SIGTERM. It never touches containers: those belong to containerd's
shims and go on when any daemon, this one included, is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from kybern.process import log as log_setup

log = structlog.get_logger(__name__)

# After a crash: at once, then slower, up to this; a minute without a crash is a new start.
MAX_DELAY = 10.0
STABLE_SECONDS = 60.0
STOP_SECONDS = 15.0
LOG_BYTES = 50 << 20


class Child(msgspec.Struct, frozen=True):
    """One process to keep running."""

    name: str
    command: tuple[str, ...]
    log: str  # file that gets its output
    environment: Mapping[str, str] = {}


class Plan(msgspec.Struct, frozen=True):
    """What to run, in order, and where to say how it goes."""

    children: tuple[Child, ...]
    state: str  # file: JSON of {name: pid}
    pid_file: str
    held: str = ""  # file: JSON list of children that are not to run now; read at start and on SIGHUP


def restart_delay(crashes: int) -> float:
    """Seconds before the next start after so many crashes in a row."""
    return 0.0 if crashes <= 1 else min(MAX_DELAY, 0.25 * 2 ** (crashes - 2))


class Supervisor:
    """Runs a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._may_run = {child.name: asyncio.Event() for child in plan.children}

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then stop all children in reverse order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with asyncio.TaskGroup() as tasks:
            self._hold(tasks)
            loop.add_signal_handler(signal.SIGHUP, self._hold, tasks)
            keepers = [tasks.create_task(self._keep(child), name=f"keep {child.name}") for child in self._plan.children]
            await self._stopping.wait()
            loop.remove_signal_handler(signal.SIGHUP)
            for keeper in keepers:
                keeper.cancel()
        for child in reversed(self._plan.children):
            await self._stop(child.name)

    def _hold(self, tasks: asyncio.TaskGroup) -> None:
        """Let run what may, and stop what may not."""
        held = read_held(self._plan.held)
        for child in reversed(self._plan.children):
            may_run = self._may_run[child.name]
            if child.name not in held:
                may_run.set()
            elif may_run.is_set():
                may_run.clear()
                tasks.create_task(self._stop(child.name), name=f"stop {child.name}")

    async def _keep(self, child: Child) -> None:
        crashes = 0
        while True:
            await self._may_run[child.name].wait()
            started = time.monotonic()
            process = await self._start(child)
            code = await process.wait()
            if not self._may_run[child.name].is_set():
                log.info("component stopped", component=child.name)
                crashes = 0
                continue
            crashes = 1 if time.monotonic() - started > STABLE_SECONDS else crashes + 1
            delay = restart_delay(crashes)
            log.warning("component ended", component=child.name, code=code, crashes=crashes, restart_in=delay)
            await asyncio.sleep(delay)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        with open_log(Path(child.log)) as output:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **child.environment},
                # Its own session: a terminal's Ctrl-C reaches nobody here, and a kill of one group only one component.
                start_new_session=True,
            )
        self._processes[child.name] = process
        log.info("component started", component=child.name, pid=process.pid)
        self._write_state()
        return process

    async def _stop(self, name: str) -> None:
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("component did not stop in time", component=name)
            process.kill()
            await process.wait()

    def _write_state(self) -> None:
        pids = {name: process.pid for name, process in self._processes.items()}
        file = Path(self._plan.state)
        temporary = file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(pids))
        temporary.replace(file)


def read_held(file: str) -> frozenset[str]:
    """Names of children that are not to run. No file, or one that cannot be read, holds nothing."""
    try:
        return frozenset(msgspec.json.decode(Path(file).read_bytes(), type=list[str])) if file else frozenset()
    except (OSError, msgspec.DecodeError):
        return frozenset()


def open_log(path: Path) -> BinaryIO:
    """Open a component's log for appending; a large one is first put aside as `<name>.1`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def main(arguments: Sequence[str]) -> None:
    """`python -m kybern.process.supervisor PLAN_FILE`."""
    log_setup.configure()
    plan = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Plan)
    Path(plan.pid_file).write_text(str(os.getpid()))
    try:
        asyncio.run(Supervisor(plan).run())
    finally:
        for file in (plan.pid_file, plan.state):
            Path(file).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
