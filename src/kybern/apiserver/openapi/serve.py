"""Serve the OpenAPI documents: /openapi/v3 (index and one document a group-version) and /openapi/v2.

Fed by discovery's rows and by the schemas of custom resources; installed by apiserver/paths. Documents are built when
first asked for, in a thread (the whole v2 document takes a second), and kept as bytes until what they tell changes: as
JSON, and as protobuf (gnostic) where somebody wants that. The address in the index names a document by its hash, so
that what is had there may be kept for ever.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kybern.api.resource import Resource
from kybern.apiserver import unrouted, version
from kybern.apiserver.aggregator.discovery import Offered
from kybern.apiserver.discovery.serve import rows_of
from kybern.apiserver.openapi import documents, gnostic, merge
from kybern.apiserver.pipeline import PathHandler
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.clock import Clock

V2, V3 = "/openapi/v2", "/openapi/v3"
_JSON = "application/json"
# One type under two names; answers use the second, as media types go.
_PROTOBUF = {
    number: (
        f"application/com.github.proto-openapi.spec.v{number}@v1.0+protobuf",
        f"application/com.github.proto-openapi.spec.v{number}.v1.0+protobuf",
    )
    for number in (2, 3)
}
_INDEX_TYPE = "text/plain; charset=utf-8"
_VARY = ("Vary", "Accept")
_KEPT_FOR = datetime.timedelta(days=365)


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(slots=True)
class _Edition:
    """The documents of one set of resources and schemas."""

    rows: tuple[Resource, ...]
    extra: Mapping[str, Any]
    offered: Offered
    since: datetime.datetime
    groups: dict[str, list[Resource]] = field(default_factory=dict)  # "apis/apps/v1" -> rows
    stamps: dict[str, str] = field(default_factory=dict)  # path of a document -> what names its contents
    index: bytes = b""
    built: dict[tuple[str, bool], bytes] = field(default_factory=dict)  # path, as protobuf -> document


class OpenApi:
    """The documents of what `rows` names and other servers have `offered`.

    `schemas`: definitions of custom resources, replaced and never changed.
    """

    def __init__(
        self,
        rows: Callable[[], Iterable[Resource]],
        clock: Clock,
        schemas: Callable[[], Mapping[str, Any]] = _nothing,
        offered: Callable[[], Offered] = Offered,
    ) -> None:
        self._rows, self._clock, self._schemas, self._offered = rows, clock, schemas, offered
        self._edition: _Edition | None = None
        self._one_at_a_time = asyncio.Semaphore(1)

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        """Any path at or below /openapi, by any method."""
        path = request.path
        edition = self._current()
        if path == V3:
            return _answer(request, edition.index, _INDEX_TYPE, (_changed(edition),))
        stamp = edition.stamps.get(path)
        if stamp is None:
            return unrouted.page_not_found() if path.startswith(V2) else Response(404)
        chosen = _choose(request.headers.get("accept", ""), 2 if path == V2 else 3)
        if chosen is None:
            return Response(406, headers=(_VARY,))
        headers = [("ETag", f'"{stamp}"'), _VARY]
        asked = request.flag("hash")
        if asked and path != V2:
            if asked != stamp:
                return Response(301, headers=(("Location", f"{path}?hash={stamp}"), *headers))
            until = self._clock.now() + _KEPT_FOR
            headers += [("Cache-Control", "public, immutable"), ("Expires", f"{until:%a, %d %b %Y %H:%M:%S} UTC")]
        known = [t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")]
        if f'"{stamp}"' in known or "*" in known:
            return Response(304, headers=tuple(headers))
        headers.append(_changed(edition))
        body = edition.built.get((path, chosen != _JSON))
        if body is not None:
            return _answer(request, body, chosen, tuple(headers))
        return self._build(request, edition, chosen, tuple(headers))

    def known_paths(self) -> list[str]:
        return [V2, V3, *(f"{V3}/{group}" for group in self._current().groups)]

    def _current(self) -> _Edition:
        rows, extra, offered = tuple(self._rows()), self._schemas(), self._offered()
        known = self._edition
        if known is None or known.rows != rows or known.extra is not extra or known.offered is not offered:
            known = self._edition = _edition_of(rows, extra, offered, self._clock.now())
        return known

    async def _build(
        self, request: Request, edition: _Edition, media: str, headers: tuple[tuple[str, str], ...]
    ) -> Answer:
        key = (request.path, media != _JSON)
        async with self._one_at_a_time:
            if key not in edition.built:
                edition.built[key] = await asyncio.to_thread(_render, edition, *key)
        return _answer(request, edition.built[key], media, headers)


def _edition_of(
    rows: tuple[Resource, ...], extra: Mapping[str, Any], offered: Offered, since: datetime.datetime
) -> _Edition:
    edition = _Edition(rows, extra, offered, since)
    for row in rows:
        group = f"apis/{row.group}/{row.version}" if row.group else f"api/{row.version}"
        edition.groups.setdefault(group, []).append(row)
    index = {}
    for group, own in edition.groups.items():
        # A document depends on the rows, the schemas and this program: together they name it.
        stamp = _stamp([(r, extra.get(r.definition)) for r in own])
        edition.stamps[f"{V3}/{group}"] = stamp
        index[group] = {"serverRelativeURL": f"{V3}/{group}?hash={stamp}"}
    for (group, name), url in offered.openapi_v3.items():
        index[f"apis/{group}/{name}"] = {"serverRelativeURL": url}
    edition.index = orjson.dumps({"paths": index})
    edition.stamps[V2] = _stamp([sorted(edition.stamps.values()), sorted(offered.openapi_v2.items())])
    return edition


def _stamp(described: Any) -> str:
    return hashlib.sha512(f"{version.GIT_VERSION} {described}".encode()).hexdigest().upper()


def _render(edition: _Edition, path: str, as_protobuf: bool) -> bytes:
    known = edition.built.get((path, False))
    if known is None:
        known = orjson.dumps(_document(edition, path))
        if as_protobuf:
            edition.built[path, False] = known
    return gnostic.encode(orjson.loads(known), 2 if path == V2 else 3) if as_protobuf else known


def _document(edition: _Edition, path: str) -> dict[str, Any]:
    if path == V2:
        whole = documents.swagger(edition.rows, edition.extra)
        merge.merge(whole, edition.offered.openapi_v2.values())
        return whole
    return documents.group_version(edition.groups[path.removeprefix(V3 + "/")], edition.extra)


def _choose(accept: str, number: int) -> str | None:
    """The media type of the answer, by weight and then by the client's order; None: nothing fits."""
    old, new = _PROTOBUF[number]
    offers = {_JSON: _JSON, "*/*": _JSON, "application/*": _JSON, old: new, new: new}
    best, most = None, 0.0
    for part in accept.split(","):
        media, *parameters = (p.strip().lower() for p in part.split(";"))
        weight = _weight(parameters)
        if media in offers and weight > most:
            best, most = offers[media], weight
    return best if accept.strip() else _JSON


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _changed(edition: _Edition) -> tuple[str, str]:
    return ("Last-Modified", email.utils.format_datetime(edition.since.astimezone(datetime.UTC), usegmt=True))


