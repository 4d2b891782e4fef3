"""fsGroup: give a volume's files to a group, as "Configure volume permission and ownership change policy" says.

Blocking; called in a thread by the kinds of volumes that support it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_WRITABLE, _READABLE, _ENTER = 0o660, 0o440, 0o110


def apply(root: Path, group: int, *, readonly: bool = False, only_on_mismatch: bool = False) -> None:
    """The group of every file becomes `group`, with read (and write) permission; directories pass it on (setgid)."""
    if only_on_mismatch and _matches(root, group, readonly):
        return
    for where, directories, names in os.walk(root, topdown=False):
        for name in names:
            _change(Path(where, name), group, readonly)
        for name in directories:
            if os.path.islink(Path(where, name)):
                _change(Path(where, name), group, readonly)
        _change(Path(where), group, readonly)


def _matches(root: Path, group: int, readonly: bool) -> bool:
    facts = root.stat()
    wanted = (_READABLE if readonly else _WRITABLE) | _ENTER | stat.S_ISGID
    return facts.st_gid == group and facts.st_mode & wanted == wanted


def _change(path: Path, group: int, readonly: bool) -> None:
    facts = path.lstat()
    os.chown(path, -1, group, follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        return
    mode = stat.S_IMODE(facts.st_mode) | (_READABLE if readonly else _WRITABLE)
    if stat.S_ISDIR(facts.st_mode):
        mode |= _ENTER | stat.S_ISGID
    os.chmod(path, mode)
