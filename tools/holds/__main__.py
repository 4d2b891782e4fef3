"""The command: a server for each case, the case's requests, and how long the probe had to wait meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from tools.fuzz import judge
from tools.fuzz.__main__ import Server
from tools.fuzz.client import Client
from tools.holds import cases
from tools.holds.cases import Ask, Case
from tools.holds.probe import Probe

FLAGS = argparse.ArgumentParser(prog="python -m tools.holds", description=__doc__)
FLAGS.add_argument("names", nargs="*", help="regular expressions; all if none")
FLAGS.add_argument("--port", type=int, default=21660)
FLAGS.add_argument("--objects", type=int, default=30_000, help="that lists are made of")
FLAGS.add_argument("--log", type=pathlib.Path, default=pathlib.Path(".cache/holds.log"))
PROBED = cases.config_map("probed")


@contextlib.contextmanager
def served(flags: argparse.Namespace) -> Iterator[Server]:
    server = Server(flags.port, flags.log, "--longest")
    try:
        yield server
    finally:
        server.stop()


def send(port: int, asks: Sequence[Ask]) -> list[str]:
    client = Client(port)
    statuses = []
    for ask in asks:
        answer = client.send(ask.data, is_whole=True)
        statuses.append(str(answer.status))
    client.close()
    return statuses


def longest(server: Server) -> float:
    """Seconds of processor time that the server's loop was held at most, since this was last asked."""
    server.process.send_signal(signal.SIGUSR1)
    assert server.process.stdout is not None
    return float(server.process.stdout.readline())


def measure(name: str, server: Server, flags: argparse.Namespace, one: Case) -> None:
    for ask in one.before:
        [status] = send(flags.port, [ask])
        if not status.startswith("2"):
            print(f"{name}: what was to be there before was answered {status}")
    with Probe(flags.port, "/api/v1/namespaces/default/configmaps/probed") as probe:
        time.sleep(0.1)
        longest(server)
        probe.waits.clear()
        before = judge.processor_seconds(server.process.pid)
        statuses = send(flags.port, one.asks)
        time.sleep(one.pause)
        held = longest(server)
        seconds = judge.processor_seconds(server.process.pid) - before
    waits = sorted(probe.waits)
    print(
        f"| {name} | {' '.join(statuses)} | {held * 1000:.0f} ms | {waits[-1] * 1000:.0f} ms | {seconds:.2f} s |",
        flush=True,
    )


def main() -> int:
    flags = FLAGS.parse_args()
    flags.log.parent.mkdir(parents=True, exist_ok=True)
    wanted = re.compile("|".join(flags.names))
    print("| request | answers | loop held (processor time) | longest wait of another client | processor time |")
    print("|---|---|---|---|---|")
    for name, make in cases.CASES.items():
        if wanted.search(name):
            one = make()
            with served(flags) as server:
                send(flags.port, [cases.post("/api/v1/namespaces/default/configmaps", PROBED)])
                measure(name.replace("_", " "), server, flags, one)
    reads = {f"list: {name}": ask for name, ask in cases.READS.items() if wanted.search(f"list: {name}")}
    if reads:
        with served(flags) as server:
            send(flags.port, cases.many(flags.objects))
            send(flags.port, [cases.post("/api/v1/namespaces/default/configmaps", PROBED)])
            for name, ask in reads.items():
                measure(name, server, flags, Case((), (ask,)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
