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
_PROTOBUF = "application/vnd.kubernetes.protobuf"
# What a success is answered with.
_CODES = {"post": ("200", "201", "202"), "put": ("200", "201"), "patch": ("200", "201"), "delete": ("200", "202")}
_SAID = {"200": "OK", "201": "Created", "202": "Accepted"}
INFO = {"title": "Kubernetes", "version": "v1.36.0"}

_STRING, _INTEGER, _BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_WRITE = (
    ("pretty", _STRING),
    ("dryRun", _STRING),
    ("fieldManager", _STRING),
    ("fieldValidation", _STRING),
)
_PATCH = (*_WRITE, ("force", _BOOLEAN))
_READ = (("pretty", _STRING),)
_LIST = (
    ("pretty", _STRING),
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
_LIST_OF_DELETED = tuple(each for each in _LIST if each[0] not in ("allowWatchBookmarks", "watch", "pretty"))
_DELETE = (
    ("pretty", _STRING),
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
        result |= _watches(writer, resource, root)
        collection = writer.operations(_COLLECTION, resource.verbs)
        if collection:
            result[scoped] = collection | writer.parameters(namespaced=resource.namespaced)
        if resource.namespaced and "list" in resource.verbs:
            every = writer.operations((("get", "list"),), resource.verbs, everywhere=True)
            result[f"{root}/{resource.plural}"] = every
        single = writer.operations(_OBJECT, resource.verbs)
        if single:
            result[f"{scoped}/{{name}}"] = single | writer.parameters(namespaced=resource.namespaced, named=True)
        for sub in resource.subresources:
            inner = writer.operations((*_OBJECT, ("post", "create")), sub.verbs, sub.name)
            if inner:
                parameters = writer.parameters(namespaced=resource.namespaced, named=True)
                result[f"{scoped}/{{name}}/{sub.name}"] = inner | parameters
    for item in result.values():
        _share_parameters(item)
    return dict(sorted(result.items()))


def _share_parameters(item: dict[str, Any]) -> None:
    """What all operations of a path take is said once, of the path."""
    operations = [inner for key, inner in item.items() if key != "parameters"]
    shared = [each for each in operations[0].get("parameters", ()) if each["in"] == "query"]
    for operation in operations[1:]:
        own = operation.get("parameters", ())
        shared = [each for each in shared if each in own]
    if not shared:
        return
    for operation in operations:
        rest = [each for each in operation["parameters"] if each not in shared]
        if rest:
            operation["parameters"] = rest
        else:
            del operation["parameters"]
    item["parameters"] = [*item.get("parameters", ()), *shared]


def _watches(writer: _Operations, resource: Resource, root: str) -> dict[str, Any]:
    """The old paths of watches, which lists with `watch` have taken the place of."""
    if "watch" not in resource.verbs:
        return {}
    place = "namespaces/{namespace}/" if resource.namespaced else ""
    scoped, named = f"{root}/watch/{place}{resource.plural}", resource.namespaced
    found = {
        scoped: {"get": writer.watch("List")} | writer.parameters(namespaced=named),
        f"{scoped}/{{name}}": {"get": writer.watch("")} | writer.parameters(namespaced=named, named=True),
    }
    if resource.namespaced:
        found[f"{root}/watch/{resource.plural}"] = {"get": writer.watch("ListForAllNamespaces")}
    return found


# Verb -> what operations are called by.
_CALLED = {"get": "read", "update": "replace", "deletecollection": "delete"}


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
        self,
        methods: tuple[tuple[str, str], ...],
        verbs: tuple[str, ...],
        subresource: str = "",
        *,
        everywhere: bool = False,
    ) -> dict[str, Any]:
        return {
            method: self._operation(method, verb, subresource, everywhere) for method, verb in methods if verb in verbs
        }

    def watch(self, of_what: str) -> dict[str, Any]:
        """The operation of an old path; `of_what`: one object, or which list."""
        resource = self._resource
        scope = "Namespaced" if resource.namespaced and not of_what.endswith("AllNamespaces") else ""
        operation: dict[str, Any] = {
            "operationId": f"watch{self._group}{resource.version.title()}{scope}{resource.kind}{of_what}",
            "tags": [self._tag],
            "description": "deprecated: use the 'watch' parameter with a list operation instead",
            "x-kubernetes-action": "watchlist" if of_what else "watch",
            "x-kubernetes-group-version-kind": {
                "group": resource.group,
                "version": resource.version,
                "kind": resource.kind,
            },
            "parameters": [self._parameter(name, kind) for name, kind in _LIST],
        }
        self._describe_body(operation, "get", schemas.meta("WatchEvent"), streams=True)
        return operation

    @property
    def _group(self) -> str:
        """As operations are called by: RbacAuthorization."""
        words = self._resource.group.removesuffix(".k8s.io").split(".")
        return "".join(word[:1].upper() + word[1:] for word in words) or "Core"

    @property
    def _tag(self) -> str:
        return f"{self._group[:1].lower()}{self._group[1:]}_{self._resource.version}"

    def _called(self, method: str, verb: str, kind: str, subresource: str, everywhere: bool) -> str:
        """The name of an operation: readCoreV1NamespacedPodStatus."""
        resource = self._resource
        scope = "Namespaced" if resource.namespaced and not everywhere else ""
        if verb == "deletecollection":
            scope = f"Collection{scope}"
        action = _CALLED.get(verb, verb)
        before = f"{action}{self._group}{resource.version.title()}"
        if subresource in _CONNECTIONS:
            before = f"connect{self._group}{resource.version.title()}{method.title()}"
        # Upstream's spelling of each subresource is its path's, in words of a name.
        suffix = {"ephemeralcontainers": "Ephemeralcontainers"}.get(subresource, subresource.title())
        return f"{before}{scope}{kind}{suffix}{'ForAllNamespaces' if everywhere else ''}"

    def _operation(self, method: str, verb: str, subresource: str, everywhere: bool) -> dict[str, Any]:
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
        query = _LIST if verb == "list" else _QUERIES.get(method, _READ)
        if verb == "deletecollection":
            query = (*_LIST_OF_DELETED, *_DELETE)
        operation: dict[str, Any] = {
            "operationId": self._called(method, verb, kind, subresource, everywhere),
            "tags": [self._tag],
            "x-kubernetes-action": "connect" if subresource in _CONNECTIONS else _ACTIONS.get(verb, verb),
            "x-kubernetes-group-version-kind": gvk,
            "parameters": [self._parameter(name, kind_) for name, kind_ in query],
        }
        self._describe_body(operation, method, definition, streams=verb == "list")
        if not operation["parameters"]:
            del operation["parameters"]
        return operation

    def _parameter(self, name: str, kind: dict[str, Any]) -> dict[str, Any]:
        if self._version == 2:
            return {"name": name, "in": "query", "uniqueItems": True, **kind}
        return {"name": name, "in": "query", "schema": {**kind, "uniqueItems": True}}

    def _describe_body(self, operation: dict[str, Any], method: str, definition: str, *, streams: bool = False) -> None:
        """What is sent and answered. `streams`: a watch may be asked for as well."""
        if self._version == 2:
            operation["schemes"] = ["https"]
        if not definition:
            operation["responses"] = {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}}
            return
        answer = schemas.meta("Status") if method == "delete" else definition
        given = schemas.meta("DeleteOptions") if method == "delete" else definition
        types: tuple[str, ...] = ("*/*",)
        if method == "patch":
            given, types = schemas.meta("Patch"), _PATCH_TYPES
        is_custom = not self._resource.module
        produced: tuple[str, ...] = _JSON_TYPES if is_custom else (*_JSON_TYPES, _PROTOBUF)
        if streams:
            produced += tuple(f"{media};stream=watch" for media in produced if media != "application/yaml")
        reply = {"$ref": self._prefix + answer}
        sent = {"$ref": self._prefix + given}
        is_collection = operation["x-kubernetes-action"] == "deletecollection"
        codes = ("200",) if is_collection else _CODES.get(method, ("200",))
        unauthorized = {"401": {"description": "Unauthorized"}}
        if self._version == 2:
            operation["consumes"] = list(types)
            operation["produces"] = list(produced)
            told: dict[str, Any] = {c: {"description": _SAID[c], "schema": reply} for c in codes}
            operation["responses"] = told | unauthorized
            if method != "get":
                needed = {} if method == "delete" else {"required": True}
                operation["parameters"].append({"name": "body", "in": "body", **needed, "schema": sent})
            return
        content = {media: {"schema": reply} for media in produced}
        operation["responses"] = {c: {"description": _SAID[c], "content": content} for c in codes} | unauthorized
        if method != "get":
            operation["requestBody"] = {"content": {media: {"schema": sent} for media in types}}
            if method != "delete":
                operation["requestBody"]["required"] = True
