"""What OpenAPI documents say of custom resources: a definition each of the kind and of its list.

Made by serving whenever definitions change, read by openapi. Source: the documents of a v1.36 API server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kybern.apiserver.custom_resources import prune
from kybern.apiserver.custom_resources.version import Version
from kybern.pausing import pausing

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


_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_EMBEDDED = {
    "apiVersion": {
        "type": "string",
        "description": "apiVersion defines the versioned schema of this representation of an object. More info: "
        f"{_CONVENTIONS}#resources",
    },
    "kind": {
        "type": "string",
        "description": "kind is a string value representing the type of this object. In CamelCase. More info: "
        f"{_CONVENTIONS}#types-kinds",
    },
}


def definitions(versions: Iterable[Version]) -> Mapping[str, Any]:
    """Definitions by name, in the spelling of the schema package ("#/$defs/")."""
    found: dict[str, Any] = {}
    for version in versions:
        name = version.resource.definition
        found[name] = _of_kind(version)
        found[f"{name}List"] = _of_list(version)
    return found


def _of_kind(version: Version) -> dict[str, Any]:
    schema = _published(version.schema)
    resource = version.resource
    made: dict[str, Any] = {**schema, "properties": {**schema.get("properties", {}), **_root(_METADATA)}}
    return made | _extensions(version, resource.kind)


def _root(metadata: str) -> dict[str, Any]:
    return {
        "apiVersion": {"type": "string", "description": _API_VERSION},
        "kind": {"type": "string", "description": _KIND},
        "metadata": {"description": metadata, "$ref": f"#/$defs/{_META}ObjectMeta"},
    }


def _extensions(version: Version, kind: str) -> dict[str, Any]:
    resource = version.resource
    gvk = [{"group": resource.group, "version": resource.version, "kind": kind}]
    found: dict[str, Any] = {"x-kubernetes-group-version-kind": gvk}
    if version.selectable:
        found["x-kubernetes-selectable-fields"] = [{"fieldPath": name} for name in version.selectable]
    return found


def _published(value: Any) -> Any:
    """A copy of a schema as documents tell it: whole numbers, and what embedded resources have anyway."""
    if isinstance(value, list):
        return [_published(inner) for inner in pausing(value)]
    if not isinstance(value, Mapping):
        return prune.number(value) if type(value) is float else value
    made = {name: _published(inner) for name, inner in pausing(value.items())}
    if made.get("x-kubernetes-embedded-resource") is True:
        made["properties"] = {**(made.get("properties") or {}), **_root(_METADATA), **_EMBEDDED}
        made["required"] = [*(made.get("required") or ()), "kind", "apiVersion"]
    return made


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
        **_extensions(version, resource.list_kind),
    }
