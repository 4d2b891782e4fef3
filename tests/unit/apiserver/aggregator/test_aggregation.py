"""Another API server behind this one: registered, judged, asked, told of, and gone again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.backends import Asked, FakeServers
from kybern.testing.webhooks import http

SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
GROUP = "wardle.example.com"
PATH = f"/apis/{GROUP}/v1"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
JSON = "Content-Type: application/json"
FLUNDERS = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/v1",
    "resources": [
        {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": ["get", "list"],
        },
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
    ],
}
SERVICE = {
    "metadata": {"name": "sample"},
    "spec": {"ports": [{"port": 443, "targetPort": 8443}], "clusterIP": "10.96.0.77"},
}
SLICE = {
    "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}],
    "ports": [{"name": "", "port": 8443}],
}


def api_service(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"v1.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": "v1",
            "groupPriorityMinimum": 2000,
            "versionPriority": 200,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "default", "name": "sample"},
            **spec,
        },
    }


def sample(asked: Asked) -> bytes:
    """A server that has only the older discovery."""
    path = asked.path.partition("?")[0]
    if path == PATH:
        return http(200, msgspec.json.encode(FLUNDERS), JSON)
    if path == "/apis" or path.startswith("/openapi"):
        return http(404, b"{}", JSON)
    if path.endswith("/redirect"):
        return http(302, b"", "Location: http://192.0.2.66/")
    told = {"kind": "Flunder", "method": asked.method, "path": asked.path, "body": asked.body.decode()}
    return http(201 if asked.method == "POST" else 200, msgspec.json.encode(told), JSON, "Audit-Id: forged", "X-Own: 1")


async def rounds(api: Api, count: int = 1) -> None:
    for _ in range(count):
        await api.clock.advance(1.1)  # type: ignore[attr-defined]


async def condition(api: Api) -> tuple[str, str, str]:
    found = (await api.get(f"{SERVICES}/v1.{GROUP}")).ok()["status"]["conditions"][0]
    assert found["type"] == "Available"
    return found["status"], found["reason"], found["message"]


async def install(api: Api) -> None:
    (await api.create(SERVICES, api_service())).ok()
    (await api.create("/api/v1/namespaces/default/services", SERVICE)).ok()
    (await api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", SLICE)).ok()
    await rounds(api, 3)


def test_what_is_served_here_is_registered_and_always_available() -> None:
    async def scenario(api: Api) -> None:
        found = {o["metadata"]["name"]: o for o in (await api.get(SERVICES)).ok()["items"]}
        assert found["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
        assert found["v1.apps"]["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
        for obj in found.values():
            (told,) = obj["status"]["conditions"]
            del told["lastTransitionTime"]
            assert told == {
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
        assert "v1.apiregistration.k8s.io" not in found

    api_server.run(scenario)


def test_the_condition_says_step_by_step_what_is_missing() -> None:
    servers = FakeServers()

    async def scenario(api: Api) -> None:
        (await api.create(SERVICES, api_service())).ok()
        await rounds(api)
        assert await condition(api) == ("False", "ServiceNotFound", 'service/sample in "default" is not present')
        answer = await api.get(f"{PATH}/flunders")
        assert (answer.status, answer.body) == (503, b"service unavailable\n")
        home, slices = (
            "/api/v1/namespaces/default/services",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        )
        wrong = {**SERVICE, "spec": {"ports": [{"port": 444}], "clusterIP": "10.96.0.77"}}
        (await api.create(home, wrong)).ok()
        await rounds(api)
        listening = 'service/sample in "default" is not listening on port 443'
        assert await condition(api) == ("False", "ServicePortError", listening)
        (await api.patch(f"{home}/sample", {"spec": {"ports": [{"port": 443}]}})).ok()
        await rounds(api)
        assert await condition(api) == (
            "False",
            "EndpointsNotFound",
            'cannot find endpointslices for service/sample in "default"',
        )
        (await api.create(slices, {**SLICE, "endpoints": []})).ok()
        await rounds(api)
        assert await condition(api) == (
            "False",
            "MissingEndpoints",
            'endpointslices for service/sample in "default" have no addresses with port name ""',
        )
        (await api.patch(f"{slices}/sample-1", {"endpoints": SLICE["endpoints"]})).ok()
        await rounds(api)
        url = f"https://10.96.0.77:443{PATH}"
        refused = (
            f'failing or missing response from {url}: Get "{url}": dial tcp 10.96.0.77:443: connect: connection refused'
        )
        assert await condition(api) == ("False", "FailedDiscoveryCheck", refused)
        servers.servers["10.96.0.77:443"] = lambda asked: http(500, b"down")
        await rounds(api, 3)
        bad = f"failing or missing response from {url}: bad status from {url}: 500"
        assert await condition(api) == ("False", "FailedDiscoveryCheck", bad)
        servers.servers["10.96.0.77:443"] = sample
        await rounds(api, 3)
        assert await condition(api) == ("True", "Passed", "all checks passed")
        assert (await api.get(f"{PATH}/flunders")).status == 200

    api_server.run(scenario, backends=servers)


def test_requests_are_passed_on_with_the_user_and_nothing_forged() -> None:
    servers = FakeServers({"10.96.0.77:443": sample})
    jane = User("jane", "5", ("devs", "system:masters", "system:authenticated"))

    async def scenario(api: Api) -> None:
        await install(api)
        servers.seen.clear()
        answer = await api.as_user(jane).request(
            "POST",
            f"{PATH}/namespaces/default/flunders?dryRun=All&x=%2F",
            {"a": 1},
            {
                "x-remote-user": "evil",
                "x-remote-group": "system:masters",
                "x-remote-uid": "0",
                "x-remote-extra-scopes": "all",
                "accept": "application/yaml",
                "connection": "x-hop",
                "x-hop": "1",
            },
        )
        assert answer.status == 201
        assert answer.headers["x-own"] == "1"
        assert answer.headers.get("audit-id", "") != "forged"
        assert answer.json["path"] == f"{PATH}/namespaces/default/flunders?dryRun=All&x=%2F"
        assert answer.json["body"] == '{"a":1}'
        (asked,) = servers.seen
        assert asked.values("x-remote-user") == ["jane"]
        assert asked.values("x-remote-uid") == ["5"]
        assert asked.values("x-remote-group") == list(jane.groups)
        assert [n for n, _ in asked.headers if n.lower().startswith("x-remote-extra-")] == []
        assert asked.values("authorization") == []
        assert asked.values("x-hop") == []
        assert asked.values("accept") == ["application/yaml"]
        assert len(asked.values("audit-id")) == 1

    api_server.run(scenario, backends=servers, users=(jane,))


def test_rights_are_asked_for_here_before_anything_is_passed_on() -> None:
    servers = FakeServers({"10.96.0.77:443": sample})
    nobody = User("nobody", "6", ("system:authenticated",))

    async def scenario(api: Api) -> None:
        await install(api)
        servers.seen.clear()
        assert (await api.as_user(nobody).get(f"{PATH}/flunders")).status == 403
        assert servers.seen == []
        assert (await api.as_user(nobody).get(PATH)).status == 200  # discovery is for everybody

    api_server.run(scenario, backends=servers, users=(nobody,))


def test_a_redirect_is_neither_followed_nor_passed_on() -> None:
    servers = FakeServers({"10.96.0.77:443": sample})

    async def scenario(api: Api) -> None:
        await install(api)
        answer = await api.get(f"{PATH}/redirect")
        assert answer.status == 502
        assert b"not permitted" in answer.body
        assert "location" not in answer.headers

    api_server.run(scenario, backends=servers)


def test_the_certificate_is_verified_as_the_api_service_says() -> None:
    servers = FakeServers({"10.96.0.77:443": sample})

    async def scenario(api: Api) -> None:
        await install(api)
        assert all(to.access.insecure for to in servers.trusted)
        change = {"spec": {"insecureSkipTLSVerify": None, "caBundle": "LS0tLS1CRUdJTg=="}}
        (await api.patch(f"{SERVICES}/v1.{GROUP}", change)).ok()
        servers.trusted.clear()
        await rounds(api)
        to = servers.trusted[0]
        assert (to.access.insecure, to.access.ca.data, to.access.tls_server_name) == (
            False,
            b"-----BEGIN",
            "sample.default.svc",
        )
        assert (to.access.certificate.file, to.access.key.file) == ("/pki/front.crt", "/pki/front.key")

    options = {"proxy_client_certificate": "/pki/front.crt", "proxy_client_key": "/pki/front.key"}
    api_server.run(scenario, backends=servers, options=options)


@pytest.mark.parametrize("by_endpoint", [False, True])
def test_the_server_is_reached_by_cluster_ip_or_by_endpoint(by_endpoint: bool) -> None:
    place = "192.0.2.7:8443" if by_endpoint else "10.96.0.77:443"
    servers = FakeServers({place: sample})

    async def scenario(api: Api) -> None:
        await install(api)
        assert (await condition(api))[:2] == ("True", "Passed")
        assert (await api.get(f"{PATH}/flunders")).ok()["kind"] == "Flunder"

    api_server.run(scenario, backends=servers, options={"aggregator_routing": by_endpoint})


def test_discovery_tells_of_other_servers_and_of_stale_ones() -> None:
    servers = FakeServers({"10.96.0.77:443": sample})

    async def told(api: Api) -> tuple[list[str], Any]:
        document = (await api.get("/apis", accept=AGGREGATED)).ok()
        names = [item["metadata"]["name"] for item in document["items"]]
        found = next((i["versions"] for i in document["items"] if i["metadata"]["name"] == GROUP), None)
        return names, found

    async def scenario(api: Api) -> None:
        await install(api)
        names, versions = await told(api)
        assert names[0] == "apiregistration.k8s.io"
        assert names[-1] == GROUP
        (version,) = versions
        assert version["freshness"] == "Current"
        (resource,) = version["resources"]
        assert (resource["resource"], resource["scope"], resource["verbs"]) == (
            "flunders",
            "Namespaced",
            ["get", "list"],
        )
        assert [s["subresource"] for s in resource["subresources"]] == ["status"]
        groups = [g["name"] for g in (await api.get("/apis")).ok()["groups"]]
        assert groups == names
        assert (await api.get(f"/apis/{GROUP}")).ok()["preferredVersion"]["version"] == "v1"
        assert (await api.get(PATH)).ok() == FLUNDERS
        del servers.servers["10.96.0.77:443"]
        await api.clock.advance(31)  # type: ignore[attr-defined]
        await rounds(api, 2)
        assert (await told(api))[1] == [{"version": "v1", "freshness": "Stale"}]
        (await api.delete(f"{SERVICES}/v1.{GROUP}")).ok()
        assert (await api.get(f"{PATH}/flunders")).status == 404
        await rounds(api, 2)
        assert GROUP not in (await told(api))[0]
        assert (await api.get(PATH)).status == 404

    api_server.run(scenario, backends=servers)


def test_the_newer_discovery_of_a_server_is_taken_over() -> None:
    resources = [{"resource": "fischers", "scope": "Cluster", "verbs": ["get"], "singularResource": "fischer"}]
    document = {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v1"}]},
            {"metadata": {"name": GROUP}, "versions": [{"version": "v1", "resources": resources}]},
        ],
    }

    def serve(asked: Asked) -> bytes:
        if asked.path == "/apis":
            assert asked.values("x-remote-user") == ["system:kube-aggregator"]
            return http(200, msgspec.json.encode(document), f"Content-Type: {AGGREGATED}")
        return sample(asked)

    async def scenario(api: Api) -> None:
        await install(api)
        items = (await api.get("/apis", accept=AGGREGATED)).ok()["items"]
        assert items[-1]["versions"] == [{"version": "v1", "resources": resources, "freshness": "Current"}]

    api_server.run(scenario, backends=FakeServers({"10.96.0.77:443": serve}))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"kind":"APIResourceList","resources":[{}]}', b"{", b"null", b"\xff"])
def test_nonsense_from_a_server_harms_only_its_own_group(body: bytes) -> None:
    async def scenario(api: Api) -> None:
        await install(api)
        items = (await api.get("/apis", accept=AGGREGATED)).ok()["items"]
        assert items[-1] == {"metadata": {"name": GROUP}, "versions": [{"version": "v1", "freshness": "Stale"}]}
        assert len(items) > 15

    api_server.run(scenario, backends=FakeServers({"10.96.0.77:443": lambda _: http(200, body, JSON)}))


def test_openapi_documents_of_other_servers_are_found_here() -> None:
    swagger = {
        "paths": {f"{PATH}/flunders": {"get": {"schema": {"$ref": "#/definitions/Flunder"}}}, "/other": {}},
        "definitions": {"Flunder": {"type": "object"}, "Unused": {}},
    }
    url = f"/openapi/v3{PATH}?hash=ABC"
    index = {"paths": {f"apis/{GROUP}/v1": {"serverRelativeURL": url}, "version": {"serverRelativeURL": "x"}}}

    def serve(asked: Asked) -> bytes:
        known = {"/openapi/v2": swagger, "/openapi/v3": index, f"/openapi/v3{PATH}?hash=ABC": {"openapi": "3.0.0"}}
        if asked.path in known:
            return http(200, msgspec.json.encode(known[asked.path]), JSON, 'ETag: "1"')
        return sample(asked)

    async def scenario(api: Api) -> None:
        await install(api)
        paths = (await api.get("/openapi/v3")).ok()["paths"]
        assert paths[f"apis/{GROUP}/v1"] == {"serverRelativeURL": url}
        assert "apis/apps/v1" in paths
        assert "version" not in paths or paths["version"] != {"serverRelativeURL": "x"}
        assert (await api.get(url)).ok() == {"openapi": "3.0.0"}
        whole = (await api.get("/openapi/v2")).ok()
        assert f"{PATH}/flunders" in whole["paths"]
        assert "/other" not in whole["paths"]
        assert whole["definitions"]["Flunder"] == {"type": "object"}
        assert "Unused" not in whole["definitions"]
        assert "/api/v1/pods" in whole["paths"]

    api_server.run(scenario, backends=FakeServers({"10.96.0.77:443": serve}))
