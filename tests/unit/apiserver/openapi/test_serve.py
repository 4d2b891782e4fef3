"""OpenAPI documents: what kubectl and other clients look up in them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
from typing import Any

import pytest

from kybern.api.resource import Resource
from kybern.apiserver.openapi.serve import OpenApi
from kybern.apiserver.request import Request, Response
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

APPS = tuple(r for r in scheme.RESOURCES if r.group in ("apps", "autoscaling"))


def ask(openapi: OpenApi, path: str, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer() -> Any:
        found = openapi(Request("GET", path, path, {}, names))
        return await found if inspect.isawaitable(found) else found

    response: Response = asyncio.run(answer())
    return response


def document(openapi: OpenApi, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(openapi, path).body)
    return found


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(v) for v in node.values()), set())
    if isinstance(node, list):
        return set().union(*(references(v) for v in node), set())
    return set()


def test_the_index_names_a_document_for_every_group_version() -> None:
    openapi = OpenApi(lambda: APPS)
    index = document(openapi, "/openapi/v3")["paths"]
    assert set(index) == {"apis/apps/v1", "apis/autoscaling/v1", "apis/autoscaling/v2"}
    for entry in index.values():
        path, _, query = entry["serverRelativeURL"].partition("?hash=")
        assert query
        assert document(openapi, path)["openapi"] == "3.0.0"


def test_every_reference_leads_to_a_schema() -> None:
    openapi = OpenApi(lambda: scheme.RESOURCES)
    core = document(openapi, "/openapi/v3/api/v1")
    assert {r.removeprefix("#/components/schemas/") for r in references(core)} <= set(core["components"]["schemas"])
    whole = document(openapi, "/openapi/v2")
    assert {r.removeprefix("#/definitions/") for r in references(whole)} <= set(whole["definitions"])


def test_operations_tell_their_kind_and_the_options_of_the_server() -> None:
    paths = document(OpenApi(lambda: APPS), "/openapi/v3/apis/apps/v1")["paths"]
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    # kubectl looks here before it asks for --dry-run=server or --validate=strict.
    assert {"dryRun", "fieldValidation", "fieldManager"} <= {p["name"] for p in patch["parameters"]}
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"]
    assert scale["x-kubernetes-group-version-kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def test_ways_to_something_else_are_connections() -> None:
    pods = OpenApi(lambda: [r for r in scheme.RESOURCES if r.plural == "pods"])
    paths = document(pods, "/openapi/v3/api/v1")["paths"]
    assert paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]["x-kubernetes-action"] == "connect"


def test_schemas_have_single_types_and_texts() -> None:
    schemas = document(OpenApi(lambda: APPS), "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]
    assert spec["replicas"]["type"] == "integer"
    assert spec["replicas"]["format"] == "int32"
    assert spec["paused"]["description"]
    kinds = schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]
    assert {"group": "apps", "version": "v1", "kind": "Deployment"} in kinds
    either = schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert either["format"] == "int-or-string"
    assert [choice["type"] for choice in either["oneOf"]] == ["integer", "string"]
    old = document(OpenApi(lambda: APPS), "/openapi/v2")["definitions"][
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    ]
    assert old == {"type": "string", "format": "int-or-string"}


def test_an_unchanged_document_is_not_sent_again() -> None:
    openapi = OpenApi(lambda: APPS)
    first = ask(openapi, "/openapi/v3/apis/apps/v1")
    tag = dict(first.headers)["ETag"]
    assert ask(openapi, "/openapi/v3/apis/apps/v1", if_none_match=tag).status == 304
    assert ask(openapi, "/openapi/v3/apis/apps/v1", if_none_match='"other"').status == 200


def test_custom_resources_come_and_go() -> None:
    rows: list[Resource] = []
    schemas: dict[str, Any] = {}
    current = [schemas]
    openapi = OpenApi(lambda: rows, lambda: current[0])
    with pytest.raises(ApiError) as caught:
        ask(openapi, "/openapi/v3/apis/stable.example.com/v1")
    assert caught.value.code == 404
    rows.append(
        dataclasses.replace(
            APPS[0],
            group="stable.example.com",
            version="v1",
            plural="foos",
            kind="Foo",
            definition="com.example.stable.v1.Foo",
            subresources=(),
        )
    )
    current[0] = {"com.example.stable.v1.Foo": {"type": "object", "properties": {"size": {"type": "integer"}}}}
    found = document(openapi, "/openapi/v3/apis/stable.example.com/v1")
    assert found["components"]["schemas"]["com.example.stable.v1.Foo"]["properties"]["size"] == {"type": "integer"}
    assert "/apis/stable.example.com/v1/namespaces/{namespace}/foos" in found["paths"]
    rows.clear()
    with pytest.raises(ApiError):
        ask(openapi, "/openapi/v3/apis/stable.example.com/v1")


def test_only_json_can_be_had() -> None:
    with pytest.raises(ApiError) as caught:
        ask(OpenApi(lambda: APPS), "/openapi/v2", accept="application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
    assert caught.value.code == 406
