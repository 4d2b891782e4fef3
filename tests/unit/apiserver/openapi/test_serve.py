"""OpenAPI documents: what kubectl and other clients look up in them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
from typing import Any

from kybern.api.resource import Resource
from kybern.apiserver.openapi.serve import OpenApi
from kybern.apiserver.request import Request, Response
from kybern.machinery import scheme
from kybern.testing.clock import FakeClock

CLOCK = FakeClock()
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
    openapi = OpenApi(lambda: APPS, CLOCK)
    index = document(openapi, "/openapi/v3")["paths"]
    assert set(index) == {"apis/apps/v1", "apis/autoscaling/v1", "apis/autoscaling/v2"}
    for entry in index.values():
        path, _, query = entry["serverRelativeURL"].partition("?hash=")
        assert query
        assert document(openapi, path)["openapi"] == "3.0.0"


def test_every_reference_leads_to_a_schema() -> None:
    openapi = OpenApi(lambda: scheme.RESOURCES, CLOCK)
    core = document(openapi, "/openapi/v3/api/v1")
    assert {r.removeprefix("#/components/schemas/") for r in references(core)} <= set(core["components"]["schemas"])
    whole = document(openapi, "/openapi/v2")
    assert {r.removeprefix("#/definitions/") for r in references(whole)} <= set(whole["definitions"])


def test_operations_tell_their_kind_and_the_options_of_the_server() -> None:
    paths = document(OpenApi(lambda: APPS, CLOCK), "/openapi/v3/apis/apps/v1")["paths"]
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    # kubectl looks here before it asks for --dry-run=server or --validate=strict.
    assert {"dryRun", "fieldValidation", "fieldManager"} <= {p["name"] for p in patch["parameters"]}
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"]
    assert scale["x-kubernetes-group-version-kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def test_ways_to_something_else_are_connections() -> None:
    pods = OpenApi(lambda: [r for r in scheme.RESOURCES if r.plural == "pods"], CLOCK)
    paths = document(pods, "/openapi/v3/api/v1")["paths"]
    assert paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]["x-kubernetes-action"] == "connect"


def test_schemas_have_single_types_and_texts() -> None:
    schemas = document(OpenApi(lambda: APPS, CLOCK), "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]
    assert spec["replicas"]["type"] == "integer"
    assert spec["replicas"]["format"] == "int32"
    assert spec["paused"]["description"]
    kinds = schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]
    assert {"group": "apps", "version": "v1", "kind": "Deployment"} in kinds
    either = schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert either["format"] == "int-or-string"
    assert [choice["type"] for choice in either["oneOf"]] == ["integer", "string"]
    old = document(OpenApi(lambda: APPS, CLOCK), "/openapi/v2")["definitions"][
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    ]
    assert old == {"type": "string", "format": "int-or-string"}


def test_an_unchanged_document_is_not_sent_again() -> None:
    openapi = OpenApi(lambda: APPS, CLOCK)
    first = ask(openapi, "/openapi/v3/apis/apps/v1")
    tag = dict(first.headers)["ETag"]
    assert ask(openapi, "/openapi/v3/apis/apps/v1", if_none_match=tag).status == 304
    assert ask(openapi, "/openapi/v3/apis/apps/v1", if_none_match='"other"').status == 200


def test_custom_resources_come_and_go() -> None:
    rows: list[Resource] = []
    schemas: dict[str, Any] = {}
    current = [schemas]
    openapi = OpenApi(lambda: rows, CLOCK, lambda: current[0])
    assert ask(openapi, "/openapi/v3/apis/stable.example.com/v1").status == 404
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
    assert ask(openapi, "/openapi/v3/apis/stable.example.com/v1").status == 404


PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def test_documents_can_be_had_as_protobuf() -> None:
    openapi = OpenApi(lambda: APPS, CLOCK)
    answer = ask(openapi, "/openapi/v2", accept=PROTOBUF)
    assert answer.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert b"\x0a\x032.0" in answer.body  # swagger: 2.0
    plain = ask(openapi, "/openapi/v2", accept=f"application/json;q=0.5, {PROTOBUF};q=0.1")
    assert plain.content_type == "application/json"
    assert dict(plain.headers)["ETag"] == dict(answer.headers)["ETag"]
    third = ask(openapi, "/openapi/v3/apis/apps/v1", accept=PROTOBUF.replace("v2", "v3"))
    assert b"\x0a\x053.0.0" in third.body
    assert ask(openapi, "/openapi/v2", accept="text/html").status == 406


def test_what_the_index_names_may_be_kept_and_another_hash_leads_there() -> None:
    openapi = OpenApi(lambda: APPS, CLOCK)
    url = document(openapi, "/openapi/v3")["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, stamp = url.partition("?hash=")

    def asked(named: str) -> Response:
        request = Request("GET", path, path, {"hash": [named]}, {})

        async def answer() -> Any:
            found = openapi(request)
            return await found if inspect.isawaitable(found) else found

        response: Response = asyncio.run(answer())
        return response

    headers = dict(asked(stamp).headers)
    assert headers["Cache-Control"] == "public, immutable"
    assert headers["ETag"] == f'"{stamp}"'
    assert headers["Expires"] == "Fri, 01 Jan 2027 00:00:00 UTC"
    other = asked("old")
    assert (other.status, dict(other.headers)["Location"]) == (301, url)


def test_a_document_is_told_by_its_age_too() -> None:
    openapi = OpenApi(lambda: APPS, CLOCK)
    told = dict(ask(openapi, "/openapi/v3").headers)["Last-Modified"]
    assert ask(openapi, "/openapi/v3", if_modified_since=told).status == 304
    assert ask(openapi, "/openapi/v3", if_modified_since="Mon, 01 Jan 2001 00:00:00 GMT").status == 200
    assert ask(openapi, "/openapi/v3", if_modified_since="nonsense").status == 200


def test_no_operation_has_an_empty_list_of_parameters() -> None:
    openapi = OpenApi(lambda: APPS, CLOCK)
    for where in ("/openapi/v3/apis/apps/v1", "/openapi/v2"):
        for path in document(openapi, where)["paths"].values():
            assert path.get("parameters") != []
            assert all(operation.get("parameters") != [] for operation in path.values() if isinstance(operation, dict))
