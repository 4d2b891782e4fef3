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


async def discover(client: RestClient) -> Discovery:
    """Ask the server. Raises ApiError if even the list of groups cannot be had."""
    rows: list[Resource] = []
    stale: list[str] = []
    for path in ("/api", "/apis"):
        answer = await client.request("GET", path, headers={"accept": _AGGREGATED})
        try:
            document = _decoder.decode(answer.body)
        except msgspec.DecodeError as error:
            raise ApiError.internal(f"cannot decode what the server sent for {path}: {error}") from error
        if document.kind != "APIGroupDiscoveryList":
            await _ask_each(client, path, answer.json(), rows, stale)
            continue
        for group in document.items:
            for version in group.versions:
                if version.freshness != "Current":
                    stale.append(f"{group.metadata.name}/{version.version}")
                rows.extend(_resource(group.metadata.name, version.version, row) for row in version.resources)
    return Discovery(tuple(rows), tuple(stale))


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
