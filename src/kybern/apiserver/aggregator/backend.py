"""Connections to the servers behind APIServices: this server shows its front proxy's certificate and says who asks.

Used by routes (requests of clients) and reconcile (its own questions). Promises: the server's certificate is verified
as the APIService says before anything is sent; identity headers of the client never pass, those of its user do.
"""

from __future__ import annotations

import random
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Protocol

from kybern.apiserver.aggregator import availability
from kybern.apiserver.aggregator.remote import Remote
from kybern.apiserver.proxy.targets import Target
from kybern.apiserver.request import Reader, User
from kybern.apiserver.webhooks.destination import Destination
from kybern.apiserver.webhooks.failure import says_dial, says_tls
from kybern.apiserver.webhooks.transport import Transport
from kybern.client.http import Disconnected, Head
from kybern.client.kubeconfig import Access, Pem
from kybern.machinery.status import ApiError
from kybern.wire import tcp
from kybern.wire.message import RawStream

SLICES = "endpointslices.discovery.k8s.io"
# Whom the aggregator's own questions come from.
AGGREGATOR = User("system:kube-aggregator", groups=("system:masters",))
# Bytes of a discovery or OpenAPI document.
DOCUMENT_LIMIT = 64 << 20
_DIAL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of kube-apiserver: --proxy-client-cert-file, --proxy-client-key-file, --enable-aggregator-routing."""

    certificate: str = ""
    key: str = ""
    by_endpoint: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document of a server."""

    status: int
    content_type: str
    tag: str  # ETag
    body: bytes


class Backends:
    """The way to every server behind an APIService."""

    def __init__(self, reader: Reader, options: Options, rng: random.Random, wire: Wire | None = None) -> None:
        self._reader = reader
        self._options = options
        self._rng = rng
        self._wire: Wire = wire or TlsWire()

    def locate(self, remote: Remote, path: str) -> Destination:
        """Where a path of it is. Raises Unreachable."""
        service = self._reader.get("services", remote.namespace, remote.service)
        slices = self._reader.list(SLICES, remote.namespace)
        host, port = availability.address(remote, service, slices, self._options.by_endpoint, self._rng)
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Destination(f"https://{authority}{path}", authority, path, host, port, True, self._access(remote))

    def _access(self, remote: Remote) -> Access:
        return Access(
            "",
            ca=Pem(data=remote.ca_bundle),
            insecure=remote.is_insecure,
            tls_server_name=remote.server_name,
            certificate=Pem(file=self._options.certificate),
            key=Pem(file=self._options.key),
        )

    async def fetch(self, remote: Remote, path: str, accept: str = "", tag: str = "") -> tuple[str, Fetched]:
        """(URL, answer) of a GET in the aggregator's own name. Raises Unreachable, Disconnected."""
        to = self.locate(remote, path)
        fields = [("Host", to.authority), ("User-Agent", "kube-aggregator"), *identity(AGGREGATOR)]
        if accept:
            fields.append(("Accept", accept))
        if tag:
            fields.append(("If-None-Match", tag))
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        data = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        head, body = await self._wire.exchange(to, data, DOCUMENT_LIMIT)
        told = head.headers
        return to.url, Fetched(head.status, told.get("content-type", ""), told.get("etag", ""), body)

    def dialer(self, to: Destination) -> BackendDialer:
        return BackendDialer(to, self._wire)

    def close(self) -> None:
        self._wire.close()


class BackendDialer:
    """Dials one destination, for apiserver/proxy/forward."""

    def __init__(self, to: Destination, wire: Wire) -> None:
        self._to = to
        self._wire = wire

    @property
    def target(self) -> Target:
        return Target("https", self._to.host, self._to.port)

    async def dial(self, target: Target) -> RawStream:
        """Raises ApiError 503."""
        try:
            return await self._wire.connect(self._to)
        except Disconnected as error:
            raise ApiError.unavailable(f"error trying to reach service: {error}") from None


class Wire(Protocol):
    """TCP and TLS (`TlsWire`), or servers in memory (testing.backends)."""

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]:
        """A whole answer to a whole request. Raises Disconnected."""
        ...

    async def connect(self, to: Destination) -> RawStream:
        """A connection of one's own. Raises Disconnected."""
        ...

    def close(self) -> None: ...


class TlsWire(Transport):
    """The real one."""

    async def connect(self, to: Destination) -> RawStream:
        name = to.access.tls_server_name
        try:
            context = self.context(to.access)
            return await tcp.dial(to.host, to.port, context=context, server_name=name, timeout=_DIAL_SECONDS)
        except ssl.SSLCertVerificationError as error:
            why = says_tls(error.verify_code, error.verify_message, name)
        except ssl.SSLError as error:
            why = f"tls: {(error.reason or str(error)).lower()}"
        except TimeoutError:
            why = f"dial tcp {to.authority}: i/o timeout"
        except (OSError, UnicodeError) as error:
            why = says_dial(to.host, to.port, error if isinstance(error, OSError) else OSError(str(error)))
        raise Disconnected(why, unsent=True)


def identity(user: User) -> list[tuple[str, str]]:
    """Who asks, in the headers a front proxy uses."""
    fields = [("X-Remote-User", user.name)]
    if user.uid:
        fields.append(("X-Remote-Uid", user.uid))
    fields += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        name = f"X-Remote-Extra-{urllib.parse.quote(key, safe='!#$&*+.^_`|~-')}"
        fields += [(name, value) for value in values]
    return fields
