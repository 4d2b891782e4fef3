"""Requests that another server answers: found by their group-version, passed on with the user in headers.

Asked by pipeline for each request while there is any such APIService, after authentication, audit and authorization.
Promises: an unavailable server is answered 503 without being asked; no redirect is followed or passed on.
"""

from __future__ import annotations

from collections.abc import Mapping

from kybern.apiserver.aggregator import backend
from kybern.apiserver.aggregator.availability import Unreachable
from kybern.apiserver.aggregator.backend import Backends
from kybern.apiserver.aggregator.remote import GroupVersion, Remote
from kybern.apiserver.proxy import forward, headers
from kybern.apiserver.request import Answer, Request, Response, StreamResponse, UpgradeResponse
from kybern.machinery.status import ApiError

_TEXT = "text/plain; charset=utf-8"
_NO_SNIFFING = (("X-Content-Type-Options", "nosniff"),)
_REDIRECTED = b"the backend attempted to redirect this request, which is not permitted"
# What this server says of every answer itself.
_OPENAPI = "/openapi/v3/"
_OWN = frozenset({"audit-id", "cache-control"})


def find(remotes: Mapping[GroupVersion, Remote], request: Request) -> Remote | None:
    """The server for a request at or below /apis/<group>/<version>, or for its OpenAPI document."""
    info = request.info
    if info.is_resource:
        return remotes.get((info.group, info.version))
    path = request.path
    if path.startswith(_OPENAPI):
        path = path[len(_OPENAPI) - 1 :]  # its own document of the group-version
    parts = path.split("/", 4)
    if len(parts) < 4 or parts[1] != "apis":
        return None
    return remotes.get((parts[2], parts[3]))


async def pass_on(request: Request, remote: Remote, backends: Backends) -> Answer:
    """The answer of the server. Raises ApiError 400, 503."""
    if not remote.is_available:
        return unavailable()
    path = _raw_path(request)
    try:
        to = backends.locate(remote, path)
    except Unreachable:
        return unavailable()
    dialer = backends.dialer(to)
    fields = [f for f in headers.outgoing(request, to.authority) if f[0] not in _OWN]
    fields += headers.forwarded(request, request.path)
    fields += [("Audit-Id", request.audit_id), *backend.identity(request.user)]
    raw, exchange, head = await forward.open_exchange(dialer, dialer.target, request.method, path, fields, request.body)
    if 300 <= head.status < 400 and head.get("location"):
        raw.close()
        return Response(502, _REDIRECTED, _TEXT)
    answer = forward.answer_of(request, raw, exchange, head, "", to.authority)
    return _without_own(answer)


def unavailable() -> Response:
    return Response(503, b"service unavailable\n", _TEXT, _NO_SNIFFING)


def _without_own(answer: Answer) -> Answer:
    kept = tuple((name, value) for name, value in answer.headers if name.lower() not in _OWN)
    assert isinstance(answer, (Response, StreamResponse, UpgradeResponse))
    answer.headers = kept
    return answer


def _raw_path(request: Request) -> str:
    """As it was sent. Raises ApiError 400 for what no server should see."""
    target = request.target
    if not target.startswith("/"):
        raise ApiError.bad_request("the target of the request is not a path")
    return target
