"""Who simulated nodes are towards the API server: a client certificate each, or one user who acts for them.

Used by fleet. With the cluster's signing key each node is `system:node:NAME` on connections of its own, as a real
kubelet after its TLS bootstrap; without it the requests of all go through one pool of connections and impersonate.
Node authorization and NodeRestriction judge either way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from kybern.client import http
from kybern.client.kubeconfig import Access, Pem
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock

GROUP = "system:nodes"
AGENT = "kubelet/v1.36 (kybern simulated)"
CONNECTIONS = 2  # of one node, besides its watch

ClientOf = Callable[[str], RestClient]


def user_of(node: str) -> str:
    return f"system:node:{node}"


def by_certificate(access: Access, certificate_of: Callable[[str], tuple[bytes, bytes]], clock: Clock) -> ClientOf:
    """Clients that show a certificate of their node's: `certificate_of` gives it and its key (PEM)."""

    def client_of(node: str) -> RestClient:
        certificate, key = certificate_of(node)
        own = replace(access, certificate=Pem(data=certificate), key=Pem(data=key), token="", token_file="")
        return RestClient(own, clock, user_agent=AGENT, wire=http.Transport(own, limit=CONNECTIONS))

    return client_of


def by_impersonation(access: Access, clock: Clock, connections: int) -> ClientOf:
    """Clients of one pool that act for their nodes."""
    shared = http.Transport(access, limit=connections, stream_limit=1 << 16)
    return lambda node: RestClient(access, clock, user_agent=AGENT, wire=_Impersonating(shared, node))


class _Impersonating:
    """http.Wire: puts a node's name into every request."""

    def __init__(self, shared: http.Transport, node: str) -> None:
        self.authority = shared.authority
        self.base_path = shared.base_path
        self._shared = shared
        self._headers = f"impersonate-user: {user_of(node)}\r\nimpersonate-group: {GROUP}\r\n".encode()

    async def exchange(self, data: bytes, timeout: float) -> tuple[http.Head, bytes]:
        return await self._shared.exchange(self._for(data), timeout)

    def stream(self, data: bytes, timeout: float) -> AbstractAsyncContextManager[tuple[http.Head, http.Body]]:
        return self._shared.stream(self._for(data), timeout)

    def close(self) -> None:
        """The pool is the others' as well."""

    def _for(self, data: bytes) -> bytes:
        line, rest = data.split(b"\r\n", 1)
        return line + b"\r\n" + self._headers + rest