def _answer(request: Request, body: bytes, media: str, headers: tuple[tuple[str, str], ...]) -> Response:
    """The document, unless the client has what it was at that time."""
    if "if-modified-since" in request.headers and "if-none-match" not in request.headers:
        try:
            had = email.utils.parsedate_to_datetime(request.headers["if-modified-since"])
            told = email.utils.parsedate_to_datetime(dict(headers)["Last-Modified"])
            if had.tzinfo is not None and told <= had:
                return Response(304, headers=tuple(h for h in headers if h[0] != "Last-Modified"))
        except ValueError:
            pass
    return Response(body=body, content_type=media, headers=headers)


def openapi_of(registry: Registry, clock: Clock, offered: Callable[[], Offered] = Offered) -> OpenApi:
    return OpenApi(
        lambda: rows_of(registry),
        clock,
        lambda: registry.custom_schemas(),  # noqa: PLW0108  # set later
        offered,
    )


def paths(openapi: OpenApi) -> dict[str, PathHandler]:
    """The paths known at start; those of custom resources come and go below `prefixes`."""
    return dict.fromkeys(openapi.known_paths(), openapi)


def prefixes(openapi: OpenApi) -> list[tuple[str, PathHandler]]:
    """Where documents may appear that `paths` does not know yet."""
    return [(V3 + "/", openapi), (V2 + "/", openapi)]
