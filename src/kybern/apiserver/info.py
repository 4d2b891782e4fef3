"""What a request means, from its method, path and query: the first step of the pipeline.

Read by authorize, flow control and the choice of a handler. Source: "API URIs" in the Kubernetes API concepts.
"""

from __future__ import annotations

import dataclasses
import functools

from kybern.apiserver.request import Request, RequestInfo
from kybern.machinery import fields, scheme

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
# Paths below these have no objects in them.
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")


def parse(request: Request) -> RequestInfo:
    """The meaning of a request. Never fails: what is no resource path is a non-resource request."""
    info = _of_path(request.method, request.path)
    if not info.is_resource:
        return info
    if info.verb in ("list", "watch"):
        if info.verb == "list" and "watch" in request.query and request.query["watch"][0] in _TRUE:
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


@functools.lru_cache(maxsize=16384)
def _of_path(method: str, path: str) -> RequestInfo:
    parts = [p for p in path.split("/") if p]
    other = RequestInfo(method.lower(), path)
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return other
    verb = _VERBS.get(method, "")
    if not verb and "/proxy" not in path:
        return other  # other methods (OPTIONS) only mean something to what is behind a proxy
    if rest[0] in ("watch", "proxy") and len(rest) > 1:
        # Deprecated prefix forms; "proxy" is no longer served and ends in a 404.
        if rest[0] == "watch":
            verb = "watch"
        rest = rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    elif rest[0] == "namespaces" and len(rest) > 1:
        # A namespace is in itself, for rules that are limited to it.
        namespace = rest[1]
    plural = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = path.split(f"/{name}/{subresource}", 1)[1] if len(rest) > 2 else ""
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
