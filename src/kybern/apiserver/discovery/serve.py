"""Answer /api, /apis and below. Documents are rendered once for each set of served resources.

Fed by registry.Registry (built-in and custom resources) and scheme.RESOURCES (questions that are not stored);
installed by apiserver/paths. The aggregated form is sent where the client accepts it, with an ETag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import orjson

from kybern.api.resource import Resource
from kybern.apiserver import negotiate, unrouted
from kybern.apiserver.aggregator.discovery import Offered
from kybern.apiserver.discovery import documents
from kybern.apiserver.pipeline import PathHandler
from kybern.apiserver.registry.registry import VIRTUAL, Registry
from kybern.apiserver.request import Request, Response
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(slots=True)
class _Rendered:
    """All documents of one set of resources."""

    key: tuple[Resource, ...]
    offered: Offered
    plain: dict[str, bytes] = field(default_factory=dict)  # path -> document
    aggregated: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # /api and /apis -> document, ETag
    any_method: frozenset[str] = frozenset()  # paths that do not ask by which method they are read


class Discovery:
    """What a client may learn about the resources `rows` names, and about what other servers have `offered`."""

    def __init__(self, rows: Callable[[], Iterable[Resource]], offered: Callable[[], Offered] = Offered) -> None:
        self._rows = rows
        self._offered = offered
        self._rendered: _Rendered | None = None

    def __call__(self, request: Request) -> Response:
        """Any path at or below /api and /apis. Raises ApiError 404, 405, 406."""
        path = request.path.rstrip("/")
        rendered = self._current()
        if path not in rendered.any_method and request.method != "GET":
            is_known = path in rendered.plain or path in rendered.aggregated
            raise ApiError.no_such_method() if is_known else _missing(path)
        if path in rendered.aggregated and _wants_aggregated(request.headers.get("accept", "")):
            return _aggregated(request, *rendered.aggregated[path])
        if path == "/api":
            address = request.headers.get("host", "")
            return _plain(request, orjson.dumps(documents.legacy_versions(address)), is_routed=True)
        document = rendered.plain.get(path)
        if document is None:
            raise _missing(path)
        return _plain(request, document, is_routed=path not in rendered.any_method)

    def known_paths(self) -> list[str]:
        """Every path with a document now."""
        return sorted({"/api", *self._current().plain})

    def _current(self) -> _Rendered:
        key, offered = tuple(self._rows()), self._offered()
        if self._rendered is None or self._rendered.key != key or self._rendered.offered is not offered:
            self._rendered = _render(key, offered)
        return self._rendered


def _render(resources: tuple[Resource, ...], offered: Offered) -> _Rendered:
    rendered = _Rendered(resources, offered)
    groups = documents.group_versions(resources, offered.order or scheme.GROUPS, offered.remotes)
    rendered.plain["/apis"] = orjson.dumps(documents.group_list(groups))
    for group, versions in groups.items():
        if group:
            rendered.plain[f"/apis/{group}"] = orjson.dumps(documents.group_document(group, versions))
        for version in versions:
            path = f"/apis/{group}/{version}" if group else f"/api/{version}"
            if (group, version) in offered.remotes:
                continue  # that server tells itself
            own = [r for r in resources if (r.group, r.version) == (group, version)]
            rendered.plain[path] = orjson.dumps(documents.resource_list(group, version, own))
    remote = {f"/apis/{r.group}/{r.version}" for r in resources if not r.module}
    groups_told = {f"/apis/{group}" for group in groups if group}
    rendered.any_method = frozenset({"/apis", *groups_told, *remote})
    for path in ("/api", "/apis"):
        body = orjson.dumps(documents.aggregated(groups, resources, offered.versions, legacy=path == "/api"))
        rendered.aggregated[path] = (body, f'"{hashlib.sha512(body).hexdigest().upper()}"')
    return rendered


def _missing(path: str) -> Exception:
    """Groups that are built in are told from those that nobody has."""
    parts = path.split("/", 3)
    is_built_in = parts[1] == "api" or any(parts[2:3] == [group] for group, _ in scheme.GROUPS)
    return ApiError.no_such_path() if is_built_in else unrouted.nowhere()


def _wants_aggregated(accept: str) -> bool:
    """Whether APIGroupDiscoveryList v2 is wished for at least as much as anything else that can be had."""
    for part in accept.split(","):
        media, *parameters = (p.strip().lower() for p in part.split(";"))
        if media not in ("application/json", "*/*", "application/*", "application/yaml"):
            continue
        wished = dict(p.partition("=")[::2] for p in parameters)
        if wished.get("as") == "apigroupdiscoverylist" and wished.get("g") == "apidiscovery.k8s.io":
            if wished.get("v") == "v2" and media == "application/json":
                return True
            continue
        return False
    return False


def _aggregated(request: Request, body: bytes, tag: str) -> Response:
    headers = (("ETag", tag), ("Vary", "Accept"), ("Cache-Control", "public"))
    known = [t.strip() for t in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return Response(304, b"", AGGREGATED_TYPE, headers)
    return Response(200, body, AGGREGATED_TYPE, headers)


def _plain(request: Request, document: bytes, *, is_routed: bool) -> Response:
    """`is_routed`: the path says itself which media types it has."""
    from kybern.apiserver.handlers import forms

    try:
        accepted = negotiate.choose(request.headers.get("accept", ""))
    except ApiError:
        if is_routed:
            raise
        raise ApiError.not_acceptable(negotiate.ACCEPTED) from None
    if accepted.shape:
        raise ApiError.not_acceptable(negotiate.ACCEPTED)
    return Response(200, forms.encoded(document, accepted), accepted.content_type)


def rows_of(registry: Registry) -> list[Resource]:
    """What is served: stored resources, custom ones among them, and the questions that are not stored."""
    served = [s.resource for s in registry.served() if s.resource.module]
    questions = [r for r in scheme.RESOURCES if r.group_resource in VIRTUAL and registry.is_enabled(r.group, r.version)]
    return [*served, *registry.custom_rows(), *questions]


def served_resources(registry: Registry) -> dict[tuple[str, str], list[Resource]]:
    """The rows by (group, version), in the order of the documents."""
    rows = rows_of(registry)
    groups = documents.group_versions(rows, scheme.GROUPS)
    return {
        (g, v): [r for r in rows if (r.group, r.version) == (g, v)] for g, versions in groups.items() for v in versions
    }


def paths(registry: Registry, offered: Callable[[], Offered]) -> dict[str, PathHandler]:
    """The paths known at start; custom resources and other servers come and go below `prefixes`."""
    discovery = Discovery(lambda: rows_of(registry), offered)
    return dict.fromkeys(discovery.known_paths(), discovery)


def prefixes(registry: Registry, offered: Callable[[], Offered]) -> list[tuple[str, PathHandler]]:
    """Where documents of groups may appear that `paths` does not know yet."""
    discovery = Discovery(lambda: rows_of(registry), offered)
    return [("/apis/", discovery), ("/api/", discovery)]
