from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from kybern.process import supervisor


def test_the_first_crash_restarts_at_once_and_later_ones_ever_slower_up_to_a_limit() -> None:
    delays = [supervisor.restart_delay(n) for n in range(1, 12)]
    assert delays[0] == 0 and delays == sorted(delays) and delays[-1] == supervisor.MAX_DELAY


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_child_is_started_again_and_all_stop_with_the_supervisor(tmp_path: Path) -> None:
    children = tuple(
        supervisor.Child(name, ("sleep", "1000"), str(tmp_path / f"{name}.log")) for name in ("first", "second")
    )
    plan = supervisor.Plan(children, str(tmp_path / "state"), str(tmp_path / "pid"))
    (tmp_path / "plan").write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "kybern.process.supervisor", str(tmp_path / "plan")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def pids() -> dict[str, int]:
        file = tmp_path / "state"
        return msgspec.json.decode(file.read_bytes(), type=dict[str, int]) if file.exists() else {}

    try:
        until(lambda: set(pids()) == {"first", "second"})
        before = pids()
        os.kill(before["first"], signal.SIGKILL)
        until(lambda: pids()["first"] != before["first"])
        assert pids()["second"] == before["second"]
        running = pids()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in running.values())
        assert not (tmp_path / "state").exists() and not (tmp_path / "pid").exists()
    finally:
        process.kill()


def test_what_is_held_does_not_run_until_it_is_let_go(tmp_path: Path) -> None:
    names = ("first", "second")
    children = tuple(supervisor.Child(name, ("sleep", "1000"), str(tmp_path / f"{name}.log")) for name in names)
    held = tmp_path / "held"
    held.write_bytes(b'["second"]')
    plan = supervisor.Plan(children, str(tmp_path / "state"), str(tmp_path / "pid"), str(held))
    (tmp_path / "plan").write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "kybern.process.supervisor", str(tmp_path / "plan")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def running() -> set[str]:
        file = tmp_path / "state"
        pids = msgspec.json.decode(file.read_bytes(), type=dict[str, int]) if file.exists() else {}
        return {name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}

    def hold(text: bytes) -> None:
        held.write_bytes(text)
        process.send_signal(signal.SIGHUP)

    try:
        until(lambda: running() == {"first"})
        hold(b'["first"]')
        until(lambda: running() == {"second"})
        hold(b"[]")
        until(lambda: running() == {"first", "second"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_list_of_the_held_that_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "held").write_bytes(b"{")
    assert supervisor.read_held(str(tmp_path / "held")) == supervisor.read_held("") == frozenset()
