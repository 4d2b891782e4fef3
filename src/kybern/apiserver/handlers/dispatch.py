"""From a request's meaning to the handler that serves it: the table of verbs and subresources.

Called by pipeline, after authorization. Raises ApiError 404 and 405.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable

from kybern.api.resource import Resource
from kybern.apiserver import unrouted
from kybern.apiserver.handlers.binding import bind
from kybern.apiserver.handlers.context import Handler, Handlers
from kybern.apiserver.handlers.create import create
from kybern.apiserver.handlers.delete import delete, delete_collection
from kybern.apiserver.handlers.eviction import evict
from kybern.apiserver.handlers.get import get
from kybern.apiserver.handlers.list import list_objects
from kybern.apiserver.handlers.patch import patch
from kybern.apiserver.handlers.scale import scale
from kybern.apiserver.handlers.update import update
from kybern.apiserver.handlers.watch import watch
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Answer, Request, RequestInfo
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

VERBS: dict[str, Handler] = {
    "get": get,
    "list": list_objects,
    "watch": watch,
    "create": create,
    "update": update,
    "patch": patch,
    "delete": delete,
    "deletecollection": delete_collection,
}
# Subresources that are the object itself, written by rules of their own (Strategy.prepare_<name>_update).
WHOLE_OBJECT = frozenset({"status", "finalize", "approval", "ephemeralcontainers", "resize"})
# Subresources with a handler of their own, by (resource, subresource); more are added by apiserver/server.
OWN: dict[tuple[str, str], Handler] = {
    ("pods", "binding"): bind,
    ("pods", "eviction"): evict,
}


def handle(handlers: Handlers, request: Request) -> Answer | Awaitable[Answer]:
    """Serve a resource request."""
    info = request.info
    registry = handlers.registry
    known = info.findings.route
    if known is not None and known[0] is registry.edition:
        _, served, handler = known
        answer: Answer | Awaitable[Answer] = handler(handlers, request, served)
        return answer
    served = registry.get(info.group, info.version, info.plural)
    if served is not None:
        if info.namespace and info.plural == "namespaces" and not info.group:
            # For authorization a namespace is in itself; it is stored outside of any.
            info = request.info = dataclasses.replace(info, namespace="")
            return _handler_of(handlers, request, served)(handlers, request, served)
        handler = _handler_of(handlers, request, served)
        info.findings.route = (registry.edition, served, handler)
        return handler(handlers, request, served)
    if info.resource is None:
        coming = registry.coming(info.group, info.version, info.plural)
        if coming is not None:
            return _handle_later(handlers, request, coming)
    if info.resource is None or not registry.is_enabled(info.group, info.version):
        raise _no_such_resource(info)
    resource = info.resource
    virtual = handlers.virtual.get(resource.group_resource)
    if virtual is None or info.subresource or (resource.namespaced and not info.namespace):
        raise ApiError.no_such_path()
    if info.name and "get" not in resource.verbs:
        raise ApiError.no_such_path()
    if info.verb not in resource.verbs or request.method == "HEAD":
        raise ApiError.no_such_method()
    return virtual(request)


def _no_such_resource(info: RequestInfo) -> Exception:
    """Groups that are built in are told from those that nobody has."""
    is_built_in = not info.group or any(info.group == group for group, _ in scheme.GROUPS)
    return ApiError.no_such_path() if is_built_in else unrouted.nowhere()


async def _handle_later(handlers: Handlers, request: Request, coming: Awaitable[Served | None]) -> Answer:
    served = await coming
    if served is None:
        raise ApiError.no_such_path()
    answer = _handler_of(handlers, request, served)(handlers, request, served)
    return await answer if isinstance(answer, Awaitable) else answer


def _handler_of(handlers: Handlers, request: Request, served: Served) -> Handler:
    info = request.info
    handler = _choose_routed(handlers, request, served) if served.has_protobuf else _choose(handlers, info, served)
    if served.warm is not None and info.verb not in ("create", "watch"):
        handler = _warmed(handler)
    warning = served.warning
    if not warning:
        return handler

    def warned(handlers: Handlers, request: Request, served: Served) -> Answer | Awaitable[Answer]:
        request.warnings.append(warning)
        return handler(handlers, request, served)

    return warned


def _warmed(handler: Handler) -> Handler:
    """With the objects at hand in the version they are asked for in."""

    async def warmed(handlers: Handlers, request: Request, served: Served) -> Answer:
        info, cache = request.info, served.store.cache
        found = (cache.get(info.namespace, info.name),) if info.name else cache.entries(info.namespace or None)
        assert served.warm is not None
        await served.warm([entry.data for entry in found if entry is not None])
        answer = handler(handlers, request, served)
        return await answer if isinstance(answer, Awaitable) else answer

    return warmed


def _choose_routed(handlers: Handlers, request: Request, served: Served) -> Handler:
    """The handler of a built-in kind: paths have methods, and what has no path is not there."""
    info, resource = request.info, served.resource
    if not resource.namespaced and info.namespace:
        raise ApiError.no_such_path()
    if "%" in info.name:
        raise ApiError.no_such_path()  # a slash that is part of a name is part of no path
    is_everywhere = resource.namespaced and not info.namespace
    if info.subresource:
        return _subresource_handler(handlers, served, request)
    if is_everywhere and info.name and info.verb not in ("list", "watch"):
        raise ApiError.no_such_path()  # a list may have a name: that of its field selector
    if is_everywhere and info.verb in ("create", "deletecollection"):
        raise ApiError.no_such_method()
    if not _has_method(info, resource) or request.method == "HEAD":
        raise ApiError.no_such_method()
    _check_name(info)
    return VERBS[info.verb]


def _has_method(info: RequestInfo, resource: Resource) -> bool:
    """Whether a collection or an object, whichever is meant, has this verb."""
    if info.verb not in resource.verbs or (info.name and info.verb == "create"):
        return False
    return bool(info.name) or info.verb not in ("update", "patch")


def _check_name(info: RequestInfo) -> None:
    if info.name in (".", ".."):
        raise ApiError.bad_request(f"Name parameter invalid: \"{info.name}\": may not be '{info.name}'")


def _subresource_handler(handlers: Handlers, served: Served, request: Request) -> Handler:
    info, resource = request.info, served.resource
    known = next((s for s in resource.subresources if s.name == info.subresource), None)
    if known is None or (resource.namespaced and not info.namespace):
        raise ApiError.no_such_path()
    is_passed_on = info.subresource == "proxy"  # any method
    is_known = info.verb in known.verbs or (info.verb == "watch" and "get" in known.verbs)
    if not is_passed_on and (not is_known or request.method == "HEAD"):
        raise ApiError.no_such_method()
    return _handler_of_subresource(handlers, served, info)


def _choose(handlers: Handlers, info: RequestInfo, served: Served) -> Handler:
    """The handler of a custom kind: one handler looks at all paths of its group."""
    resource = served.resource
    if not resource.namespaced and info.namespace:
        raise unrouted.nowhere()
    is_everywhere = resource.namespaced and not info.namespace
    if is_everywhere and (info.verb not in ("list", "watch") or info.subresource):
        raise unrouted.nowhere()
    if info.subresource:
        known = next((s for s in resource.subresources if s.name == info.subresource), None)
        if known is None:
            raise ApiError.not_found(resource.group, resource.plural, info.name)
        if info.verb not in known.verbs:
            raise ApiError.method_not_allowed(resource.group, resource.plural, info.verb)
        return _handler_of_subresource(handlers, served, info)
    if info.verb == "update" and not info.name:
        raise ApiError.bad_request("name must be provided")
    if not _has_method(info, resource):
        raise ApiError.method_not_allowed(resource.group, resource.plural, info.verb)
    _check_name(info)
    return VERBS[info.verb]


def _handler_of_subresource(handlers: Handlers, served: Served, info: RequestInfo) -> Handler:
    resource = served.resource
    own = OWN.get((resource.group_resource, info.subresource)) or handlers.extensions.get(
        f"{resource.group_resource}/{info.subresource}"
    )
    if own is not None:
        return own
    if info.subresource == "scale":
        return scale
    if info.subresource in WHOLE_OBJECT:
        return VERBS[info.verb]
    raise ApiError.no_such_path()
