"""Which resources a server has, custom and aggregated ones too: as rows like those of the built-in table.

Reads aggregated discovery (two requests), or group by group where a server is older. Used by the namespace and
garbage collector controllers, which must reach objects of kinds they were not built for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api.resource import Resource, Subresource
from kybern.client.rest import RestClient
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found. `stale` names group-versions that could not be asked: their resources are not listed."""

    resources: tuple[Resource, ...]
    stale: tuple[str, ...] = ()

    def preferred(self) -> tuple[Resource, ...]:
        """Each resource once, in the version its group lists first."""
        chosen: dict[tuple[str, str], Resource] = {}
        for row in self.resources:
            chosen.setdefault((row.group, row.plural), row)
        return tuple(chosen.values())


@dataclass(frozen=True, slots=True)
class _Part:
    """What one of the two documents says."""

    rows: list[Resource]
    stale: list[str]


class _Kind(msgspec.Struct):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Sub(msgspec.Struct):
    subresource: str
    responseKind: _Kind | None = None
    verbs: list[str] = []


class _Row(msgspec.Struct):
    resource: str
    responseKind: _Kind | None = None
    scope: str = "Namespaced"
    singularResource: str = ""
    verbs: list[str] = []
    shortNames: list[str] = []
    categories: list[str] = []
    subresources: list[_Sub] = []


class _Version(msgspec.Struct):
    version: str
    resources: list[_Row] = []
    freshness: str = "Current"


class _Meta(msgspec.Struct):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    versions: list[_Version] = []


class _Groups(msgspec.Struct):
    kind: str = ""
    items: list[_Group] = []


_decoder = msgspec.json.Decoder(_Groups)


class Discoverer:
    """Asks again and again, and is told only what changed: documents come with an ETag."""

    def __init__(self, client: RestClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, _Part]] = {}  # path -> (ETag, what it said)

    async def discover(self) -> Discovery:
        """Raises ApiError if even the list of groups cannot be had."""
        parts = [await self._ask("/api"), await self._ask("/apis")]
        return Discovery(
            tuple(row for part in parts for row in part.rows), tuple(name for part in parts for name in part.stale)
        )

    async def _ask(self, path: str) -> _Part:
        etag, known = self._known.get(path, ("", None))
        headers = {"accept": _AGGREGATED} | ({"if-none-match": etag} if etag else {})
        answer = await self._client.request("GET", path, headers=headers)
        if answer.status == 304 and known is not None:
            return known
        try:
            document = _decoder.decode(answer.body)
        except msgspec.DecodeError as error:
            raise ApiError.internal(f"cannot decode what the server sent for {path}: {error}") from error
        part = _Part([], [])
        if document.kind != "APIGroupDiscoveryList":
            await _ask_each(self._client, path, answer.json(), part.rows, part.stale)
            return part
        for group in document.items:
            for version in group.versions:
                if version.freshness != "Current":
                    part.stale.append(f"{group.metadata.name}/{version.version}")
                part.rows.extend(_resource(group.metadata.name, version.version, row) for row in version.resources)
        self._known[path] = (answer.headers.get("etag", ""), part)
        return part


async def discover(client: RestClient) -> Discovery:
    """Ask the server once. Raises ApiError if even the list of groups cannot be had."""
    return await Discoverer(client).discover()


async def _ask_each(client: RestClient, path: str, document: Any, rows: list[Resource], stale: list[str]) -> None:
    """Discovery before aggregation: one document a group-version."""
    if path == "/api":
        versions = [("", version) for version in document.get("versions", [])]
    else:
        versions = [
            tuple(version["groupVersion"].split("/", 1))
            for group in document.get("groups", [])
            for version in _preferred_first(group)
        ]
    for group, version in versions:
        where = f"{path}/{group}/{version}" if group else f"{path}/{version}"
        try:
            found = (await client.request("GET", where)).json()
        except ApiError:
            stale.append(f"{group}/{version}")
            continue
        for row in found.get("resources", []):
            if "/" in row["name"]:
                continue
            rows.append(
                _known(group, version, row["name"])
                or Resource(
                    group=group,
                    version=version,
                    plural=row["name"],
                    singular=row.get("singularName", ""),
                    kind=row["kind"],
                    namespaced=row["namespaced"],
                    verbs=tuple(row.get("verbs", ())),
                )
            )


def _preferred_first(group: dict[str, Any]) -> list[dict[str, Any]]:
    preferred = group.get("preferredVersion")
    versions: list[dict[str, Any]] = group.get("versions", [])
    return sorted(versions, key=lambda version: version != preferred)


def _known(group: str, version: str, plural: str) -> Resource | None:
    return scheme.resource_for(group, version, plural)


def _resource(group: str, version: str, row: _Row) -> Resource:
    """The built-in row itself where there is one, so that typed informers of it are found."""
    known = _known(group, version, row.resource)
    if known is not None:
        return known
    kind = row.responseKind or _Kind()
    return Resource(
        group=group,
        version=version,
        plural=row.resource,
        singular=row.singularResource,
        kind=kind.kind,
        namespaced=row.scope == "Namespaced",
        verbs=tuple(row.verbs),
        short_names=tuple(row.shortNames),
        categories=tuple(row.categories),
        subresources=tuple(
            Subresource(s.subresource, (s.responseKind or _Kind()).kind, group, version, tuple(s.verbs))
            for s in row.subresources
        ),
    )
