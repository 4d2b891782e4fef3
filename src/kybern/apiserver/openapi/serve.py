"""Serve the OpenAPI documents: /openapi/v3 (index and one document a group-version) and /openapi/v2.

Fed by discovery's rows and by the schemas of custom resources; installed by apiserver/paths. Documents are built when
first asked for, in a thread (the whole v2 document takes a second), and kept as bytes until what they tell changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kybern.api.resource import Resource
from kybern.apiserver import version
from kybern.apiserver.aggregator.discovery import Offered
from kybern.apiserver.discovery.serve import rows_of
from kybern.apiserver.openapi import documents, merge
from kybern.apiserver.pipeline import PathHandler
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError

V2, V3 = "/openapi/v2", "/openapi/v3"


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(slots=True)
class _Edition:
    """The documents of one set of resources and schemas."""

    rows: tuple[Resource, ...]
    extra: Mapping[str, Any]
    offered: Offered
    groups: dict[str, list[Resource]] = field(default_factory=dict)  # "apis/apps/v1" -> rows
    index: bytes = b""
    built: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # path -> document, ETag


class OpenApi:
    """The documents of what `rows` names and other servers have `offered`.

    `schemas`: definitions of custom resources, replaced and never changed.
    """

    def __init__(
        self,
        rows: Callable[[], Iterable[Resource]],
        schemas: Callable[[], Mapping[str, Any]] = _nothing,
        offered: Callable[[], Offered] = Offered,
    ) -> None:
        self._rows, self._schemas, self._offered = rows, schemas, offered
        self._edition: _Edition | None = None
        self._one_at_a_time = asyncio.Semaphore(1)

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        """Any path at or below /openapi. Raises ApiError 404, 406."""
        path = request.path.rstrip("/")
        edition = self._current()
        if path == V3:
            return Response(body=edition.index)
        if path != V2 and path.removeprefix(V3 + "/") not in edition.groups:
            raise ApiError.no_such_path()
        if not _takes_json(request.headers.get("accept", "")):
            raise ApiError.not_acceptable(("application/json",))
        known = edition.built.get(path)
        return _answer(request, *known) if known is not None else self._build(request, edition, path)

    def known_paths(self) -> list[str]:
        return [V2, V3, *(f"{V3}/{group}" for group in self._current().groups)]

    def _current(self) -> _Edition:
        rows, extra, offered = tuple(self._rows()), self._schemas(), self._offered()
        known = self._edition
        if known is None or known.rows != rows or known.extra is not extra or known.offered is not offered:
            known = self._edition = _edition_of(rows, extra, offered)
        return known

    async def _build(self, request: Request, edition: _Edition, path: str) -> Answer:
        async with self._one_at_a_time:
            if path not in edition.built:
                body = await asyncio.to_thread(_render, edition, path)
                edition.built[path] = (body, f'"{hashlib.sha512(body).hexdigest().upper()}"')
        return _answer(request, *edition.built[path])


def _edition_of(rows: tuple[Resource, ...], extra: Mapping[str, Any], offered: Offered) -> _Edition:
    edition = _Edition(rows, extra, offered)
    for row in rows:
        group = f"apis/{row.group}/{row.version}" if row.group else f"api/{row.version}"
        edition.groups.setdefault(group, []).append(row)
    index = {}
    for group, own in edition.groups.items():
        # A document depends on the rows, the schemas and this program: together they name it.
        described = [(r, extra.get(r.definition)) for r in own]
        stamp = hashlib.sha512(f"{version.GIT_VERSION} {described}".encode()).hexdigest().upper()
        index[group] = {"serverRelativeURL": f"{V3}/{group}?hash={stamp}"}
    for (group, name), url in offered.openapi_v3.items():
        index[f"apis/{group}/{name}"] = {"serverRelativeURL": url}
    edition.index = orjson.dumps({"paths": index})
    return edition


def _render(edition: _Edition, path: str) -> bytes:
    if path == V2:
        whole = documents.swagger(edition.rows, edition.extra)
        merge.merge(whole, edition.offered.openapi_v2.values())
        return orjson.dumps(whole)
    return orjson.dumps(documents.group_version(edition.groups[path.removeprefix(V3 + "/")], edition.extra))


def _takes_json(accept: str) -> bool:
    media = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    return not media or any(m in ("application/json", "*/*", "application/*") for m in media)


def _answer(request: Request, body: bytes, tag: str) -> Response:
    headers = (("ETag", tag), ("Vary", "Accept"))
    known = [t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return Response(status=304, headers=headers)
    return Response(body=body, headers=headers)


def openapi_of(registry: Registry, offered: Callable[[], Offered] = Offered) -> OpenApi:
    return OpenApi(lambda: rows_of(registry), lambda: registry.custom_schemas(), offered)  # noqa: PLW0108  # set later


def paths(registry: Registry, offered: Callable[[], Offered] = Offered) -> dict[str, PathHandler]:
    """The paths known at start; those of custom resources come and go below `prefixes`."""
    openapi = openapi_of(registry, offered)
    return dict.fromkeys(openapi.known_paths(), openapi)


def prefixes(registry: Registry, offered: Callable[[], Offered] = Offered) -> list[tuple[str, PathHandler]]:
    """Where documents may appear that `paths` does not know yet."""
    return [(V3 + "/", openapi_of(registry, offered))]
