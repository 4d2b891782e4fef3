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
import http.client
import json
import os
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
from dataclasses import dataclass, field
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

    def request(self, method: str, path: str, body: object = None) -> int:
        """The status. Raises OSError, HTTPException while nobody answers."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=insecure())
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def wait_ready(self) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/readyz") == 200:
                    return
            time.sleep(0.02)
        raise TimeoutError("the server does not become ready")


# -- the watchers ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watch:
    """One client: where it is, and what was wrong."""

    version: str
    seen: int = 0
    rest: bytes = b""
    socket: ssl.SSLSocket | None = None
    reopened: int = 0
    faults: list[str] = field(default_factory=list)

    def open(self, port: int, context: ssl.SSLContext) -> None:
        """Until it is answered; the server may be gone for a while."""
        while True:
            try:
                plain = socket.create_connection(("127.0.0.1", port), 60)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                found = context.wrap_socket(plain)
                target = f"{SELECTED}&resourceVersion={self.version}"
                found.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    data = found.recv(16384)
                    if not data:
                        raise ConnectionError("closed")
                    answer += data
            except OSError:
                time.sleep(0.05)
                continue
            if not answer.startswith(b"HTTP/1.1 200"):
                if answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")):
                    time.sleep(0.2)
                    continue
                self.faults.append(f"{answer[:200]!r}")
            found.setblocking(False)
            self.socket, self.rest = found, b""
            self.take(answer.partition(b"\r\n\r\n")[2])
            return

    def take(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
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


def watch_all(port: int, count: int, version: str) -> None:
    """The child: answers each line on its input with what its watchers have seen."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = insecure()
    watches = [Watch(version) for _ in range(count)]
    with selectors.EpollSelector() as poll:
        for watch in watches:
            watch.open(port, context)
            assert watch.socket is not None
            poll.register(watch.socket, selectors.EVENT_READ, watch)
        poll.register(sys.stdin, selectors.EVENT_READ)
        print("{}", flush=True)
        while True:
            for key, _ in poll.select():
                if key.data is None:
                    if not os.read(sys.stdin.fileno(), 1):
                        return
                    faults = [fault for watch in watches for fault in watch.faults]
                    told = {
                        "least": min(watch.seen for watch in watches),
                        "reopened": sum(watch.reopened for watch in watches),
                        "faults": len(faults),
                        "first": faults[:3],
                    }
                    print(json.dumps(told), flush=True)
                    continue
                watch = key.data
                if read(watch):
                    continue
                poll.unregister(key.fileobj)
                watch.reopened += 1
                watch.open(port, context)
                poll.register(watch.socket, selectors.EVENT_READ, watch)


def read(watch: Watch) -> bool:
    """Whether the connection goes on."""
    assert watch.socket is not None
    try:
        while data := watch.socket.recv(16384):
            watch.take(data)
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        pass
    watch.socket.close()
    return False


# -- the trial -------------------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Creates numbered objects at a rate; what has no answer is tried again, and may turn out to be there."""

    def __init__(self, server: Server, rate: float) -> None:
        super().__init__(name="writer")
        self._server = server
        self._rate = rate
        self.written = 0
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            name = f"n-{self.written + 1}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                body = {"metadata": {"name": name, "labels": {"run": "resume"}}}
                if self._server.request("POST", CONFIGS, body) in (201, 409):
                    self.written += 1
            time.sleep(1 / self._rate)


class Reader(threading.Thread):
    """Sends GETs one after the other; keeps how long the slowest took since it was last asked."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="reader", daemon=True)
        self._server = server
        self._slowest = 0.0

    def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if self._server.request("GET", "/api/v1/namespaces/default") == 200:
                    self._slowest = max(self._slowest, time.monotonic() - began)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)

    def slowest(self) -> float:
        found, self._slowest = self._slowest, 0.0
        return found


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
        slowest: list[float] = []
        for _ in range(kills):
            time.sleep(calm)
            server.kill()
            written, killed = writer.written, time.monotonic()
            server.start_again()
            server.wait_ready()
            reader.slowest()
            # All are back when each has been told of something that was written after the kill.
            while any(told["least"] <= written + 1 for told in ask()) and time.monotonic() < killed + _PATIENCE:
                time.sleep(0.2)
            back.append(time.monotonic() - killed)
            slowest.append(reader.slowest())
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
            "reopened": sum(told["reopened"] for told in found),
            "faults": sum(told["faults"] for told in found),
            "first faults": [fault for told in found for fault in told["first"]],
            "seconds until all were back": [round(seconds, 1) for seconds in back],
            "slowest GET meanwhile, seconds": [round(seconds, 2) for seconds in slowest],
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
