"""What a request means, from its method, path and query: the first step of the pipeline.

Read by authorize, flow control and the choice of a handler. Source: "API URIs" in the Kubernetes API concepts.
"""

from __future__ import annotations

import dataclasses
import functools

from kybern.apiserver import query
from kybern.apiserver.request import Request, RequestInfo
from kybern.machinery import fields, scheme

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
# Paths below these have no objects in them.
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
# Longer paths than any object's are not worth remembering (and anybody may send them).
_LONGEST_KEPT = 512


def parse(request: Request) -> RequestInfo:
    """The meaning of a request. Never fails: what is no resource path is a non-resource request."""
    path = request.path
    info = _of_path(request.method, path) if len(path) <= _LONGEST_KEPT else _read_path(request.method, path)
    if not info.is_resource:
        return info
    if info.verb in ("list", "watch"):
        if info.verb == "list" and "watch" in request.query and query.truth(request.query["watch"][0]):
            info = dataclasses.replace(info, verb="watch")
        name = _selected_name(request.flag("fieldSelector")) if "fieldSelector" in request.query else ""
        if name and not info.name:
            # Authorization may be by name (a kubelet watches single secrets); the selector itself still filters.
            info = dataclasses.replace(info, name=name)
    return info


def _selected_name(selector: str) -> str:
    try:
        return fields.parse_selector(selector).exact("metadata.name") or ""
    except ValueError:
        return ""


def _read_path(method: str, path: str) -> RequestInfo:
    parts = path[1:].split("/")
    if parts[-1] == "" and len(parts) > 1 and parts[-2] != "":
        parts.pop()  # /pods/ is /pods
    other = RequestInfo(method.lower(), path)
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return other
    verb = _VERBS.get(method, "")
    if rest[0] == "watch" and len(rest) > 1:
        if verb != "get":
            return other
        verb, rest = "watch", rest[1:]  # the deprecated form of ?watch=true
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    elif rest[0] == "namespaces" and len(rest) > 1:
        # A namespace is in itself, for rules that are limited to it.
        namespace = rest[1]
    if "" in parts[: len(parts) - len(rest[3:])]:
        return other  # an empty segment names nothing
    plural = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    # As it was sent, slashes and all: it is somebody else's path.
    tail = f"/{'/'.join(rest[3:])}" if len(rest) > 3 else ""
    if len(rest) >= 3 and path.endswith("/") and not tail.endswith("/"):
        tail += "/"
    if not name:
        verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
    return RequestInfo(
        verb=verb,
        path=path,
        is_resource=True,
        group=group,
        version=version,
        plural=plural,
        subresource=subresource,
        namespace=namespace,
        name=name,
        tail=tail,
        resource=scheme.resource_for(group, version, plural),
    )


_of_path = functools.lru_cache(maxsize=16384)(_read_path)
