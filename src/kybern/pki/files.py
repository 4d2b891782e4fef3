"""Write secrets to disk so that a crash leaves the old file or the new one, and nobody else reads them.

Used by pki.ensure and pki.kubeconfig.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SECRET = 0o600
PUBLIC = 0o644


def ensure_directory(path: Path, mode: int = 0o700) -> None:
    path.mkdir(mode=mode, parents=True, exist_ok=True)


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` atomically and durably. Its mode is `mode` from the first byte on."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def restrict(path: Path, mode: int) -> None:
    """Give an existing file its mode, should somebody have widened it."""
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
