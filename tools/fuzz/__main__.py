"""The command: starts the server, sends, judges, remembers how far it came."""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tools.fuzz import judge, raw_cases, schema_cases
from tools.fuzz.client import Client

FLAGS = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
FLAGS.add_argument("--requests", type=int, default=10_000)
FLAGS.add_argument("--schema-requests", type=int, default=0, help="of them, made by schemathesis")
FLAGS.add_argument("--seed", type=int, default=1)
FLAGS.add_argument("--port", type=int, default=21650)
FLAGS.add_argument("--only", type=int, help="repeat one raw request and show it")
FLAGS.add_argument("--state", type=pathlib.Path, default=pathlib.Path(".cache/fuzz.json"))
FLAGS.add_argument("--fresh", action="store_true", help="forget how far the last run came")


class Server:
    """The child; started again when it has ended."""

    def __init__(self, port: int, log: pathlib.Path, *flags: str) -> None:
        self._flags = flags
        self._port = port
        self._log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.fuzz.child", str(self._port), *self._flags],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        if process.stdout.readline() != b"serving\n":
            raise SystemExit(f"the server did not start, see {self._log}")
        return process

    def again(self) -> None:
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def cases(flags: argparse.Namespace, client: Client, start: int) -> Iterator[tuple[str, raw_cases.Case]]:
    """Those of the schema first, group-version by group-version; then raw ones, by number."""
    if start == 0 and flags.schema_requests:
        index = json.loads(fetch(client, "/openapi/v3"))
        paths = sorted(p for p in index["paths"] if p.startswith(("api/v", "apis/")) and p.count("/") != 0)
        each = max(1, flags.schema_requests // len(paths))
        for path in paths:
            document = json.loads(fetch(client, f"/openapi/v3/{path}"))
            for number, case in enumerate(schema_cases.generate(document, flags.seed, each)):
                yield f"{path} {number}", case
    for number in range(start, flags.requests):
        yield str(number), raw_cases.make(flags.seed, number)


def tidy(client: Client) -> None:
    """Take away what would refuse every write from now on: webhooks and policies that earlier requests made."""
    group = "/apis/admissionregistration.k8s.io/v1"
    for plural in (
        *("validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
        *("validatingadmissionpolicybindings", "mutatingadmissionpolicybindings"),
    ):
        request = f"DELETE {group}/{plural} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n\r\n"
        client.send(request.encode(), is_whole=True)


def fetch(client: Client, path: str) -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n\r\n"
    return client.send(request.encode(), is_whole=True).body


def main() -> int:
    flags = FLAGS.parse_args()
    flags.state.parent.mkdir(parents=True, exist_ok=True)
    log = flags.state.with_suffix(".log")
    client = Client(flags.port)
    server = Server(flags.port, log)
    try:
        if flags.only is not None:
            case = raw_cases.make(flags.seed, flags.only)
            print(case.data.decode("utf-8", "backslashreplace"))
            answer = client.send(case.data, is_whole=case.is_whole)
            print("---\n", answer.status, answer.body[:2000])
            return 0
        return run(flags, client, server)
    finally:
        server.stop()


def run(flags: argparse.Namespace, client: Client, server: Server) -> int:
    state: dict[str, Any] = {"seed": flags.seed, "next": 0, "findings": []}
    if flags.state.exists() and not flags.fresh:
        saved = json.loads(flags.state.read_text())
        state = saved if saved["seed"] == flags.seed else state
    counts: collections.Counter[int] = collections.Counter()
    kinds: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    began, sent, slowest = time.monotonic(), 0, 0.0
    for name, case in cases(flags, client, state["next"]):
        before = judge.processor_seconds(server.process.pid)
        try:
            answer = client.send(case.data, is_whole=case.is_whole)
        except ConnectionRefusedError:
            answer = None
        seconds = judge.processor_seconds(server.process.pid) - before
        slowest = max(slowest, seconds)
        finding = judge.judge(answer, seconds, server.process.poll())
        if finding:
            shown = case.data[:3000].decode("utf-8", "backslashreplace")
            state["findings"].append({"request": name, "what": finding, "data": shown})
            print(f"{name}: {finding}", flush=True)
            if answer is None or answer.status == -1 or server.process.poll() is not None:
                client.close()
                server.again()
        counts[answer.status if answer else -2] += 1
        if answer is not None and answer.status >= 500:
            kinds[f"{answer.status} {judge.told(answer)}"].append(name)
        sent += 1
        if name.isdigit():
            state["next"] = int(name) + 1
        if sent % 250 == 0:
            tidy(client)
        if sent % 1000 == 0:
            flags.state.write_text(json.dumps(state))
            rate = sent / (time.monotonic() - began)
            print(f"{sent} sent, {rate:.0f}/s, slowest {slowest:.2f} s, findings {len(state['findings'])}", flush=True)
    flags.state.write_text(json.dumps(state))
    print(f"done: {sent} requests, answers {dict(sorted(counts.items()))}, slowest {slowest:.2f} s of processor time")
    for kind, names in sorted(kinds.items(), key=lambda each: -len(each[1])):
        print(f"{len(names):6} {kind}   (first: {names[0]})")
    print(f"findings: {len(state['findings'])}")
    return 1 if state["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
