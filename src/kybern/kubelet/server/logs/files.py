"""Read a container's log file: the tail, all of it, and what is still to come.

Used by server/application; lines.py formats. Blocking reads happen in threads. Following survives rotation (the
path gets a new file: the old one is read to its end first) and ends when the container has ended and everything
was read.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

from kybern.kubelet.server.logs.lines import LineFormatter
from kybern.machinery.clock import Clock
from kybern.machinery.log_options import LogOptions
from kybern.wire.message import Sink

_PIECE = 256 * 1024
_TAIL_BLOCK = 64 * 1024
_POLL = 0.2  # seconds between looks at a file that is followed
_ALIVE_EVERY = 5  # of these looks, one asks whether the container still runs


class LogFile:
    """One open log file, read from where `options` want it to start."""

    def __init__(self, path: str, options: LogOptions) -> None:
        self._path = path
        self._formatter = LineFormatter(options)
        # A cancelled reader's thread goes on: it must not read from a number that `close` gave back.
        self._lock = threading.Lock()
        self._closed = False
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if options.tail_lines is not None:
            os.lseek(self._fd, find_tail(self._fd, options.tail_lines), os.SEEK_SET)

    def read(self) -> tuple[bytes, bool]:
        """(output, whether the file gave anything). Goes over to the next file after a rotation."""
        with self._lock:
            return (b"", False) if self._closed else self._read()

    def _read(self) -> tuple[bytes, bool]:
        data = os.read(self._fd, _PIECE)
        if not data and self._was_replaced():
            data = os.read(self._fd, _PIECE)  # what came between the last read and the rotation
            if not data:
                os.close(self._fd)
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                data = os.read(self._fd, _PIECE)
        elif not data and os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)  # truncated in place
        return self._formatter.feed(data) if data else b"", bool(data)

    def _was_replaced(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False  # in the middle of a rotation, or removed with its container
        mine = os.fstat(self._fd)
        return (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev)

    def finish(self) -> bytes:
        return self._formatter.finish()

    @property
    def is_full(self) -> bool:
        return self._formatter.is_full

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._fd)


def find_tail(fd: int, lines: int) -> int:
    """Where the last `lines` lines start. A last line without its end counts."""
    size = os.fstat(fd).st_size
    if lines == 0:
        return size
    end = size
    wanted = lines
    if size and os.pread(fd, 1, size - 1) != b"\n":
        wanted -= 1  # the unfinished one has no line end to count
    while end > 0:
        start = max(0, end - _TAIL_BLOCK)
        block = os.pread(fd, end - start, start)
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            # The line end of the last wanted line's predecessor is one further back.
            if wanted == 0:
                return start + position + 1
            wanted -= 1
        end = start
    return 0


async def send_log(
    sink: Sink, path: str, options: LogOptions, is_running: Callable[[], Awaitable[bool]], clock: Clock
) -> None:
    """Write the log to `sink`; with `follow` until the container has ended, the client goes or the limit is reached."""
    try:
        file = await asyncio.to_thread(LogFile, path, options)
    except FileNotFoundError:
        return  # nothing was written yet, or the file is gone with its container
    try:
        idle = 0
        ended = not options.follow
        while not (sink.closed or file.is_full):
            out, found = await asyncio.to_thread(file.read)
            if out:
                sink.write(out)
                await sink.drain()
            if found:
                idle = 0
                continue
            if ended:
                break
            idle += 1
            if idle % _ALIVE_EVERY == 0 and not await is_running():
                ended = True  # one more look: it may have written before it ended
                continue
            await clock.sleep(_POLL)
        if not file.is_full and (rest := file.finish()):
            sink.write(rest)
    finally:
        file.close()
