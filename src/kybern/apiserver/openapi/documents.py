"""OpenAPI v2 and v3 documents of the group-versions served. Built on first request, kept as bytes by serve.

Paths carry what clients look up: the kind of each operation, and the parameters that tell which options the server
knows (kubectl asks here for fieldValidation and dryRun). Texts come from the schema package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kybern.api.resource import Resource
from kybern.apiserver.openapi import schemas

_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_JSON_TYPES = ("application/json", "application/yaml")
INFO = {"title": "Kubernetes", "version": "v1.36.0"}

_STRING, _INTEGER, _BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_WRITE = (
    ("pretty", _STRING),
    ("dryRun", _STRING),
    ("fieldManager", _STRING),
    ("fieldValidation", _STRING),
)
_PATCH = (*_WRITE, ("force", _BOOLEAN))
_LIST = (
    ("allowWatchBookmarks", _BOOLEAN),
    ("continue", _STRING),
    ("fieldSelector", _STRING),
    ("labelSelector", _STRING),
    ("limit", _INTEGER),
    ("resourceVersion", _STRING),
    ("resourceVersionMatch", _STRING),
    ("sendInitialEvents", _BOOLEAN),
    ("timeoutSeconds", _INTEGER),
    ("watch", _BOOLEAN),
)
_DELETE = (
    ("dryRun", _STRING),
    ("gracePeriodSeconds", _INTEGER),
    ("orphanDependents", _BOOLEAN),
    ("propagationPolicy", _STRING),
)
_QUERIES = {"post": _WRITE, "put": _WRITE, "patch": _PATCH, "delete": _DELETE}
# HTTP method -> (verbs that stand for it, action in x-kubernetes-action)
_COLLECTION = (("get", "list"), ("post", "create"), ("delete", "deletecollection"))
_OBJECT = (("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete"))
# Subresources that are a way to something else.
_CONNECTIONS = frozenset({"attach", "exec", "portforward", "proxy"})
_ACTIONS = {"create": "post", "update": "put"}


# Kinds that are bodies of subresources, by (group, version, kind).
_BODIES = {
    ("autoscaling", "v1", "Scale"): "io.k8s.api.autoscaling.v1.Scale",
    ("policy", "v1", "Eviction"): "io.k8s.api.policy.v1.Eviction",
    ("authentication.k8s.io", "v1", "TokenRequest"): "io.k8s.api.authentication.v1.TokenRequest",
    ("", "v1", "Binding"): "io.k8s.api.core.v1.Binding",
}
_SHARED = ("Status", "DeleteOptions", "APIResourceList", "Patch", "WatchEvent")
_TOKEN = {
    "type": "apiKey",
    "description": "Bearer Token authentication",
    "name": "authorization",
    "in": "header",
}


def _definitions(resources: Sequence[Resource], extra: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    names = [schemas.meta(name) for name in _SHARED]
    for resource in resources:
        if resource.definition:
            names += [resource.definition, resource.definition + "List"]
        names += [_BODIES[key] for s in resource.subresources if (key := (s.group, s.version, s.kind)) in _BODIES]
    found = schemas.closure(names, extra)
    return {name: schemas.normalise(definition, prefix) for name, definition in sorted(found.items())}


def group_version(resources: Sequence[Resource], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The v3 document of one group-version. `extra`: definitions of custom resources, by name."""
    prefix = "#/components/schemas/"
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": paths(resources, prefix, version=3),
        "components": {
            "schemas": _definitions(resources, extra, prefix),
            "securitySchemes": {"BearerToken": _TOKEN},
        },
    }


