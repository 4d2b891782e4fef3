"""Kill an API server again and again under many watchers, and prove that each resumes without a gap or a repetition.

`python -m tools.watch_resume --watchers 10000 --kills 3 --rate 20`. One writer creates numbered objects and tries again
what it has no answer to; every watcher must be told each number once, in order, whatever happened between. Beside
them somebody sends GETs, so that a storm of clients who come back shows in how long these wait.
The watchers are processes of their own (`python -m tools.watch_resume child PORT COUNT`), which resume from the last
resourceVersion they have seen, as informers do.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import heapq
import http.client
import json
import os
import random
import re
import resource
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kybern import pki
from kybern.client.clock import RealClock

TOKEN = "watcher"
CONFIGS = "/api/v1/namespaces/default/configmaps"
SELECTED = f"{CONFIGS}?watch=true&allowWatchBookmarks=true&labelSelector=run%3Dresume"
ROOT = Path(__file__).parent.parent
_NUMBER = re.compile(rb'"name":"n-(\d+)"')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
HANDSHAKE_SECONDS = 10.0  # client-go gives up a handshake after so many
_PATIENCE = 120.0  # seconds for all to be back and up to date


def insecure() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Server:
    """An API server on one file, started again on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        made = pki.ensure(folder, names=["resume"], addresses=["127.0.0.1"], clock=RealClock())
        (folder / "tokens.csv").write_text(f"{TOKEN},{TOKEN},1,system:masters\n")
        self._command = [
            *(sys.executable, "-m", "kybern.cli.main", "apiserver", "--store", str(folder / "store.db")),
            *("--secure-port", str(self.port), "--bind-address", "127.0.0.1"),
            *("--token-auth-file", str(folder / "tokens.csv"), "--log-level", "error"),
            *("--tls-cert-file", str(made.certificate("apiserver"))),
            *("--tls-private-key-file", str(made.key("apiserver")), "--client-ca-file", str(made.ca)),
            *("--service-account-key-file", str(folder / "pki/sa.pub")),
            *("--service-account-signing-key-file", str(folder / "pki/sa.key")),
        ]
        self.process = subprocess.Popen(self._command)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def start_again(self) -> None:
        self.process = subprocess.Popen(self._command)

    def wait_ready(self) -> None:
        client = Client(self.port)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if client.request("GET", "/readyz") == 200:
                    return
            time.sleep(0.02)
        raise TimeoutError("the server does not become ready")


