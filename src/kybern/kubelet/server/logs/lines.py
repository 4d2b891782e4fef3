"""Lines of a CRI log file to what the client sees. Pure: bytes in, bytes out; used by files.

Promise: output is exactly what the container wrote, line ends included, whatever the entries were cut into.
"""

from __future__ import annotations

import datetime

from kybern.machinery.log_options import LogOptions


class LineFormatter:
    """Feed whole file pieces in order; `is_full` once the byte limit is reached."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._stream = options.stream.encode()
        self._since = _sortable(options.since.isoformat().encode()) if options.since else b""
        self._left = options.limit_bytes
        self._pending = b""  # an entry whose end was not read yet
        self._at_line_start = True
        self.is_full = False

    def feed(self, data: bytes) -> bytes:
        """The output for the entries that ended in `data`."""
        entries = (self._pending + data).split(b"\n")
        self._pending = entries.pop()
        return self._limit(b"".join([self._format(entry) for entry in entries]))

    def finish(self) -> bytes:
        """The output for an entry without its line end, if it can be read: the file ended there."""
        entry, self._pending = self._pending, b""
        return self._limit(self._format(entry)) if entry else b""

    def _format(self, entry: bytes) -> bytes:
        time, _, rest = entry.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        tag, _, text = rest.partition(b" ")
        if stream not in (b"stdout", b"stderr") or not tag:
            return b""  # not an entry: a torn write
        if self._stream and stream != self._stream:
            return b""
        if self._since and _sortable(time) < self._since:
            return b""
        if self._timestamps and self._at_line_start:
            text = _widened(time) + b" " + text
        self._at_line_start = not (tag == b"P" or tag.startswith(b"P:"))
        return text + b"\n" if self._at_line_start else text

    def _limit(self, out: bytes) -> bytes:
        if self._left is None:
            return out
        if len(out) >= self._left:
            self.is_full = True
            out = out[: self._left]
        self._left -= len(out)
        return out


def _sortable(time: bytes) -> bytes:
    """A text whose order is that of the moments (UTC times; others are converted)."""
    if not time.endswith(b"Z"):
        try:
            moment = datetime.datetime.fromisoformat(_to_micro(time).decode())
        except ValueError:
            return b""
        time = moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
    else:
        time = time[:-1]
    whole, _, fraction = time.partition(b".")
    return whole + b"." + fraction.ljust(9, b"0")


def _to_micro(time: bytes) -> bytes:
    """Python knows six decimals: cut a time with zone to them."""
    head, dot, rest = time.partition(b".")
    if not dot:
        return time
    digits = 0
    while digits < len(rest) and rest[digits : digits + 1].isdigit():
        digits += 1
    return head + b"." + rest[: min(digits, 6)].ljust(6, b"0") + rest[digits:]


def _widened(time: bytes) -> bytes:
    """With nine decimals, as kubelets show it: runtimes drop trailing zeros."""
    head, dot, rest = time.partition(b".")
    digits = 0
    while digits < len(rest) and rest[digits : digits + 1].isdigit():
        digits += 1
    if not dot:
        head, rest = time[:19], time[19:]
    return head + b"." + rest[:digits].ljust(9, b"0") + rest[digits:]
