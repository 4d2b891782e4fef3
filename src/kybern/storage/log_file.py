"""The log of revisions on disk: one SQLite file, one row a write, a checksum a row.

Used by sqlite, from one thread at a time; everything here blocks. Promises: `append` returns only after fsync
(WAL, synchronous=FULL) and adds all of its rows or none; `load` answers nothing that fails its checksum or
leaves a gap; one process has the file open, by a lock that dies with the process. What was written is folded from the
WAL into the file by checkpoints, beside the writes.

    log(revision, key, value, created, checksum)   value NULL: the key was deleted
    span(oldest)                                   one row: the revision compacted to

Rows up to `oldest` are the state at `oldest` (one a key, no deletions); every revision after it has its row.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
from isal import isal_zlib

from kybern.storage.checkpoints import Checkpoints
from kybern.storage.history import History
from kybern.storage.interface import Change, Record, Revision, StoreError, StoreUnavailable

FORMAT = 1  # PRAGMA user_version; another one is refused
APPLICATION = 0x4B794274  # PRAGMA application_id: "KyBt"
DEFRAGMENT_PAGES = 75  # moved in one transaction: some milliseconds
BUSY_TIMEOUT = 5_000  # ms; only the scrub and an operator's shell compete

_SCHEMA = f"""
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    value BLOB,
    created INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE span (oldest INTEGER NOT NULL);
INSERT INTO span VALUES (0);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""
# In this order: auto_vacuum is taken only by a file that has no header yet.
_PRAGMAS = {"auto_vacuum": "INCREMENTAL", "journal_mode": "WAL", "synchronous": "FULL", "trusted_schema": "OFF"}
_INCREMENTAL = 2  # what PRAGMA auto_vacuum answers
_ROWS = "SELECT revision, CAST(key AS BLOB), CAST(value AS BLOB), created, checksum FROM log"

Row = tuple[int, bytes, bytes | None, int, int]


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes in pages of 4 KiB. Tests make them small."""

    checkpoint: int = 2_000  # of the WAL that are folded into the file at once, beside the writes
    restart: int = 16_000  # of the WAL, until writers stop for some milliseconds so that it can begin anew
    shrink_from: int = 1_000  # smaller files are left as they are


class StoreLocked(StoreError):
    """Another process has the file open."""


class StoreCorrupt(StoreError):
    """The file is not what was written. Names the row; says what to do."""


class LogFile:
    """An open file. `close` it."""

    def __init__(self, path: Path, *, vfs: str = "", tuning: Tuning | None = None) -> None:
        """Open or create, through SQLite's default way to files or the `vfs` registered under a name.

        Raises StoreLocked, StoreCorrupt, StoreUnavailable.
        """
        self.path = path
        self._tuning = tuning or Tuning()
        self._lock = _lock(path)
        _read_ahead(path)
        try:
            self._db = _connect(path, vfs)
            self._checkpoints = Checkpoints(self._db, path, vfs, self._tuning.checkpoint, self._tuning.restart)
            self._can_shrink = self._db.pragma("auto_vacuum") == _INCREMENTAL  # files of an older make cannot
        except BaseException:
            self._lock.close()
            raise

    @staticmethod
    @contextlib.contextmanager
    def hold(path: Path) -> Iterator[None]:
        """Keep everybody from opening the store at `path`. Raises StoreLocked, StoreUnavailable."""
        lock = _lock(path)
        try:
            yield
        finally:
            lock.close()

    def load(self) -> History:
        """Read everything. Raises StoreCorrupt, StoreUnavailable."""
        try:
            oldest = self._db.execute("SELECT oldest FROM span").get
            if not isinstance(oldest, int):
                raise _damaged(self.path, "the table `span` does not hold one revision")
            rows = self._db.execute(f"{_ROWS} ORDER BY revision")
            return _rebuild(self.path, Revision(oldest), rows)
        except (apsw.CorruptError, apsw.SQLError) as error:
            raise _damaged(self.path, str(error)) from error
        except apsw.Error as error:
            raise StoreUnavailable(f"cannot read {self.path}: {error}") from error

    def append(self, changes: Sequence[Change]) -> None:
        """Make changes durable, all or none. Raises StoreUnavailable.

        One statement is one transaction, and the interpreter is let go and taken back once, however many rows.
        """
        if not changes:
            return  # a group of refusals only: they waited for what they depended on, which is durable by now
        values: list[object] = []
        for change in changes:
            record = change.record or change.previous
            assert record is not None  # a change has one side at least
            value = None if change.record is None else record.value
            checksum = checksum_of(change.revision, change.key.encode(), value, record.create_revision)
            values += (change.revision, change.key, value, record.create_revision, checksum)
        try:
            self._db.execute(_insert(len(changes)), values)
        except apsw.Error as error:
            raise StoreUnavailable(f"cannot write {self.path}: {error}") from error
        self._checkpoints.tend()

    def compact(self, oldest: Revision, dropped: Iterable[Revision]) -> None:
        """Move `oldest` up and remove the rows of `dropped`, all or nothing. Raises StoreUnavailable."""
        try:
            with self._db:
                self._db.execute("UPDATE span SET oldest = max(oldest, ?)", (oldest,))
                self._db.execute(
                    "DELETE FROM log WHERE revision IN (SELECT value FROM json_each(?))", (json.dumps(list(dropped)),)
                )
        except apsw.Error as error:
            raise StoreUnavailable(f"cannot compact {self.path}: {error}") from error
        self._checkpoints.tend()

    def free_share(self) -> float:
        """How much of the file holds nothing, 0 to 1 (0 where it is too small to care). Raises StoreUnavailable."""
        try:
            pages, free = self._db.pragma("page_count"), self._db.pragma("freelist_count")
        except apsw.Error as error:
            raise StoreUnavailable(f"cannot read {self.path}: {error}") from error
        can_shrink = self._can_shrink and pages > self._tuning.shrink_from
        return float(free / pages) if can_shrink else 0.0

    def defragment(self) -> None:
        """Give some of the free pages back to the file system. Raises StoreUnavailable."""
        try:
            self._db.execute(f"PRAGMA incremental_vacuum({DEFRAGMENT_PAGES})").fetchall()
        except apsw.Error as error:
            raise StoreUnavailable(f"cannot shrink {self.path}: {error}") from error
        self._checkpoints.tend()

    def close(self) -> None:
        """Fold the WAL into the file and let the lock go. Once is enough, twice does no harm."""
        try:
            self._checkpoints.close()
            self._db.close()
        finally:
            self._lock.close()


def read_rows(path: Path, after: Revision, limit: int) -> list[Row]:
    """The next rows after a revision, on a connection of its own; for the scrub. Raises StoreUnavailable."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(BUSY_TIMEOUT)
            return list(db.execute(f"{_ROWS} WHERE revision > ? ORDER BY revision LIMIT ?", (after, limit)))
        finally:
            db.close()
    except apsw.Error as error:
        raise StoreUnavailable(f"cannot read {path}: {error}") from error


