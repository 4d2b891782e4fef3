"""What servers behind APIServices offer, as parts of the merged discovery documents. Pure.

Filled by reconcile with what they answered, read by apiserver/discovery. One that cannot be asked is told as stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from kybern.apiserver.aggregator.remote import GroupVersion

Document = dict[str, Any]
ACCEPT_AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
)


@dataclass(frozen=True, slots=True)
class Offered:
    """What other servers serve, and how groups are ordered. Replaced as a whole, never changed."""

    order: tuple[tuple[str, tuple[str, ...]], ...] = ()
    remotes: frozenset[GroupVersion] = frozenset()
    # The resources of a group-version as the aggregated document has them; those that lack are stale.
    versions: dict[GroupVersion, Document] = field(default_factory=dict)
    # Where their OpenAPI v3 documents are, and what their v2 documents say of their paths (openapi/merge.part_of).
    openapi_v3: dict[GroupVersion, str] = field(default_factory=dict)
    openapi_v2: dict[GroupVersion, Document] = field(default_factory=dict)


def stale(version: str) -> Document:
    return {"version": version, "freshness": "Stale"}


def read_aggregated(body: bytes, group_version: GroupVersion) -> Document | None:
    """One version out of an APIGroupDiscoveryList. Raises ValueError for what is none."""
    document = msgspec.json.decode(body)
    if not isinstance(document, dict) or document.get("kind") != "APIGroupDiscoveryList":
        raise ValueError("not an APIGroupDiscoveryList")
    group, version = group_version
    for item in document.get("items") or ():
        if item.get("metadata", {}).get("name", "") == group:
            for known in item.get("versions") or ():
                if known.get("version") == version:
                    return {**known, "freshness": known.get("freshness") or "Current"}
    return None


def read_legacy(body: bytes, group_version: GroupVersion) -> Document:
    """The same out of an APIResourceList. Raises ValueError."""
    document = msgspec.json.decode(body)
    if not isinstance(document, dict) or document.get("kind") != "APIResourceList":
        raise ValueError("not an APIResourceList")
    found: dict[str, Document] = {}
    parts: list[tuple[str, str, Document]] = []
    for row in document.get("resources") or ():
        name, _, subresource = str(row["name"]).partition("/")
        if subresource:
            parts.append((name, subresource, row))
            continue
        found[name] = {
            "resource": name,
            "responseKind": _kind(row),
            "scope": "Namespaced" if row.get("namespaced") else "Cluster",
            "singularResource": row.get("singularName", ""),
            "verbs": row.get("verbs") or [],
        }
        for key in ("shortNames", "categories"):
            if row.get(key):
                found[name][key] = row[key]
    for name, subresource, row in parts:
        owner = found.setdefault(
            name,
            {"resource": name, "scope": "Namespaced" if row.get("namespaced") else "Cluster", "singularResource": "",
             "verbs": []},
        )  # fmt: skip
        told = {"subresource": subresource, "responseKind": _kind(row), "verbs": row.get("verbs") or []}
        owner.setdefault("subresources", []).append(told)
    return {"version": group_version[1], "resources": list(found.values()), "freshness": "Current"}


def read_openapi_index(body: bytes, group_version: GroupVersion) -> str:
    """Where the OpenAPI v3 document of a group-version is, with its hash; "" where there is none. Raises ValueError."""
    document = msgspec.json.decode(body)
    if not isinstance(document, dict):
        raise ValueError("not an index of OpenAPI documents")
    found = document.get("paths", {}).get("apis/{}/{}".format(*group_version), {}).get("serverRelativeURL", "")
    return found if isinstance(found, str) and found.startswith("/openapi/v3/") else ""


def _kind(row: Document) -> Document:
    return {"group": row.get("group", ""), "version": row.get("version", ""), "kind": row.get("kind", "")}
