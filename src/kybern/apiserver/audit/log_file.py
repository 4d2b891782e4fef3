"""The audit log: a line of JSON an event, in a file that is rotated by size.

A sink of record (mode blocking), or behind batch. A full disk loses events, not requests (unless blocking-strict), and
is told in the server's log. Rotated files are `<name>-<time>.<ending>`, as upstream's.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from kybern.apiserver.audit.sinks import Event
from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

_MEGABYTE = 1 << 20
_STAMP = "%Y-%m-%dT%H-%M-%S"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Flags --audit-log-*. `path` "-" is standard output."""

    path: str = ""
    max_age: int = 0  # days; 0: for ever
    max_backup: int = 0  # files; 0: all
    max_size: int = 100  # megabytes; 0: never rotated
    strict: bool = False  # mode blocking-strict


class LogFile:
    """Writes at once. Opened on the first event; raises nothing."""

    def __init__(self, options: LogOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._path = Path(options.path)
        self._file: int | None = None
        self._size = 0
        self.lost = 0

    def put(self, event: Event) -> bool:
        return self.write(b"%s\n" % event.data)

    def put_all(self, events: Sequence[Event]) -> None:
        self.write(b"".join(b"%s\n" % event.data for event in events))

    def write(self, lines: bytes) -> bool:
        try:
            self._write(lines)
        except OSError as error:
            self.lost += 1
            if self.lost == 1 or self.lost % 1000 == 0:
                log.error(
                    "audit events could not be written", path=self._options.path, lost=self.lost, error=str(error)
                )
            return not self._options.strict
        return True

    def close(self) -> None:
        if self._file is not None and self._options.path != "-":
            os.close(self._file)
        self._file = None

    def _write(self, lines: bytes) -> None:
        if self._file is None:
            self._open()
        limit = self._options.max_size * _MEGABYTE
        if limit and self._size and self._size + len(lines) > limit and self._options.path != "-":
            self._rotate()
        file = self._file
        assert file is not None
        rest = memoryview(lines)
        while rest:
            written = os.write(file, rest)
            self._size += written
            rest = rest[written:]

    def _open(self) -> None:
        if self._options.path == "-":
            self._file = sys.stdout.fileno()
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        now = self._clock.now()
        self.close()
        target, later = self._rotated_path(now), now
        while target.exists():  # twice in a millisecond
            later += datetime.timedelta(milliseconds=1)
            target = self._rotated_path(later)
        os.rename(self._path, target)
        self._open()
        for old in plan_removal(self._rotated(), now, self._options.max_age, self._options.max_backup):
            with contextlib.suppress(OSError):
                self._path.with_name(old).unlink()

    def _rotated_path(self, moment: datetime.datetime) -> Path:
        stamp = f"{moment.strftime(_STAMP)}.{moment.microsecond // 1000:03d}"
        return self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")

    def _rotated(self) -> list[str]:
        prefix, suffix = f"{self._path.stem}-", self._path.suffix
        names = (p.name for p in self._path.parent.iterdir())
        return [n for n in names if n.startswith(prefix) and n.endswith(suffix) and _time_of(n, prefix, suffix)]


def plan_removal(names: Sequence[str], now: datetime.datetime, max_age: int, max_backup: int) -> list[str]:
    """Which rotated files go: those beyond the newest `max_backup`, and those older than `max_age` days."""
    newest_first = sorted(names, reverse=True)
    gone = set(newest_first[max_backup:]) if max_backup else set()
    if max_age:
        oldest = (now - datetime.timedelta(days=max_age)).strftime(_STAMP)
        gone |= {n for n in names if _stamp_of(n) < oldest}
    return sorted(gone)


def _stamp_of(name: str) -> str:
    stem = name.rpartition(".")[0] or name
    return stem[-len("2026-01-01T00-00-00.000") :]


def _time_of(name: str, prefix: str, suffix: str) -> bool:
    text = name[len(prefix) : len(name) - len(suffix)]
    with contextlib.suppress(ValueError):
        datetime.datetime.strptime(text.partition(".")[0], _STAMP)
        return True
    return False