def checksum_of(revision: int, key: bytes, value: bytes | None, created: int) -> int:
    """CRC-32 over all columns of a row."""
    head = b"%d %d %d %d %b" % (revision, created, len(key), value is not None, key)
    checksum: int = isal_zlib.crc32(value or b"", isal_zlib.crc32(head))
    return checksum


def fault_of(row: Row) -> str:
    """What is wrong with a row read, "" when nothing is."""
    revision, key, value, created, checksum = row
    if isinstance(created, int) and isinstance(key, bytes) and checksum == checksum_of(revision, key, value, created):
        return ""
    shown = key.decode(errors="replace") if isinstance(key, bytes) else repr(key)
    return f"row {revision} ({shown}) does not match its checksum"


def _rebuild(path: Path, oldest: Revision, rows: Iterable[Row]) -> History:
    """Replay the rows, checking each and that each follows on those before it."""
    state: dict[str, Record] = {}
    history: History | None = None
    changes: list[Change] = []
    for row in rows:
        if fault := fault_of(row):
            raise _damaged(path, fault)
        revision, key, value, created = Revision(row[0]), row[1].decode(), row[2], Revision(row[3])
        record = None if value is None else Record(key, value, created, revision)
        if revision > oldest:
            if history is None:
                history = History(oldest, state.values())
            if revision != oldest + len(changes) + 1:
                raise _damaged(path, f"row {oldest + len(changes) + 1} is missing")
            previous = state.get(key)
            if created != (previous.create_revision if previous is not None else revision):
                raise _damaged(path, f"row {revision} ({key}) does not follow on the row of this key before it")
            changes.append(Change(revision, key, record, previous))
        elif record is None or key in state:
            raise _damaged(path, f"row {revision} ({key}) should have been removed by compaction at {oldest}")
        if record is not None:
            state[key] = record
        else:
            del state[key]
    if history is None:
        history = History(oldest, state.values())
    history.apply(changes)
    return history


def _read_ahead(path: Path) -> None:
    """All of the file will be read: let a disk that is slow to answer begin at once. A hint, which may fail.

    Before SQLite opens it: closing a file takes away the locks that its process has on it.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@functools.cache
def _insert(rows: int) -> str:
    return "INSERT INTO log VALUES " + ",".join(["(?,?,?,?,?)"] * rows)


def _damaged(path: Path, what: str) -> StoreCorrupt:
    return StoreCorrupt(f"the store {path} is damaged: {what}; restore it from a backup")


def _lock(path: Path) -> io.FileIO:
    """The lock file, open. It outlives the process that made it; the lock does not."""
    beside = path.with_name(path.name + ".lock")
    try:
        _make_folder(path.parent)
        lock = io.FileIO(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as error:
        raise StoreUnavailable(f"cannot open {beside}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(b"%d\n" % os.getpid())
    except BlockingIOError as error:
        holder = lock.read(32).decode(errors="replace").strip() or "unknown"
        lock.close()
        raise StoreLocked(f"the store {path} is in use by process {holder}; stop it first") from error
    except OSError as error:
        lock.close()
        raise StoreUnavailable(f"cannot lock {beside}: {error.strerror}") from error
    return lock


def _make_folder(folder: Path) -> None:
    """With its parents, each of which knows its child for good."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _connect(path: Path, vfs: str) -> apsw.Connection:
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would make it 0644
            sync_folder(path.parent)
        db = apsw.Connection(str(path), vfs=vfs or None)
    except (OSError, apsw.Error) as error:
        raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
    try:
        db.set_busy_timeout(BUSY_TIMEOUT)
        for name, value in _PRAGMAS.items():
            db.pragma(name, value)
        application, version = db.pragma("application_id"), db.pragma("user_version")
        if (application, version) == (0, 0) and not db.execute("SELECT 1 FROM sqlite_schema").get:
            with db:
                db.execute(_SCHEMA)
        elif (application, version) != (APPLICATION, FORMAT):
            raise StoreCorrupt(
                f"{path} is not a store of format {FORMAT} (application {application:#x}, format {version})"
            )
    except (apsw.NotADBError, apsw.CorruptError) as error:
        db.close(True)
        raise _damaged(path, str(error)) from error
    except apsw.Error as error:
        db.close(True)
        raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
    except StoreError:
        db.close(True)
        raise
    return db
