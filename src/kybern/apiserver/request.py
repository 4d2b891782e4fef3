"""The nouns of the API server: a request on its way through the pipeline, and what answers it.

Made by wire/http1, filled by pipeline steps, read by handlers, authenticate, authorize and admission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kybern.api.resource import Resource


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. `groups` always holds system:authenticated or system:unauthenticated."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request means, from its method and path alone."""

    verb: str  # get list watch create update patch delete deletecollection proxy; lower-case method for non-resources
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    plural: str = ""
    subresource: str = ""  # "status"; "proxy" with the rest in `tail`
    namespace: str = ""
    name: str = ""
    tail: str = ""  # what follows the subresource: pods/x/proxy/<tail>
    resource: Resource | None = None  # None: no such resource (or not a resource request)


@dataclass(slots=True)
class Request:
    """One HTTP request. Header names are lower-case."""

    method: str
    path: str  # percent-decoded, without query
    target: str  # as sent
    query: dict[str, list[str]]
    headers: dict[str, str]  # repeated fields joined by ", "
    body: bytes = b""
    peer: str = ""  # address of the client
    certificates: tuple[bytes, ...] = ()  # DER of the verified client chain, leaf first
    # filled by the pipeline
    user: User = ANONYMOUS
    info: RequestInfo = field(default_factory=lambda: RequestInfo("", ""))
    warnings: list[str] = field(default_factory=list)  # become `Warning: 299 - "..."` headers
    audit_id: str = ""

    def flag(self, name: str) -> str:
        """The first value of a query parameter, or ""."""
        values = self.query.get(name)
        return values[0] if values else ""


@dataclass(slots=True)
class Response:
    """A whole answer. `body` parts are joined (and never copied before that)."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Sink(Protocol):
    """Where a streamed answer goes: one HTTP/1.1 chunked body."""

    def write(self, data: bytes) -> None:
        """Send one chunk now; never blocks."""
        ...

    def write_framed(self, data: bytes) -> None:
        """Send bytes that hold whole chunks already (wire.http1.frame_chunk), shared by many sinks."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel: how far this client is behind."""
        ...

    async def drain(self) -> None:
        """Wait until `buffered` is below the high-water mark."""
        ...

    @property
    def closed(self) -> bool: ...

    async def wait_closed(self) -> None:
        """Return when the client has gone away."""
        ...

    def abort(self) -> None:
        """Cut the connection (a client too slow to follow)."""
        ...


@dataclass(slots=True)
class StreamResponse:
    """Headers at once, then a chunked body written by `run` until it returns or the client goes."""

    run: Callable[[Sink], Awaitable[None]]
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class RawStream(Protocol):
    """A connection after `101 Switching Protocols` (or a hijacked one): plain bytes both ways."""

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class UpgradeResponse:
    """`101` with these headers, after which `run` owns the connection."""

    run: Callable[[RawStream], Awaitable[None]]
    protocol: str  # value of the Upgrade header: "websocket", "SPDY/3.1"
    headers: tuple[tuple[str, str], ...] = ()


Answer = Response | StreamResponse | UpgradeResponse
# A handler answers at once where it can (reads from memory): no task is started for those.
Application = Callable[[Request], Answer | Awaitable[Answer]]


class Reader(Protocol):
    """The API server's own view of its objects, from the watch cache: synchronous, read-only.

    `resource` is a group_resource: "pods", "roles.rbac.authorization.k8s.io".
    Objects are shared Structs (dicts for custom resources): never change them.
    """

    def get(self, resource: str, namespace: str, name: str) -> Any | None: ...

    def list(self, resource: str, namespace: str | None = None) -> list[Any]: ...

    def version(self, resource: str) -> int:
        """Changes whenever an object of the resource does: key of caches."""
        ...


class Writer(Protocol):
    """Writes of the API server itself (quota usage, allocations), past admission, with preconditions."""

    async def create(self, resource: str, obj: Any) -> Any: ...

    async def update(self, resource: str, obj: Any) -> Any:
        """Replace spec, status and all, if `obj.metadata.resourceVersion` is still current (ApiError conflict)."""
        ...

    async def delete(self, resource: str, namespace: str, name: str) -> None: ...