class Client:
    """Keeps its connection, as clients do."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=insecure())

    def request(self, method: str, path: str, body: object = None) -> int:
        """The status. Raises OSError, HTTPException while nobody answers."""
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = self._connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next one opens another
            raise


# -- the watchers ----------------------------------------------------------------------------------------------------


class Watch:
    """One client: where it is, and what was wrong."""

    def __init__(self, number: int, version: str) -> None:
        self.number = number
        self.version = version
        self.seen = 0
        self.opened = 0  # how often
        self.impatient = 0  # how often it was not let in in time
        self.refused = 0  # how often it was told to come later
        self.faults: list[str] = []
        self.opening_since: float | None = None
        self.life: Iterator[int] = iter(())
        self.socket: socket.socket | None = None
        self._rest = b""

    def follow(self, port: int, context: ssl.SSLContext) -> Iterator[int]:
        """Open a connection and watch, until OSError; yields what must happen to the socket before it goes on."""
        self.opening_since = time.monotonic()
        self.socket = plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = plain.connect_ex(("127.0.0.1", port))
        if code == errno.EINPROGRESS:
            yield selectors.EVENT_WRITE
            code = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        self.socket = found = context.wrap_socket(plain, do_handshake_on_connect=False)
        while True:
            try:
                found.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield selectors.EVENT_READ
        target = f"{SELECTED}&resourceVersion={self.version}"
        found.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        answer = b""
        while True:
            try:
                data = found.recv(16384)
            except ssl.SSLWantReadError:
                yield selectors.EVENT_READ
                continue
            if not data:
                raise ConnectionError("closed")
            if self.opening_since is None:
                self.take(data)
                continue
            answer += data
            if b"\r\n\r\n" in answer:
                self._begin(answer)

    def _begin(self, answer: bytes) -> None:
        """Answered. Raises ConnectionError when it is to come again."""
        if answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")):
            self.refused += 1
            raise ConnectionError("refused")
        if not answer.startswith(b"HTTP/1.1 200"):
            self.faults.append(f"{answer[:200]!r}")
        self.opening_since, self._rest = None, b""
        self.opened += 1
        self.take(answer.partition(b"\r\n\r\n")[2])

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if b'"type":"' not in line:
                continue  # the end of a chunk, or the size of the next
            version, number = _VERSION.search(line), _NUMBER.search(line)
            if b'"type":"ERROR"' in line or version is None:
                self.faults.append(f"{line[:200]!r}")
                continue
            if b'"type":"BOOKMARK"' not in line:
                found = int(number[1]) if number else -1
                if found != self.seen + 1:
                    self.faults.append(f"{found} after {self.seen}")
                self.seen = found
            self.version = version[1].decode()


class Crowd:
    """The watchers of a process. When the server goes away, all of them come back at once."""

    def __init__(self, port: int, count: int, version: str, poll: selectors.BaseSelector) -> None:
        self.watches = [Watch(number, version) for number in range(count)]
        self._port = port
        self._context = insecure()
        self._poll = poll
        self._looks_at = 0.0
        self._returning = [(0.0, number) for number in range(count)]  # when who opens a connection again

    @property
    def is_back(self) -> bool:
        return all(watch.opened for watch in self.watches)

    def turn(self) -> bool:
        """Whether there may be more questions."""
        now = time.monotonic()
        while self._returning and self._returning[0][0] <= now:
            watch = self.watches[heapq.heappop(self._returning)[1]]
            watch.life = watch.follow(self._port, self._context)
            self._go_on(watch)
        if now > self._looks_at:
            self._looks_at = now + 1
            for watch in self.watches:
                if watch.opening_since is not None and now - watch.opening_since > HANDSHAKE_SECONDS:
                    watch.impatient += 1
                    self._leave(watch)
        for key, _ in self._poll.select(0.1):
            if key.data is not None:
                self._go_on(key.data)
            elif os.read(sys.stdin.fileno(), 1):
                self._tell()
            else:
                return False
        return True

    def _go_on(self, watch: Watch) -> None:
        try:
            wanted = next(watch.life)
        except OSError:
            self._leave(watch)
            return
        assert watch.socket is not None
        try:
            self._poll.modify(watch.socket, wanted, watch)
        except KeyError:
            self._poll.register(watch.socket, wanted, watch)

    def _leave(self, watch: Watch) -> None:
        assert watch.socket is not None
        with contextlib.suppress(KeyError, ValueError):
            self._poll.unregister(watch.socket)
        watch.life = iter(())
        watch.socket.close()
        watch.opening_since = None
        pause = random.uniform(0.1, 1.0)  # client-go: from 0.8 seconds, more each time
        heapq.heappush(self._returning, (time.monotonic() + pause, watch.number))

    def _tell(self) -> None:
        faults = [fault for watch in self.watches for fault in watch.faults]
        told = {
            "least": min(watch.seen for watch in self.watches),
            "opened": sum(watch.opened for watch in self.watches),
            "impatient": sum(watch.impatient for watch in self.watches),
            "refused": sum(watch.refused for watch in self.watches),
            "faults": len(faults),
            "first": faults[:3],
        }
        print(json.dumps(told), flush=True)


def watch_all(port: int, count: int, version: str) -> None:
    """The child: answers each line on its input with what its watchers have seen."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with selectors.EpollSelector() as poll:
        crowd = Crowd(port, count, version, poll)
        while not crowd.is_back:
            crowd.turn()
        poll.register(sys.stdin, selectors.EVENT_READ)
        print("{}", flush=True)
        while crowd.turn():
            pass


