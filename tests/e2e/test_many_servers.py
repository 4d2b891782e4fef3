"""Two API servers over three members of etcd, with TLS and client certificates, while any one process is killed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.several_servers import World, running

CONFIGS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(tmp_path) as made:
        yield made


class Load(threading.Thread):
    """Counts up in one ConfigMap by read and conditional update, over whichever server answers."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__()
        self._world = world
        self._dice = random.Random(number)
        self._path = f"{CONFIGS}/counter-{number}"
        self.stop = threading.Event()
        self.acknowledged = 0
        self.unknown = 0
        self.faults: list[str] = []
        body = {"metadata": {"name": f"counter-{number}"}, "data": {"count": "0"}}
        assert world.servers[0].call("POST", CONFIGS, body).status_code == 201

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._count()
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")

    def _count(self) -> None:
        """No answer, or a 5xx: the outcome is not known, and the next read shows it."""
        try:
            answer = self._dice.choice(self._world.servers).call("GET", self._path)
            if answer.status_code != 200:
                assert answer.status_code in (429, 500, 503, 504), answer.text
                time.sleep(0.05)
                return
            found = answer.json()
            count = int(found["data"]["count"])
            if not self.acknowledged <= count <= self.acknowledged + self.unknown:
                self.faults.append(f"{self._path} is {count}, but {self.acknowledged} was acknowledged")
            self.acknowledged, self.unknown = count, 0
            found["data"]["count"] = str(count + 1)
            written = self._dice.choice(self._world.servers).call("PUT", self._path, found)
        except requests.RequestException:
            self.unknown = 1
            time.sleep(0.05)
            return
        if written.status_code == 200:
            self.acknowledged = count + 1
        elif written.status_code in (409, 503, 504, 500):
            # 409: an update whose answer was lost may have been done by the server that died.
            self.unknown = 1
        else:
            self.faults.append(f"PUT: {written.status_code} {written.text[:200]}")

    def value(self) -> int:
        return int(self._world.servers[0].call("GET", self._path).json()["data"]["count"])


def test_what_one_server_acknowledged_the_other_shows_at_once(world: World) -> None:
    one, other = world.servers
    for i in range(30):
        made = one.call("POST", CONFIGS, {"metadata": {"name": f"c{i}"}})
        assert made.status_code == 201, made.text
        seen = other.call("GET", f"{CONFIGS}/c{i}")
        assert seen.json()["metadata"] == made.json()["metadata"]
        assert other.call("DELETE", f"{CONFIGS}/c{i}").status_code == 200
        assert one.call("GET", f"{CONFIGS}/c{i}").status_code == 404


def go_on(loads: list[Load]) -> None:
    """Every load gets answers again: two each, since one may have been on its way."""
    before = [load.acknowledged for load in loads]
    until = time.monotonic() + 30  # an election, and whoever waits for the one that is gone, on a busy machine
    while any(load.acknowledged < count + 2 for load, count in zip(loads, before, strict=True)):
        assert time.monotonic() < until, [load.acknowledged for load in loads]
        time.sleep(0.1)


def test_killing_any_one_process_loses_nothing_and_clients_go_on(world: World) -> None:
    loads = [Load(world, number) for number in range(4)]
    for load in loads:
        load.start()
    try:
        for member in world.members:
            member.kill()
            go_on(loads)
            member.start()
            member.wait()
            time.sleep(1)
        world.members[0].pause()
        time.sleep(2)
        world.members[0].resume()
        for server in world.servers:
            server.kill()
            go_on(loads)
            server.start()
            server.wait()
    finally:
        for load in loads:
            load.stop.set()
        for load in loads:
            load.join(60)
    for load in loads:
        assert load.faults == []
        assert load.acknowledged <= load.value() <= load.acknowledged + load.unknown
        assert load.value() > 10
