"""Watchers in a process of their own: connections that watch, and what they have heard.

`holding(port, count, paths)` starts one. The child (`python -m bench.watchers PORT TOKEN COUNT PATH...`) opens its
connections and answers each line on its standard input with one line of JSON. It must cost little beside the server
it shares two cores with, so only every 25th watcher reads: it decrypts, counts the marks in what comes, and keeps
how old they are (changes carry `"sent":"<nanoseconds of the monotonic clock>"`, which all processes of a machine
share). Of the others the kernel throws away what came, fifty times a second, and counts its bytes: those who are sent
the same take as many as those who read.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = b'"sent":"'
DIGITS = 19
READING = 25  # every so many watchers
_PATIENCE = 60.0  # seconds for a connection to be answered
_SWEEP = 0.02  # seconds between two looks at those who do not read
_MOST = 1 << 20  # bytes thrown away in a look at one
_FILES = 65536
# The same events take a few more bytes where fewer of them share a record of TLS.
_SAME = 0.95


@dataclass(frozen=True, slots=True)
class Heard:
    """What the watchers of a child have heard since they began."""

    counts: list[int]  # events, of each watcher; of those who do not read: by their bytes
    size: int  # bytes, encrypted, by all
    ended: int  # connections that the server has closed
    delays: list[float]  # milliseconds, in order

    @property
    def events(self) -> int:
        return sum(self.counts)


class Holder:
    """A child that watches."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.seconds = 0.0  # that opening took

    def wait_ready(self) -> None:
        self.seconds = self._line()["seconds"]

    def heard(self) -> Heard:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Heard(**self._line())

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the watchers has ended")
        return json.loads(line)


@contextlib.contextmanager
def holding(port: int, token: str, count: int, *paths: str, processes: int = 1) -> Iterator[list[Holder]]:
    """`count` watches, spread over the paths and processes; all have had their answer's head."""
    root = Path(__file__).parent.parent
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.watchers", str(port), token, str(count // processes), *paths],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        holders = [Holder(process) for process in started]
        for holder in holders:
            holder.wait_ready()
        yield holders
    finally:
        for process in started:
            process.kill()
            process.wait(20)


def raise_limit() -> int:
    """As many open files as we may have, also for processes started from now on; returns how many these are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may have more
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, max(hard, _FILES)))
        hard = max(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class _Reader:
    """A connection whose events are counted, and timed."""

    def __init__(self, found: ssl.SSLSocket, rest: bytes) -> None:
        self.socket = found
        self.count = 0
        self.delays: list[float] = []
        self._tail = b""
        self.take(rest)
        self._before = _received(found)

    @property
    def size(self) -> int:
        """Bytes received since it was opened, encrypted."""
        return _received(self.socket) - self._before

    def take(self, data: bytes) -> None:
        window = self._tail + data
        self.count += window.count(MARK)
        now = time.monotonic_ns()
        _, *pieces = window.split(MARK)
        self.delays += [(now - int(p[:DIGITS])) / 1e6 for p in pieces if p[:DIGITS].isdigit() and len(p) > DIGITS]
        self._tail = window[1 - len(MARK) :]  # too short to be counted twice

    def read(self) -> bool:
        """Whether the watch goes on."""
        with contextlib.suppress(ssl.SSLWantReadError):
            try:
                for _ in range(8):
                    data = self.socket.recv(16384)
                    if not data:
                        return False
                    self.take(data)
            except ConnectionError:
                return False
        return True


class _Drain:
    """A connection whose bytes are thrown away."""

    def __init__(self, found: ssl.SSLSocket) -> None:
        self.socket = socket.socket(fileno=found.detach())
        self.socket.setblocking(False)
        self._before = _received(self.socket)

    @property
    def size(self) -> int:
        return _received(self.socket) - self._before

    def empty(self, scratch: bytearray) -> bool:
        """Whether the watch goes on."""
        try:
            return self.socket.recv_into(scratch, _MOST, socket.MSG_TRUNC) > 0
        except BlockingIOError:
            return True
        except ConnectionError:
            return False


def _received(found: socket.socket) -> int:
    """Bytes that the other side has sent (tcp(7), TCP_INFO: tcpi_bytes_received)."""
    return int(struct.unpack_from("Q", found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 128)[0])


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), _PATIENCE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)


def _open(port: int, token: str, path: str, context: ssl.SSLContext) -> tuple[ssl.SSLSocket, bytes]:
    found = connect(port, context)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
    head += "User-Agent: watcher/v1.36.0 (linux/amd64) kubernetes/0000000\r\nAccept: application/json\r\n"
    found.sendall((head + "Accept-Encoding: gzip\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = found.recv(16384)
        if not data:
            raise RuntimeError(f"{path}: the connection was closed")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{path}: {answer[:500]!r}")
    found.setblocking(False)
    return found, answer.partition(b"\r\n\r\n")[2]


class _Watchers:
    """The connections of this process."""

    def __init__(self) -> None:
        self.readers: list[_Reader] = []
        self.drains: list[_Drain] = []
        self.ended = 0

    def open(self, port: int, token: str, count: int, paths: list[str]) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for number in range(count):
            found, rest = _open(port, token, paths[number % len(paths)], context)
            if number % READING == 0:
                self.readers.append(_Reader(found, rest))
            else:
                self.drains.append(_Drain(found))

    def heard(self) -> Heard:
        counts = [reader.count for reader in self.readers]
        sizes = [reader.size for reader in self.readers]
        whole, events = max(sizes), max(counts)
        for drain in self.drains:
            sizes.append(drain.size)
            share = sizes[-1] / whole if whole else 0.0
            counts.append(int(events if share >= _SAME else events * share))
        delays = sorted(delay for reader in self.readers for delay in reader.delays)
        return Heard(counts, sum(sizes), self.ended, delays)

    def run(self, poll: selectors.BaseSelector) -> None:
        """Until there are no more questions."""
        scratch = bytearray(_MOST)
        for reader in self.readers:
            poll.register(reader.socket, selectors.EVENT_READ, reader)
        poll.register(sys.stdin, selectors.EVENT_READ)
        swept = selectors.EpollSelector()  # asked now and then: nobody is woken for what comes there
        for drain in self.drains:
            swept.register(drain.socket, selectors.EVENT_READ, drain)
        next_sweep = time.monotonic()
        while True:
            for key, _ in poll.select(max(0.0, next_sweep - time.monotonic())):
                if key.data is None:
                    if not os.read(sys.stdin.fileno(), 1):
                        return
                    print(json.dumps(asdict(self.heard())), flush=True)
                elif not key.data.read():
                    self.ended += 1
                    poll.unregister(key.fileobj)
            if time.monotonic() >= next_sweep:
                for key, _ in swept.select(0):
                    if not key.data.empty(scratch):
                        self.ended += 1
                        swept.unregister(key.fileobj)
                next_sweep = time.monotonic() + _SWEEP


def main() -> None:
    port, token, count, *paths = sys.argv[1:]
    raise_limit()
    began = time.perf_counter()
    watchers = _Watchers()
    watchers.open(int(port), token, int(count), paths)
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    with selectors.EpollSelector() as poll:
        watchers.run(poll)


if __name__ == "__main__":
    main()
