"""Two API servers over three members of etcd on loopback, with TLS and client certificates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kybern.testing import etcd
from kybern.testing.api_server_process import ApiServerProcess


@dataclass
class World:
    members: list[etcd.Member]
    servers: list[ApiServerProcess]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    certificates = etcd.make_certificates(folder)
    members = etcd.cluster(folder, 3, ("--heartbeat-interval", "50", "--election-timeout", "500"), certificates)
    servers = [ApiServerProcess(folder, port, members, certificates) for port in etcd.free_ports(2)]
    try:
        etcd.run(members)
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield World(members, servers)
    finally:
        for server in servers:
            server.kill()
        for member in members:
            member.resume()
            member.kill()
