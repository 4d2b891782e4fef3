"""Changes in a process of their own: ConfigMaps created at a steady rate, or as the server takes them.

`maker` starts it (`python -m bench.changes PORT TOKEN PATH RUN`), `make` gives it a line (RATE SECONDS) to work by:
sockets in a loop that knows nothing but the bytes it sends, since it shares two cores with the server and its watchers.
Each object carries the moment at which it was sent (see watchers).
"""

from __future__ import annotations

import contextlib
import json
import selectors
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import watchers

WRITERS = 64  # requests under way at once, at most
_PATIENCE = 60.0  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Made:
    """What was done."""

    count: int
    seconds: float
    delays: list[float]  # milliseconds of the requests, in order

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Maker:
    """A child whose connections are open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def make(self, a_second: float, seconds: float) -> Made:
        """Have changes made, until the last is answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{a_second} {seconds}\n")
        self._process.stdin.flush()
        return Made(**self.line())

    def line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the changes has ended")
        return json.loads(line)


@contextlib.contextmanager
def maker(port: int, token: str, path: str, run: str) -> Iterator[Maker]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.changes", str(port), token, path, run],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        found = Maker(process)
        found.line()
        yield found
    finally:
        process.kill()
        process.wait(20)


class _Writer:
    """One connection, with at most one request under way."""

    def __init__(self, port: int, token: str, path: str, run: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = watchers.connect(port, context)
        self.socket.setblocking(False)
        self.began = 0.0
        self._answer = b""
        self._run = run
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            "User-Agent: writer/v1.36.0 (linux/amd64) kubernetes/0000000\r\nAccept: application/json\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def send(self, number: int) -> None:
        self.began = time.monotonic()
        body = (
            f'{{"metadata":{{"name":"c-{self._run}-{number:06d}","labels":{{"run":"{self._run}"}}}},'
            f'"data":{{"text":"{"x" * 400}","sent":"{time.monotonic_ns():0{watchers.DIGITS}d}"}}}}'
        )
        self.socket.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())

    def take(self) -> bool:
        """Whether the answer is there. Raises RuntimeError if it is not what was wanted."""
        try:
            data = self.socket.recv(16384)
        except ssl.SSLWantReadError:  # what came were tickets for another session
            return False
        self._answer += data
        if data and not self._answer.rstrip().endswith(b"}"):  # a head without its body yet
            return False
        answer, self._answer = self._answer, b""
        if not answer.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"create: {answer[:500]!r}")
        return True


def _work(writers: list[_Writer], a_second: float, seconds: float) -> Made:
    made, under_way, idle = 0, 0, list(writers)
    delays: list[float] = []
    began = time.perf_counter()
    with selectors.EpollSelector() as poll:
        for writer in writers:
            poll.register(writer.socket, selectors.EVENT_READ, writer)
        while (passed := time.perf_counter() - began) < seconds or under_way:
            while idle and passed < seconds and made <= passed * a_second:
                made += 1
                under_way += 1
                idle.pop().send(made)
            wait = max(0.0, made / a_second - passed) if idle else _PATIENCE
            for key, _ in poll.select(wait):
                if key.data.take():
                    under_way -= 1
                    idle.append(key.data)
                    delays.append((time.monotonic() - key.data.began) * 1000)
    return Made(made, time.perf_counter() - began, sorted(delays))


def main() -> None:
    port, token, path, run = sys.argv[1:]
    writers = [_Writer(int(port), token, path, run) for _ in range(WRITERS)]
    print("{}", flush=True)
    for line in sys.stdin:
        a_second, seconds = map(float, line.split())
        print(json.dumps(asdict(_work(writers, a_second, seconds))), flush=True)


if __name__ == "__main__":
    main()
