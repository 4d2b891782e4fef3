"""Two API servers over three members of etcd, with TLS and client certificates, while any one process is killed."""

from __future__ import annotations

import contextlib
import datetime
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import urllib3

from kybern.cli import pki
from kybern.cli.pki.certificates import Profile, generate_key, issue
from kybern.client.clock import RealClock
from kybern.testing import etcd

TOKEN = "test-token"
CONFIGS = "/api/v1/namespaces/default/configmaps"


def make_certificates(folder: Path) -> etcd.Certificates:
    now = datetime.datetime.now(datetime.UTC)
    ca = issue(Profile("etcd-ca", is_ca=True), None, now, generate_key())
    profile = Profile("etcd", names=("localhost",), addresses=("127.0.0.1",), server=True, client=True)
    leaf = issue(profile, ca, now, generate_key())
    made = etcd.Certificates(folder / "etcd-ca.crt", folder / "etcd.crt", folder / "etcd.key")
    made.ca.write_bytes(ca.certificate_pem)
    made.certificate.write_bytes(leaf.certificate_pem)
    made.key.write_bytes(leaf.key_pem)
    return made


class Server:
    """One API server process."""

    def __init__(self, folder: Path, port: int, members: list[etcd.Member], certificates: etcd.Certificates) -> None:
        self.url = f"https://127.0.0.1:{port}"
        made = pki.ensure(folder, names=["test"], addresses=["127.0.0.1"], clock=RealClock())
        (folder / "tokens.csv").write_text(f"{TOKEN},test,1,system:masters\n")
        self._command = [
            *(sys.executable, "-m", "kybern.cli.main", "apiserver", "--secure-port", str(port)),
            *("--bind-address", "127.0.0.1", "--advertise-address", "192.0.2.1"),
            *("--etcd-servers", ",".join(m.url for m in members), "--etcd-cafile", str(certificates.ca)),
            *("--etcd-certfile", str(certificates.certificate), "--etcd-keyfile", str(certificates.key)),
            *("--token-auth-file", str(folder / "tokens.csv"), "--client-ca-file", str(made.ca)),
            *("--tls-cert-file", str(made.certificate("apiserver"))),
            *("--tls-private-key-file", str(made.key("apiserver"))),
            *("--service-account-key-file", str(folder / "pki/sa.pub")),
            *("--service-account-signing-key-file", str(folder / "pki/sa.key")),
        ]
        self._log = folder / f"apiserver-{port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            with contextlib.suppress(requests.RequestException):
                if call(self, "GET", "/readyz").status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self._log.read_text()[-3000:])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def call(server: Server, method: str, path: str, body: object = None, timeout: float = 20) -> requests.Response:
    return requests.request(
        method,
        server.url + path,
        json=body,
        headers={"Authorization": f"Bearer {TOKEN}"},
        verify=False,  # a certificate made a moment ago, for loopback
        timeout=timeout,
    )


@dataclass
class World:
    members: list[etcd.Member]
    servers: list[Server]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    urllib3.disable_warnings()
    certificates = make_certificates(tmp_path)
    members = etcd.cluster(tmp_path, 3, ("--heartbeat-interval", "50", "--election-timeout", "500"), certificates)
    servers = [Server(tmp_path, port, members, certificates) for port in etcd.free_ports(2)]
    try:
        etcd.run(members)
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield World(members, servers)
    finally:
        for server in servers:
            if server.process is not None:
                server.kill()
        for member in members:
            member.resume()
            member.kill()


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
        assert call(world.servers[0], "POST", CONFIGS, body).status_code == 201

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._count()
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")

    def _count(self) -> None:
        """No answer, or a 5xx: the outcome is not known, and the next read shows it."""
        try:
            answer = call(self._dice.choice(self._world.servers), "GET", self._path)
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
            written = call(self._dice.choice(self._world.servers), "PUT", self._path, found)
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
        return int(call(self._world.servers[0], "GET", self._path).json()["data"]["count"])


def test_what_one_server_acknowledged_the_other_shows_at_once(world: World) -> None:
    one, other = world.servers
    for i in range(30):
        made = call(one, "POST", CONFIGS, {"metadata": {"name": f"c{i}"}})
        assert made.status_code == 201, made.text
        seen = call(other, "GET", f"{CONFIGS}/c{i}")
        assert seen.json()["metadata"] == made.json()["metadata"]
        assert call(other, "DELETE", f"{CONFIGS}/c{i}").status_code == 200
        assert call(one, "GET", f"{CONFIGS}/c{i}").status_code == 404


def test_killing_any_one_process_loses_nothing_and_clients_go_on(world: World) -> None:
    loads = [Load(world, number) for number in range(4)]
    for load in loads:
        load.start()
    try:
        for member in world.members:
            before = [load.acknowledged for load in loads]
            member.kill()
            time.sleep(3)
            assert all(load.acknowledged > count for load, count in zip(loads, before, strict=True)), member.name
            member.start()
            member.wait()
            time.sleep(1)
        world.members[0].pause()
        time.sleep(2)
        world.members[0].resume()
        for server in world.servers:
            before = [load.acknowledged for load in loads]
            server.kill()
            time.sleep(2)
            assert all(load.acknowledged > count for load, count in zip(loads, before, strict=True))
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
