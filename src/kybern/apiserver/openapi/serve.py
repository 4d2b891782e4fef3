"""Serve the OpenAPI documents: /openapi/v3 (index and one document a group-version) and /openapi/v2.

Documents are built when first asked for and kept as bytes; a hash in their address lets clients keep them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import orjson

from kybern.api.resource import Resource
from kybern.apiserver import version
from kybern.apiserver.discovery.serve import rows_of
from kybern.apiserver.openapi import documents
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery.status import ApiError

PathHandler = Callable[[Request], Answer | Awaitable[Answer]]


class Document:
    """One document, built once."""

    def __init__(self, build: Callable[[], bytes]) -> None:
        self._build = build
        self._body = b""
        self._tag = ""

    def __call__(self, request: Request) -> Answer:
        accept = request.headers.get("accept", "")
        if accept and not any(t in accept for t in ("application/json", "*/*", "application/*")):
            raise ApiError.not_acceptable(("application/json",))
        if not self._body:
            self._body = self._build()
            self._tag = f'"{hashlib.sha512(self._body).hexdigest().upper()}"'
        headers = (("ETag", self._tag), ("Vary", "Accept"))
        if request.headers.get("if-none-match") == self._tag:
            return Response(status=304, headers=headers)
        return Response(body=self._body, headers=headers)


def paths(registry: Registry) -> dict[str, PathHandler]:
    """Every OpenAPI path."""
    handlers: dict[str, PathHandler] = {}
    index = {}
    groups: dict[tuple[str, str], list[Resource]] = {}
    for row in rows_of(registry):
        groups.setdefault((row.group, row.version), []).append(row)
    for (group, group_version), rows in groups.items():
        path = f"apis/{group}/{group_version}" if group else f"api/{group_version}"
        # The document depends on the table and the schema package only, so their version names it.
        stamp = hashlib.sha256(f"{version.GIT_VERSION} {path} {[r.plural for r in rows]}".encode()).hexdigest().upper()
        index[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={stamp}"}
        handlers[f"/openapi/v3/{path}"] = Document(lambda rows=rows: orjson.dumps(documents.group_version(rows)))  # type: ignore[misc]
    body = orjson.dumps({"paths": index})
    handlers["/openapi/v3"] = lambda _: Response(body=body)
    every: list[Resource] = [row for rows in groups.values() for row in rows]
    handlers["/openapi/v2"] = Document(lambda: orjson.dumps(documents.swagger(every)))
    return handlers
