"""Watchers in a process of their own: connections that watch, and what they have heard.

`holding(port, count, paths)` starts one. The child (`python -m bench.watchers PORT TOKEN COUNT PATH...`) opens its
connections, counts the marks in what comes, and answers each line on its standard input with one line of JSON.
Changes carry `"sent":"<nanoseconds of the monotonic clock>"`, which all processes of a machine share: of every 25th
watcher the delays are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = b'"sent":"'
DIGITS = 19
TIMED = 25  # every so many watchers
_PATIENCE = 60.0  # seconds for a connection to be answered


@dataclass(frozen=True, slots=True)
class Heard:
    """What the watchers of a child have heard since they began."""

    events: int
    least: int  # by one of them
    ended: int  # watches that the server has ended
    delays: list[float]  # milliseconds, in order


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


def raise_limit() -> None:
    """As many open files as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Watch:
    """One connection."""

    def __init__(self, found: ssl.SSLSocket, rest: bytes, *, is_timed: bool) -> None:
        self.socket = found
        self.count = 0
        self._tail = b""
        self._is_timed = is_timed
        self._delays: list[float] = []
        self.take(rest)

    def take(self, data: bytes) -> None:
        window = self._tail + data
        self.count += window.count(MARK)
        if self._is_timed:
            now = time.monotonic_ns()
            _, *pieces = window.split(MARK)
            self._delays += [(now - int(p[:DIGITS])) / 1e6 for p in pieces if p[:DIGITS].isdigit() and len(p) > DIGITS]
        self._tail = window[1 - len(MARK) :]  # too short to be counted twice

    @property
    def delays(self) -> list[float]:
        return self._delays


def _open(port: int, token: str, path: str, context: ssl.SSLContext) -> tuple[ssl.SSLSocket, bytes]:
    plain = socket.create_connection(("127.0.0.1", port), _PATIENCE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found = context.wrap_socket(plain)
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


def main() -> None:
    port, token, count, *paths = sys.argv[1:]
    raise_limit()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.perf_counter()
    watches: list[_Watch] = []
    ended = 0
    with selectors.EpollSelector() as poll:
        for number in range(int(count)):
            found, rest = _open(int(port), token, paths[number % len(paths)], context)
            watches.append(_Watch(found, rest, is_timed=number % TIMED == 0))
            poll.register(found, selectors.EVENT_READ, watches[-1])
        poll.register(sys.stdin, selectors.EVENT_READ)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
        while True:
            for key, _ in poll.select():
                if key.data is None:
                    if not os.read(sys.stdin.fileno(), 1):
                        return
                    delays = sorted(delay for watch in watches for delay in watch.delays)
                    counts = [watch.count for watch in watches]
                    print(json.dumps({"events": sum(counts), "least": min(counts), "ended": ended, "delays": delays}))
                    sys.stdout.flush()
                elif not _read(key.data):
                    ended += 1
                    poll.unregister(key.fileobj)


def _read(watch: _Watch) -> bool:
    """Whether the watch goes on."""
    with contextlib.suppress(ssl.SSLWantReadError):
        try:
            for _ in range(8):
                data = watch.socket.recv(16384)
                if not data:
                    return False
                watch.take(data)
        except ConnectionError:
            return False
    return True


if __name__ == "__main__":
    main()
