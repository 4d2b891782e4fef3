"""The discovery documents, from rows of resources: which groups, versions, resources and verbs there are. Pure.

Read by serve. Groups, versions and resources keep the order they come in; a group's first version is preferred.
Source: "Discovery API" in the Kubernetes documentation; group and version order: what a v1.36 API server answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kybern.api.resource import Resource, Subresource

Document = dict[str, Any]
AGGREGATED_VERSION = "apidiscovery.k8s.io/v2"


def group_versions(
    resources: Iterable[Resource],
    order: Sequence[tuple[str, Sequence[str]]],
    remotes: Iterable[tuple[str, str]] = (),
) -> dict[str, list[str]]:
    """Group -> its versions that have resources, here or at other servers (`remotes`: group, version).

    `order` goes first (that of the APIServices, or scheme.GROUPS); what it lacks follows.
    """
    present: dict[str, list[str]] = {}
    for group, version in remotes:
        present.setdefault(group, []).append(version)
    for resource in resources:
        versions = present.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    ordered: dict[str, list[str]] = {}
    for group, versions_known in order:
        if group in present:
            known = [v for v in versions_known if v in present[group]]
            ordered[group] = known + [v for v in present[group] if v not in known]
    for group in sorted(present):
        ordered.setdefault(group, sorted(present[group], key=version_priority))
    return ordered


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key: v10 before v2 before v1 before v1beta2 before v1alpha1 before what is no version."""
    stage = 1 if "beta" in version else 2 if "alpha" in version else 0
    major, _, minor = version.removeprefix("v").replace("alpha", "beta").partition("beta")
    if not version.startswith("v") or not major.isdigit() or (stage and not minor.isdigit()):
        return 3, 0, 0, version
    return stage, -int(major), -int(minor or 0), version


def _group_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def legacy_versions(address: str) -> Document:
    """/api"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _group(group: str, versions: Sequence[str]) -> Document:
    items = [{"groupVersion": _group_version(group, v), "version": v} for v in versions]
    return {"name": group, "versions": items, "preferredVersion": items[0]}


def group_list(groups: dict[str, list[str]]) -> Document:
    """/apis"""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(group, versions) for group, versions in groups.items() if group],
    }


def group_document(group: str, versions: Sequence[str]) -> Document:
    """/apis/<group>"""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def resource_list(group: str, version: str, resources: Iterable[Resource]) -> Document:
    """/api/v1 and /apis/<group>/<version>"""
    document: Document = {"kind": "APIResourceList", "groupVersion": _group_version(group, version)}
    if group:
        document = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": _group_version(group, version)}
    rows: list[Document] = []
    for resource in resources:
        rows.append(_resource(resource))
        rows += [_subresource(resource, s) for s in resource.subresources]
    document["resources"] = sorted(rows, key=lambda row: str(row["name"]))
    return document


def _resource(resource: Resource) -> Document:
    row: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.storage_version_hash:
        row["storageVersionHash"] = resource.storage_version_hash
    return row


def _subresource(resource: Resource, subresource: Subresource) -> Document:
    row: Document = {
        "name": f"{resource.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if (subresource.group, subresource.version) != (resource.group, resource.version):
        row |= {"group": subresource.group, "version": subresource.version}
    return row | {"kind": subresource.kind, "verbs": list(subresource.verbs)}


def aggregated(
    groups: dict[str, list[str]],
    resources: Sequence[Resource],
    offered: Mapping[tuple[str, str], Document],
    *,
    legacy: bool,
) -> Document:
    """Everything in one document: /api (`legacy`: the core group) or /apis, for clients that ask for it.

    `offered` are the versions that other servers have, by group and version.
    """
    items: list[Document] = []
    for group, versions in groups.items():
        if bool(group) == legacy:
            continue
        described = [
            offered.get((group, v))
            or _aggregated_version(v, [r for r in resources if (r.group, r.version) == (group, v)])
            for v in versions
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": described})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": AGGREGATED_VERSION, "metadata": {}, "items": items}


def _aggregated_version(version: str, resources: Iterable[Resource]) -> Document:
    rows = [_aggregated_resource(r) for r in sorted(resources, key=lambda r: r.plural)]
    return {"version": version, "resources": rows, "freshness": "Current"}


def _aggregated_resource(resource: Resource) -> Document:
    row: Document = {
        "resource": resource.plural,
        "responseKind": _kind_of(resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.subresources:
        row["subresources"] = [
            {"subresource": s.name, "responseKind": _response_kind(resource, s), "verbs": list(s.verbs)}
            for s in sorted(resource.subresources, key=lambda s: s.name)
        ]
    return row


def _kind_of(resource: Resource) -> Document:
    """Of custom resources with all that belongs to it."""
    if resource.module:
        return {"group": "", "version": "", "kind": resource.kind}
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _response_kind(resource: Resource, subresource: Subresource) -> Document:
    """Group and version are left empty where they are the resource's own."""
    if (subresource.group, subresource.version) == (resource.group, resource.version):
        return {"group": "", "version": "", "kind": subresource.kind}
    return {"group": subresource.group, "version": subresource.version, "kind": subresource.kind}
