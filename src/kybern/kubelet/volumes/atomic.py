"""Files that change all at once: a directory of links to `..data`, which is swapped by one rename.

Used by the kinds of volumes whose content comes from the API. A reader sees the old files or the new ones, never
a mixture. The layout is what users rely on:

    key            -> ..data/key
    ..data         -> ..2026_01_02_03_04_05.123456789
    ..2026_.../key    the content
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from kybern.kubelet.volumes.contract import File

DATA = "..data"
_NEW_DATA = "..data_tmp"


def check_path(path: str) -> PurePosixPath:
    """A relative path that stays inside. Raises ValueError."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or path.startswith("..") or len(path) > 4096:
        raise ValueError(f"invalid path {path!r}: it must be relative, and must not contain '..'")
    if any(len(part.encode()) > 255 for part in pure.parts):
        raise ValueError(f"invalid path {path!r}: a name is longer than 255 bytes")
    return pure


def write(
    target: Path, payload: Mapping[str, File], now: datetime.datetime, own: Callable[[Path], None] | None = None
) -> bool:
    """Make `target` hold exactly `payload`. Returns whether something changed. Blocking; raises OSError, ValueError.

    `own` sets the ownership of the new content before anyone sees it.
    """
    files = {check_path(path): file for path, file in payload.items()}
    old = _current(target)
    tops = {path.parts[0] for path in files}
    if old is not None and _holds(old, files):
        _link(target, tops)
        _unlink_others(target, tops)
        return False
    fresh = _make_directory(target, now)
    try:
        for path, file in files.items():
            _write_file(fresh, path, file)
        if own is not None:
            own(fresh)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target / _NEW_DATA)
        os.symlink(fresh.name, target / _NEW_DATA)
        os.rename(target / _NEW_DATA, target / DATA)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _link(target, tops)
    _unlink_others(target, tops)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _current(target: Path) -> Path | None:
    try:
        return target / os.readlink(target / DATA)
    except FileNotFoundError:
        return None


def _holds(directory: Path, files: Mapping[PurePosixPath, File]) -> bool:
    found = 0
    for where, _, names in os.walk(directory):
        for name in names:
            full = Path(where, name)
            file = files.get(PurePosixPath(full.relative_to(directory)))
            if file is None:
                return False
            facts = full.lstat()
            if facts.st_size != len(file.data) or full.read_bytes() != file.data:
                return False
            if stat.S_IMODE(facts.st_mode) & file.mode != file.mode:  # fsGroup may have added bits
                return False
            found += 1
    return found == len(files)


def _make_directory(target: Path, now: datetime.datetime) -> Path:
    for counter in range(1000):
        fresh = target / f"..{now:%Y_%m_%d_%H_%M_%S}.{now.microsecond * 1000 + counter:09d}"
        try:
            fresh.mkdir()
        except FileExistsError:
            continue
        fresh.chmod(0o755)
        return fresh
    raise FileExistsError(f"no free name for a new version under {target}")


def _write_file(fresh: Path, path: PurePosixPath, file: File) -> None:
    full = fresh / path
    made = fresh
    for part in path.parts[:-1]:
        made = made / part
        if not made.exists():
            made.mkdir()
            made.chmod(0o755)
    descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.data)
        if file.owner is not None:
            os.fchown(out.fileno(), file.owner, -1)
        os.fchmod(out.fileno(), file.mode)


def _link(target: Path, tops: set[str]) -> None:
    for name in tops:
        if not os.path.lexists(target / name):
            os.symlink(f"{DATA}/{name}", target / name)


def _unlink_others(target: Path, tops: set[str]) -> None:
    for name in os.listdir(target):
        if name not in tops and not name.startswith("..") and os.path.islink(target / name):
            os.unlink(target / name)
