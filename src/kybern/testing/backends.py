"""Servers behind APIServices, in memory: what they are asked is kept, what they answer is a function's.

For testing.api_server.run(backends=...). They speak HTTP/1.1 by bytes, as the real ones do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kybern.apiserver.webhooks.destination import Destination
from kybern.client.http import Disconnected, Head


@dataclass(frozen=True)
class Asked:
    """One request as a server saw it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]  # as sent, repeated ones too
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


# A whole HTTP/1.1 answer as bytes: see testing.webhooks.http.
Serve = Callable[[Asked], bytes]


@dataclass
class FakeServers:
    """Servers by authority (host:port)."""

    servers: dict[str, Serve] = field(default_factory=dict)
    seen: list[Asked] = field(default_factory=list)
    trusted: list[Destination] = field(default_factory=list)  # where connections were made to, and whom they trusted

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]:
        said = self._answer(to, data)
        head, _, body = said.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return Head(int(lines[0].split()[1]), headers), body[:limit]

    async def connect(self, to: Destination) -> AnsweringStream:
        if to.authority not in self.servers:
            raise _refused(to)
        return AnsweringStream(self, to)

    def close(self) -> None:
        pass

    def _answer(self, to: Destination, data: bytes) -> bytes:
        serve = self.servers.get(to.authority)
        if serve is None:
            raise _refused(to)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        method, path, _ = first.split(" ", 2)
        fields = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in rest))
        asked = Asked(method, path, fields, body)
        self.seen.append(asked)
        self.trusted.append(to)
        return serve(asked)

    def reply(self, to: Destination, data: bytes) -> bytes:
        """The answer to the bytes of a whole request."""
        return self._answer(to, data)


def _refused(to: Destination) -> Disconnected:
    return Disconnected(f"dial tcp {to.host}:{to.port}: connect: connection refused", unsent=True)


class AnsweringStream:
    """A connection whose other end answers the request that is written, then closes."""

    def __init__(self, servers: FakeServers, to: Destination) -> None:
        self._servers = servers
        self._to = to
        self._answer = b""
        self.is_closed = False

    async def read(self) -> bytes:
        data, self._answer = self._answer, b""
        return data

    async def write(self, data: bytes) -> None:
        self._answer += self._servers.reply(self._to, data)

    def close(self) -> None:
        self.is_closed = True