def swagger(resources: Sequence[Resource], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The v2 document of everything."""
    extra = {name: schemas.version_2(definition) for name, definition in extra.items()}
    prefix = "#/definitions/"
    return {
        "swagger": "2.0",
        "info": INFO,
        "paths": paths(resources, prefix, version=2),
        "definitions": _definitions(resources, extra, prefix),
        "securityDefinitions": {"BearerToken": _TOKEN},
        "security": [{"BearerToken": []}],
    }


def paths(resources: Sequence[Resource], prefix: str, *, version: int) -> dict[str, Any]:
    """Every path of the resources with its operations."""
    result: dict[str, Any] = {}
    for resource in resources:
        if not resource.definition:
            continue
        root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        scoped = (
            f"{root}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"
        )
        writer = _Operations(resource, prefix, version)
        collection = writer.operations(_COLLECTION, resource.verbs)
        if collection:
            result[scoped] = collection | writer.parameters(namespaced=resource.namespaced)
        if resource.namespaced and "list" in resource.verbs:
            every = writer.operations((("get", "list"),), resource.verbs)
            result[f"{root}/{resource.plural}"] = every
        single = writer.operations(_OBJECT, resource.verbs)
        if single:
            result[f"{scoped}/{{name}}"] = single | writer.parameters(namespaced=resource.namespaced, named=True)
        for sub in resource.subresources:
            inner = writer.operations((*_OBJECT, ("post", "create")), sub.verbs, sub.name)
            if inner:
                parameters = writer.parameters(namespaced=resource.namespaced, named=True)
                result[f"{scoped}/{{name}}/{sub.name}"] = inner | parameters
    return dict(sorted(result.items()))


class _Operations:
    """Operations of one resource in the dialect of one OpenAPI version."""

    def __init__(self, resource: Resource, prefix: str, version: int) -> None:
        self._resource = resource
        self._prefix = prefix
        self._version = version

    def parameters(self, *, namespaced: bool = False, named: bool = False) -> dict[str, Any]:
        """Those of a path. No empty list: clients that read a document and write it again would lose it."""
        found = []
        for name, present in (("name", named), ("namespace", namespaced)):
            if present:
                found.append({**self._parameter(name, _STRING), "in": "path", "required": True})
        return {"parameters": found} if found else {}

    def operations(
        self, methods: tuple[tuple[str, str], ...], verbs: tuple[str, ...], subresource: str = ""
    ) -> dict[str, Any]:
        return {method: self._operation(method, verb, subresource) for method, verb in methods if verb in verbs}

    def _operation(self, method: str, verb: str, subresource: str) -> dict[str, Any]:
        resource = self._resource
        kind = resource.kind
        sub = next((s for s in resource.subresources if s.name == subresource), None)
        gvk = {"group": resource.group, "version": resource.version, "kind": kind}
        definition = resource.definition
        if sub is not None and sub.kind != kind:
            gvk = {"group": sub.group, "version": sub.version, "kind": sub.kind}
            definition = _BODIES.get((sub.group, sub.version, sub.kind), "")
        if verb == "list":
            definition += "List"
        query = _LIST if verb == "list" else _QUERIES.get(method, ())
        group = resource.group.title().replace(".", "")
        identity = f"{_ACTIONS.get(verb, verb)}{group}{resource.version}{kind}{subresource.title()}"
        operation: dict[str, Any] = {
            "operationId": identity,
            "tags": [resource.api_version.replace("/", "_").replace(".", "_")],
            "x-kubernetes-action": "connect" if subresource in _CONNECTIONS else _ACTIONS.get(verb, verb),
            "x-kubernetes-group-version-kind": gvk,
            "parameters": [self._parameter(name, kind_) for name, kind_ in query],
        }
        self._describe_body(operation, method, definition)
        if not operation["parameters"]:
            del operation["parameters"]
        return operation

    def _parameter(self, name: str, kind: dict[str, Any]) -> dict[str, Any]:
        if self._version == 2:
            return {"name": name, "in": "query", "uniqueItems": True, **kind}
        return {"name": name, "in": "query", "schema": {**kind, "uniqueItems": True}}

    def _describe_body(self, operation: dict[str, Any], method: str, definition: str) -> None:
        if not definition:
            operation["responses"] = {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}}
            return
        answer = schemas.meta("Status") if method == "delete" else definition
        given = schemas.meta("DeleteOptions") if method == "delete" else definition
        if method == "patch":
            given = schemas.meta("Patch")
        types = _PATCH_TYPES if method == "patch" else _JSON_TYPES
        reply = {"$ref": self._prefix + answer}
        sent = {"$ref": self._prefix + given}
        code = "201" if method == "post" else "200"
        if self._version == 2:
            operation["consumes"] = list(types)
            operation["produces"] = list(_JSON_TYPES)
            operation["responses"] = {
                code: {"description": "OK", "schema": reply},
                "401": {"description": "Unauthorized"},
            }
            if method != "get":
                operation["parameters"].append({"name": "body", "in": "body", "schema": sent})
            return
        content = {media: {"schema": reply} for media in _JSON_TYPES}
        operation["responses"] = {
            code: {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        }
        if method != "get":
            operation["requestBody"] = {"content": {media: {"schema": sent} for media in types}}
