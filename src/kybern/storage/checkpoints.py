"""Fold SQLite's WAL into its file beside the writes, so that no writer waits for it.

Used by log_file: it calls `tend` after each commit, from the thread that writes. Left to itself SQLite folds in the
commit that makes the WAL too long, which takes 20 to 60 ms. Here another thread does it, on a connection of its own,
while writes go on. The WAL begins anew when all of it is folded at some commit: at any pause of the writes, and
otherwise when it is `restart` pages long, where the writer folds what little came since the other thread began.

A checkpoint that fails is tried again after the next commit; what was committed is durable without it.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import apsw

# What part of a checkpoint's pages the writer folds itself.
REST = 64


class Checkpoints:
    """Of one open file. Not for use from several threads at a time."""

    def __init__(self, writer: apsw.Connection, path: Path, vfs: str, every: int, restart: int) -> None:
        self._writer = writer
        self._path = path
        self._vfs = vfs
        self._every = every
        self._restart = restart
        self._thread = ThreadPoolExecutor(1, "store-checkpoint")
        self._connection: apsw.Connection | None = None  # of that thread
        self._running: Future[None] | None = None
        self._pages = 0  # of the WAL
        self._folded = 0  # of them, if nothing failed
        self._due = restart  # so long, and the writer folds the rest
        # In the place of SQLite's own, which would fold at once.
        writer.set_wal_hook(self._note)

    def tend(self) -> None:
        """After a commit: see to it that the WAL does not grow long."""
        if self._running is not None and not self._running.done():
            return
        if self._pages < self._folded:
            self._folded, self._due = 0, self._restart  # it has begun anew
        left = self._pages - self._folded
        if self._pages >= self._due and (left <= self._every // REST or self._pages >= self._due + self._restart):
            _fold(self._writer)
            self._folded = self._pages
            self._due = self._pages + self._every  # somebody who reads an older state may keep it from beginning anew
        elif left >= self._every or self._pages >= self._due:
            self._folded = self._pages
            self._running = self._thread.submit(self._fold_beside)

    def close(self) -> None:
        """Wait for what is under way. The WAL itself is folded and removed when the last connection closes."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _note(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def _fold_beside(self) -> None:
        with contextlib.suppress(apsw.Error):
            if self._connection is None:
                self._connection = apsw.Connection(str(self._path), vfs=self._vfs or None)
                self._connection.pragma("journal_mode", "WAL")
                self._connection.pragma("synchronous", "FULL")
            _fold(self._connection)


def _fold(connection: apsw.Connection) -> None:
    with contextlib.suppress(apsw.Error):
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