# -- the trial -------------------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Creates numbered objects at a rate; what has no answer is tried again, and may turn out to be there."""

    def __init__(self, server: Server, rate: float) -> None:
        super().__init__(name="writer")
        self._client = Client(server.port)
        self._rate = rate
        self.written = 0
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            name = f"n-{self.written + 1}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                body = {"metadata": {"name": name, "labels": {"run": "resume"}}}
                if self._client.request("POST", CONFIGS, body) in (201, 409):
                    self.written += 1
            time.sleep(1 / self._rate)


class Reader(threading.Thread):
    """Sends GETs one after the other; keeps how long they took since it was last asked."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="reader", daemon=True)
        self._client = Client(server.port)
        self._taken: list[float] = []

    def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if self._client.request("GET", "/api/v1/namespaces/default") == 200:
                    self._taken.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)

    def taken(self) -> list[float]:
        """Seconds, in order."""
        found, self._taken = self._taken, []
        return sorted(found)


def trial(
    folder: Path, *, watchers: int, kills: int, rate: float, calm: float = 2.0, children: int = 4
) -> dict[str, Any]:
    """What came of it; `faults` counts gaps, repetitions and errors, and must be 0."""
    server = Server(folder)
    server.wait_ready()
    version = "1"
    command = [
        sys.executable,
        "-m",
        "tools.watch_resume",
        "child",
        str(server.port),
        str(watchers // children),
        version,
    ]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(children)
    ]
    writer, reader = Writer(server, rate), Reader(server)

    def line(child: subprocess.Popen[str]) -> Any:
        assert child.stdout is not None
        return json.loads(child.stdout.readline())

    def ask() -> list[Any]:
        for child in started:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        return [line(child) for child in started]

    try:
        for child in started:
            line(child)
        writer.start()
        reader.start()
        back: list[float] = []
        waited: list[list[float]] = []
        for _ in range(kills):
            time.sleep(calm)
            server.kill()
            written, killed = writer.written, time.monotonic()
            reader.taken()
            server.start_again()
            # All are back when each has been told of something that was written after the kill.
            while any(told["least"] <= written + 1 for told in ask()) and time.monotonic() < killed + _PATIENCE:
                time.sleep(0.2)
            back.append(time.monotonic() - killed)
            waited.append(reader.taken())
            print(f"all back after {back[-1]:.1f} s; GETs meanwhile: {len(waited[-1])}", file=sys.stderr, flush=True)
        time.sleep(calm)
        writer.is_over = True
        writer.join()
        until = time.monotonic() + _PATIENCE
        while any(told["least"] < writer.written for told in ask()) and time.monotonic() < until:
            time.sleep(0.2)
        found = ask()
        return {
            "watchers": watchers,
            "written": writer.written,
            "least seen": min(told["least"] for told in found),
            "reopened": sum(told["opened"] for told in found) - watchers // children * children,
            "not let in within 10 seconds": sum(told["impatient"] for told in found),
            "told to come later": sum(told["refused"] for told in found),
            "faults": sum(told["faults"] for told in found),
            "first faults": [fault for told in found for fault in told["first"]],
            "seconds until all were back": [round(seconds, 1) for seconds in back],
            "GETs meanwhile, 99th percentile, seconds": [round(taken[int(len(taken) * 0.99)], 3) for taken in waited],
            "slowest GET meanwhile, seconds": [round(taken[-1], 2) for taken in waited],
        }
    finally:
        writer.is_over = True
        for child in started:
            child.kill()
            child.wait(20)
        server.kill()


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        watch_all(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = trial(Path(folder), watchers=asked.watchers, kills=asked.kills, rate=asked.rate)
    for name, value in found.items():
        print(f"{name}: {value}")
    sys.exit(1 if found["faults"] or found["least seen"] < found["written"] else 0)


if __name__ == "__main__":
    main()
