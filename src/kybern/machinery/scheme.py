"""Which kinds exist and where they are served: look-ups over the generated table of resources.

Fed by api/resources. Read by the API server (routes, discovery) and by client/rest (paths of kinds).
Struct modules are imported on first use, so that a short-lived command pays only for what it touches.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, cast

import msgspec

from kybern.api.resource import Resource
from kybern.api.resources import GROUPS, RESOURCES

__all__ = ["GROUPS", "RESOURCES", "kind_of", "list_kind_of", "resource_for", "resource_of", "struct_of"]

_BY_PLURAL = {(r.group, r.version, r.plural): r for r in RESOURCES}
_BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}

# Kinds that are bodies of requests and never resources, by (apiVersion, kind).
_BODIES = {
    ("v1", "PodExecOptions"): "",
    ("autoscaling/v1", "Scale"): "autoscaling_v1",
    ("policy/v1", "Eviction"): "policy_v1",
    ("authentication.k8s.io/v1", "TokenRequest"): "authentication_v1",
}


def resource_for(group: str, version: str, plural: str) -> Resource | None:
    """The resource served at /apis/{group}/{version}/{plural}, if any."""
    return _BY_PLURAL.get((group, version, plural))


def kind_of(api_version: str, kind: str) -> Resource | None:
    """The resource whose objects carry this apiVersion and kind, if any."""
    return _BY_KIND.get((api_version, kind))


@functools.cache
def struct_of(api_version: str, kind: str) -> type[msgspec.Struct] | None:
    """The Struct of any built-in kind, resource or request body."""
    resource = _BY_KIND.get((api_version, kind))
    module = resource.module if resource else _BODIES.get((api_version, kind), "")
    if not module:
        return None
    return cast("type[msgspec.Struct]", getattr(importlib.import_module(f"kybern.api.{module}"), kind))


@functools.lru_cache(maxsize=1024)  # custom kinds come and go
def list_kind_of(resource: Resource) -> str:
    """`PodList` for pods."""
    return resource.list_kind or resource.kind + "List"


@functools.cache
def resource_of(struct: type[Any]) -> Resource:
    """The resource of a Struct class. Raises KeyError for a Struct that is no resource."""
    empty = struct()
    return _BY_KIND[(empty.apiVersion, empty.kind)]
