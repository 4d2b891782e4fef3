"""The nouns of the API server: a request on its way through the pipeline, and what answers it.

The HTTP nouns are those of wire/message, shared with the kubelet's server. Made by wire/http1, filled by
pipeline steps, read by handlers, authenticate, authorize and admission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kybern.api.resource import Resource
from kybern.wire import message
from kybern.wire.message import Answer, RawStream, Response, Resting, Sink, StreamResponse, UpgradeResponse

__all__ = [
    "ANONYMOUS",
    "LONG_SUBRESOURCES",
    "Answer",
    "Answered",
    "Application",
    "RawStream",
    "Reader",
    "Request",
    "RequestInfo",
    "Response",
    "Resting",
    "Sink",
    "StreamResponse",
    "UpgradeResponse",
    "User",
    "Writer",
]


# What lasts as long as the client wants: no time limit, no seat.
LONG_SUBRESOURCES = frozenset({"proxy", "exec", "attach", "portforward", "log"})


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. `groups` always holds system:authenticated or system:unauthenticated."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


@dataclass(slots=True)
class Findings:
    """What later steps made of a RequestInfo and need again for every request like it. Each step owns one."""

    attributes: Any = None  # authorize.attributes.Attributes
    line: Any = None  # metrics.Line
    flow: Any = None  # flow_control.control: (edition, user, Flow)
    route: tuple[object, Any, Any] | None = None  # handlers.dispatch: edition of the registry, Served, Handler


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request means, from its method and path alone. Shared by all requests that mean the same."""

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
    findings: Findings = field(init=False, compare=False, repr=False, default_factory=Findings)


_UNKNOWN = RequestInfo("", "")


class Audited(Protocol):
    """The audit of one request; see audit/record."""

    @property
    def keeps_answer(self) -> bool:
        """Whether the body of the answer is recorded."""
        ...

    def annotate(self, key: str, value: str) -> None:
        """The first value of a key stays."""
        ...

    def impersonates(self, user: User, constraint: str = "") -> None: ...

    def finish(self, answer: Answer) -> Answer: ...

    def crash(self, answer: Response) -> Response: ...


@dataclass(slots=True)
class Request(message.Request):
    """One HTTP request, and what the pipeline found out about it. Header names are lower-case."""

    user: User = ANONYMOUS
    info: RequestInfo = _UNKNOWN
    warnings: list[str] = field(default_factory=list)  # become `Warning: 299 - "..."` headers
    audit_id: str = ""
    audit: Audited | None = None  # None: nothing of this request is recorded
    has_crashed: bool = False
    began: float = 0.0  # time.perf_counter()
    queued: float = 0.0  # seconds that it waited for a seat
    time_limit: float = 0.0  # seconds that the client asked for; 0: what the server allows
    flow: Any = None  # flow_control.control.Flow, once classified
    seat: Any = None  # flow_control.level.Seat, of what waits or takes time


Application = message.Application[Request]


class Answered(Exception):
    """A step answers in the handler's stead."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Reader(Protocol):
    """The API server's own view of its objects, from the watch cache: synchronous, read-only.

    `resource` is a group_resource: "pods", "roles.rbac.authorization.k8s.io".
    Objects are shared Structs (dicts for custom resources): never change them.
    """

    def get(self, resource: str, namespace: str, name: str) -> Any | None: ...

    def list(self, resource: str, namespace: str | None = None) -> list[Any]: ...

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        """Those whose selectable field has a value: found by index, however many there are."""
        ...

    def version(self, resource: str) -> int:
        """Changes whenever an object of the resource does: key of caches."""
        ...

    def changes(self, resource: str, since: int) -> Sequence[tuple[Any | None, Any | None]] | None:
        """(before, after) of each change after a `version`, oldest first; None: that is too long ago to tell."""
        ...


class Writer(Protocol):
    """Writes of the API server itself (quota usage, allocations), past admission, with preconditions."""

    async def create(self, resource: str, obj: Any) -> Any: ...

    async def update(self, resource: str, obj: Any) -> Any:
        """Replace spec, status and all, if `obj.metadata.resourceVersion` is still current (ApiError conflict)."""
        ...

    async def delete(self, resource: str, namespace: str, name: str) -> None: ...
