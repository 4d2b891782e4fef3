"""Is the supervisor there, what are its children, and how it is stopped. Used by up, down, status and reset."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kybern.cli.settings import Settings
from kybern.process import supervisor


def running_pid(settings: Settings) -> int | None:
    """The supervisor's process id, if it runs."""
    try:
        pid = int(settings.pid_file.read_text())
    except (OSError, ValueError):
        return None
    return pid if is_ours(pid, "kybern.process.supervisor") else None


def is_ours(pid: int, word: str) -> bool:
    """Whether the process lives and its command line names `word` (pids are used again)."""
    try:
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def children(settings: Settings) -> dict[str, int]:
    """Component -> pid, as the supervisor last said."""
    try:
        return msgspec.json.decode(settings.state_file.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}


def is_alive(pid: int) -> bool:
    """Running, and not only waiting to be reaped."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def stop(settings: Settings, seconds: float = 60.0) -> bool:
    """Stop the supervisor and with it all components; False where nothing ran. Raises TimeoutError."""
    pid = running_pid(settings)
    if pid is None:
        return stop_orphans(settings, seconds)
    _end("supervisor", pid, seconds)
    return True


def stop_orphans(settings: Settings, seconds: float = 60.0) -> bool:
    """Stop components whose supervisor was killed; False where there are none. Raises TimeoutError."""
    words = {"containerd": "containerd"}
    found = [
        (name, pid)
        for name, pid in children(settings).items()
        if is_ours(pid, words.get(name.partition("@")[0], "kybern.cli.main")) and is_alive(pid)
    ]
    for name, pid in reversed(found):
        _end(name, pid, seconds)
    return bool(found)


def hold(settings: Settings, names: Iterable[str], seconds: float = 30.0) -> None:
    """Only these children do not run from now on. Raises TimeoutError when one does not follow."""
    held = frozenset(names)
    settings.held_file.parent.mkdir(parents=True, exist_ok=True)
    settings.held_file.write_bytes(msgspec.json.encode(sorted(held)))
    pid = running_pid(settings)
    if pid is None:
        return
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while late := [name for name, pid in children(settings).items() if is_alive(pid) == (name in held)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the supervisor did not follow within {seconds:.0f} s: {', '.join(late)}")
        time.sleep(0.05)


def held(settings: Settings) -> frozenset[str]:
    """The children that are not to run."""
    return supervisor.read_held(str(settings.held_file))


def _end(name: str, pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the {name} (pid {pid}) did not stop within {seconds:.0f} s")
        time.sleep(0.05)
