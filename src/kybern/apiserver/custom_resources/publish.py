"""What OpenAPI documents say of custom resources: a definition each of the kind and of its list.

Made by serving whenever definitions change, read by openapi. Source: the documents of a v1.36 API server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kybern.apiserver.custom_resources.version import Version

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_API_VERSION = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_METADATA = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_LIST_METADATA = (
    "Standard list metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)


def definitions(versions: Iterable[Version]) -> Mapping[str, Any]:
    """Definitions by name, in the spelling of the schema package ("#/$defs/")."""
    found: dict[str, Any] = {}
    for version in versions:
        name = version.resource.definition
        found[name] = _of_kind(version)
        found[f"{name}List"] = _of_list(version)
    return found


def _of_kind(version: Version) -> dict[str, Any]:
    schema = dict(version.schema)
    resource = version.resource
    gvk = [{"group": resource.group, "version": resource.version, "kind": resource.kind}]
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        # Clients must not refuse what the server keeps: nothing is told about the fields.
        return {"type": "object", "x-kubernetes-group-version-kind": gvk, "x-kubernetes-preserve-unknown-fields": True}
    properties = dict(schema.get("properties", {}))
    properties["apiVersion"] = {"type": "string", "description": _API_VERSION}
    properties["kind"] = {"type": "string", "description": _KIND}
    properties["metadata"] = {"description": _METADATA, "$ref": f"#/$defs/{_META}ObjectMeta"}
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": gvk}


def _of_list(version: Version) -> dict[str, Any]:
    resource = version.resource
    return {
        "description": f"{resource.kind}List is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": _API_VERSION},
            "items": {
                "description": f"List of {resource.plural}. More info: "
                "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
                "type": "array",
                "items": {"$ref": f"#/$defs/{resource.definition}"},
            },
            "kind": {"type": "string", "description": _KIND},
            "metadata": {"description": _LIST_METADATA, "$ref": f"#/$defs/{_META}ListMeta"},
        },
        "x-kubernetes-group-version-kind": [
            {"group": resource.group, "version": resource.version, "kind": resource.list_kind}
        ],
    }
