"""Copy the embedded store while it serves, and put a copy in its place.

Used by `kybern backup` and `kybern restore`; blocking. A backup is a store file: compact, consistent at one revision,
every row verified before it gets its name. It holds what the store holds: Secrets stay encrypted, and the keys are not
in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import apsw

from kybern.storage.interface import Revision, StoreError, StoreUnavailable
from kybern.storage.log_file import BUSY_TIMEOUT, LogFile, StoreCorrupt, sync_folder

# Revisions handed out after the backup was made may be known to clients: a restored store starts far beyond them, with
# no history, so that every watch is told to list anew. etcdutl snapshot restore --bump-revision: the same.
BUMP = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy made: the newest revision in it, how many objects exist in it, its bytes."""

    revision: Revision
    objects: int
    size: int


def backup(path: Path, target: Path) -> Copied:
    """Copy the store at `path`, in use or not, to `target`, which appears when it is whole and on the disk.

    Raises FileExistsError for a target that is there, FileNotFoundError where there is no store, StoreCorrupt,
    StoreUnavailable.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    if not path.exists():
        raise FileNotFoundError(f"there is no store at {path}")
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        _copy(path, partial)
        copied = _verify(partial)
        _sync(partial)
        os.link(partial, target)  # unlike a rename it replaces nothing
        sync_folder(target.parent)
        return copied
    except OSError as error:
        raise StoreUnavailable(f"cannot write {target}: {error.strerror}") from error
    finally:
        _remove(partial)


def restore(source: Path, path: Path, *, bump: int = BUMP) -> tuple[Copied, Path | None]:
    """Put the backup `source` in the place of the store at `path`.

    Returns what is there now, and where the old store went (None: there was none). Every row is verified first, and
    history is dropped. Raises StoreLocked while a server has the store open, FileNotFoundError, StoreCorrupt,
    StoreUnavailable.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no backup at {source}")
    partial = path.with_name(f".{path.name}.restored")
    with LogFile.hold(path):
        _remove(partial)
        try:
            _copy(source, partial)
            _verify(partial)
            _forget_history(partial, bump)
            copied = _verify(partial)
            _sync(partial)
            aside = _set_aside(path)
            partial.replace(path)
            sync_folder(path.parent)
            return copied, aside
        except OSError as error:
            raise StoreUnavailable(f"cannot write {path}: {error.strerror}") from error
        finally:
            _remove(partial)


def _copy(source: Path, target: Path) -> None:
    """All of a store, as one transaction sees it."""
    try:
        db = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(BUSY_TIMEOUT)
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            db.execute("VACUUM INTO ?", (str(target),))
        finally:
            db.close()
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreCorrupt(f"{source} cannot be copied: {error}") from error
    except apsw.Error as error:
        raise StoreUnavailable(f"cannot copy {source}: {error}") from error


def _verify(path: Path) -> Copied:
    file = LogFile(path)
    try:
        history = file.load()
        return Copied(history.revision, len(history), path.stat().st_size)
    finally:
        file.close()


def _forget_history(path: Path, bump: int) -> None:
    file = LogFile(path)
    try:
        history = file.load()
        now = history.revision
        file.compact(now, history.plan_compact(now))
        file.compact(Revision(now + bump), ())
    finally:
        file.close()


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _set_aside(path: Path) -> Path | None:
    """Move a store out of the way, with its WAL."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    for ending in ("-wal", "-shm", ""):
        old = path.with_name(path.name + ending)
        if old.exists():
            old.rename(aside.with_name(aside.name + ending))
    return aside


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


__all__ = ["BUMP", "Copied", "StoreError", "backup", "restore"]
