"""Where the runtime writes the logs of containers, and reading their end.

Used by apply (directories, links), pod_workers (last words) and log_rotation. The line format is the CRI's:
`<time> <stdout|stderr> <F|P> <text>`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kybern.api.core_v1 import Pod

FALLBACK_LINES = 80
FALLBACK_BYTES = 2048
MESSAGE_LIMIT = 4096


def pod_directory(root: str, pod: Pod) -> Path:
    return Path(root) / f"{pod.metadata.namespace}_{pod.metadata.name}_{pod.metadata.uid}"


def relative_path(container: str, attempt: int) -> str:
    """Of a container's log in its pod's directory."""
    return f"{container}/{attempt}.log"


def make_directories(root: str, pod: Pod, container: str) -> None:
    (pod_directory(root, pod) / container).mkdir(parents=True, exist_ok=True, mode=0o755)


def link(links: str, pod: Pod, container: str, container_id: str, log: Path) -> None:
    """/var/log/containers: where log collectors look."""
    if not links:
        return
    where = Path(links)
    with contextlib.suppress(OSError):
        where.mkdir(parents=True, exist_ok=True)
        name = f"{pod.metadata.name}_{pod.metadata.namespace}_{container}-{container_id}.log"
        os.symlink(log, where / name)


def remove_links(links: str, container_id: str) -> None:
    if not links:
        return
    for path in Path(links).glob(f"*-{container_id}.log"):
        path.unlink(missing_ok=True)


def remove_dead_links(links: str) -> int:
    """Links whose log is gone."""
    removed = 0
    for path in Path(links).glob("*.log") if links else ():
        if path.is_symlink() and not path.exists():
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def read_last_words(path: Path, log: Path | None) -> str:
    """What a container left as termination message; `log`: where to look when it left none."""
    text = ""
    with contextlib.suppress(OSError), path.open("rb") as file:
        text = file.read(MESSAGE_LIMIT).decode("utf-8", "replace")
    if text or log is None:
        return text
    return _end_of(log)


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # Time stamps and tags take room too: read a good deal more than is kept.
            file.seek(max(0, size - 64 * 1024))
            data = file.read()
    except OSError:
        return ""
    lines = data.split(b"\n")
    if size > 64 * 1024:
        lines = lines[1:]
    text = b"".join(parse_line(line) for line in lines)
    kept = text.splitlines(keepends=True)[-FALLBACK_LINES:]
    return b"".join(kept)[-FALLBACK_BYTES:].decode("utf-8", "replace")


def parse_line(line: bytes) -> bytes:
    """The text of a line, with its newline unless it is partial."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return b""
    return parts[3] + (b"" if parts[2].startswith(b"P") else b"\n")
