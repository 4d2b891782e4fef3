"""The discovery documents: which groups, versions and resources this server has.

Built from the registry's table, kept as bytes; served by paths. Compared with a kube-apiserver's documents by a test.
Source: "API discovery" in the Kubernetes API concepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from kybern.api.resource import Resource, Subresource
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.request import Answer, Request, Response
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

PathHandler = Callable[[Request], Answer | Awaitable[Answer]]
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


def served_resources(registry: Registry) -> dict[tuple[str, str], list[Resource]]:
    """Resources of each enabled group-version, in the order of the table."""
    found: dict[tuple[str, str], list[Resource]] = {}
    for resource in scheme.RESOURCES:
        if registry.is_enabled(resource.group, resource.version):
            found.setdefault((resource.group, resource.version), []).append(resource)
    return found


def paths(registry: Registry) -> dict[str, PathHandler]:
    """Every discovery path with its document."""
    resources = served_resources(registry)
    groups = [
        (group, [v for v in versions if (group, v) in resources])
        for group, versions in scheme.GROUPS
        if any((group, v) in resources for v in versions)
    ]
    named = [(g, v) for g, v in groups if g]
    handlers: dict[str, PathHandler] = {}
    for (group, version), rows in resources.items():
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        handlers[path] = _fixed(resource_list(group, version, rows))
    for group, versions in named:
        handlers[f"/apis/{group}"] = _fixed({"kind": "APIGroup", "apiVersion": "v1", **group_document(group, versions)})
    core = {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    }
    group_list = {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [group_document(group, versions) for group, versions in named],
    }
    handlers["/api"] = _negotiated(core, [aggregated_group("", ["v1"], resources)])
    handlers["/apis"] = _negotiated(group_list, [aggregated_group(g, v, resources) for g, v in named])
    return handlers


def resource_list(group: str, version: str, rows: list[Resource]) -> dict[str, Any]:
    """The APIResourceList of one group-version."""
    resources: list[dict[str, Any]] = []
    for row in rows:
        resources.append(_resource(row))
        resources.extend(_subresource(row, sub) for sub in row.subresources)
    resources.sort(key=lambda r: r["name"])
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def _resource(row: Resource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        document["shortNames"] = list(row.short_names)
    if row.categories:
        document["categories"] = list(row.categories)
    if row.storage_version_hash:
        document["storageVersionHash"] = row.storage_version_hash
    return document


def _subresource(row: Resource, sub: Subresource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": f"{row.plural}/{sub.name}",
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    if (sub.group, sub.version) != (row.group, row.version):
        document["group"] = sub.group
        document["version"] = sub.version
    return document


def group_document(group: str, versions: list[str]) -> dict[str, Any]:
    """One APIGroup, the preferred version first."""
    offered = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {"name": group, "versions": offered, "preferredVersion": offered[0]}


def aggregated_group(
    group: str, versions: list[str], resources: dict[tuple[str, str], list[Resource]]
) -> dict[str, Any]:
    """One APIGroupDiscovery."""
    return {
        "metadata": {"name": group} if group else {},
        "versions": [
            {
                "version": version,
                "resources": [_aggregated_resource(row) for row in sorted(resources[(group, version)], key=_plural)],
                "freshness": "Current",
            }
            for version in versions
        ],
    }


def _plural(row: Resource) -> str:
    return row.plural


def _aggregated_resource(row: Resource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        document["shortNames"] = list(row.short_names)
    if row.categories:
        document["categories"] = list(row.categories)
    if row.subresources:
        document["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": list(sub.verbs),
            }
            for sub in row.subresources
        ]
    return document


def _fixed(document: dict[str, Any]) -> PathHandler:
    body = orjson.dumps(document)
    return lambda _: Response(body=body)


def _negotiated(document: dict[str, Any], items: list[dict[str, Any]]) -> PathHandler:
    """The plain document, or the aggregated list for clients that accept it (kubectl, client-go)."""
    plain = orjson.dumps(document)
    lists = {
        version: orjson.dumps(
            {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": f"apidiscovery.k8s.io/{version}",
                "metadata": {},
                "items": items,
            }
        )
        for version in ("v2", "v2beta1")
    }
    tags = {version: f'"{hashlib.sha512(body).hexdigest().upper()}"' for version, body in lists.items()}

    def answer(request: Request) -> Answer:
        version = _aggregated_version(request.headers.get("accept", ""))
        if not version:
            return Response(body=plain, headers=(("Vary", "Accept"),))
        headers = (("Vary", "Accept"), ("ETag", tags[version]))
        if request.headers.get("if-none-match") == tags[version]:
            return Response(status=304, headers=headers)
        return Response(body=lists[version], content_type=_AGGREGATED.format(version), headers=headers)

    return answer


def _aggregated_version(accept: str) -> str:
    """v2 or v2beta1, whichever is wished first before plain JSON; "" for plain. Raises ApiError 406."""
    for part in accept.split(","):
        media, *rest = (p.strip() for p in part.split(";"))
        parameters = dict(p.split("=", 1) for p in rest if "=" in p)
        if media == "application/json" and parameters.get("as") == "APIGroupDiscoveryList":
            if parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
        elif media in ("application/json", "*/*", "application/*", ""):
            return ""
    if not accept.strip():
        return ""
    raise ApiError.not_acceptable(("application/json",))
