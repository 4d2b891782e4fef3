"""What somebody with an account tries: forged tokens of lists, borrowed names, things that grow or go in circles."""

from __future__ import annotations

import base64
import contextlib
import time
from typing import Any

import msgspec
import pytest

from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Api

pytestmark = pytest.mark.thorough

SECRETS = "/api/v1/namespaces/%s/secrets"
MAPS = "/api/v1/namespaces/default/configmaps"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECONDS = 10.0  # of processor time, on however slow a machine


# -- continue tokens -------------------------------------------------------------------------------------------------


def token(revision: int, start: str, version: str = "meta.k8s.io/v1") -> str:
    text = msgspec.json.encode({"v": version, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


# What a v1.36 API server answered in the namespace kube-system; "": 200.
STARTS = {
    "aaa/": "continue key is not valid: aaa/",
    "": "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
    "/": "",
    "b": "",
    "default/default": "",
    "../default/default": "continue key is not valid: ../default/default",
    "../default/": "continue key is not valid: ../default/",
    "../../configmaps/": "continue key is not valid: ../../configmaps/",
    "\x00": "",
    "a\x00": "",
    "./a": "continue key is not valid: ./a",
    "a/../b": "continue key is not valid: a/../b",
}


def test_a_forged_token_leads_into_no_other_namespace_and_resource() -> None:
    async def scenario(api: Api) -> None:
        for namespace in ("aaa", "mine", "zzz"):
            (await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})).ok()
            for name in ("b", "c"):
                (await api.create(SECRETS % namespace, {"metadata": {"name": name}})).ok()
        page = (await api.get(f"{SECRETS % 'mine'}?limit=1")).ok()["metadata"]
        revision = int(page["resourceVersion"])
        starts = (*STARTS, "aaa/b", "aaa/b\x00", "/aaa/b\x00", "zzz/b", "mine/b\x00", "\U0010ffff", "/%2e%2e/aaa/b\x00")
        for start in starts:
            for at in (revision, revision - 1, -1):
                answer = await api.get(f"{SECRETS % 'mine'}?limit=9&continue={token(at, start)}")
                told = STARTS.get(start)
                if told:
                    assert (answer.status, answer.json["message"]) == (400, f"invalid continue token: {told}"), start
                for item in answer.json.get("items", ()):
                    assert item["metadata"]["namespace"] == "mine", (start, at)
        for start, names in (("/", ["b", "c"]), ("b", ["b", "c"]), ("b\x00", ["c"]), ("c", ["c"]), ("d", [])):
            found = (await api.get(f"{SECRETS % 'mine'}?continue={token(revision, start)}")).ok()["items"]
            assert [item["metadata"]["name"] for item in found] == names, start

    api_server.run(scenario)


def test_a_token_is_told_as_upstream_tells_it() -> None:
    async def scenario(api: Api) -> None:
        for name in ("b", "c"):
            (await api.create(SECRETS % "default", {"metadata": {"name": name}})).ok()
        for target, start in ((SECRETS % "default", "/b\x00"), ("/api/v1/secrets", "/default/b\x00")):
            told = (await api.get(f"{target}?limit=1")).ok()["metadata"]["continue"]
            assert msgspec.json.decode(base64.urlsafe_b64decode(told + "=="))["start"] == start

    api_server.run(scenario)


@pytest.mark.parametrize(
    "text",
    ["e30", "bnVsbA", "W10", "a", "=" * 9, "x" * 5000, token(1, "a", "v2"), token(0, "a"), token(2**63, "a")],
)
def test_a_token_that_is_none_is_refused(text: str) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.get(f"{MAPS}?limit=1&continue={text}")).status == 400

    api_server.run(scenario)


# -- whom a request acts as ------------------------------------------------------------------------------------------

READER = {
    "metadata": {"name": "impersonator"},
    "rules": [{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["nobody"]}],
}
BOUND = {
    "metadata": {"name": "impersonator"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "impersonator"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
}
RBAC = "/apis/rbac.authorization.k8s.io/v1"
JANE = User("jane", "2", ("devs", "system:authenticated"))
# What jane tries, who may act as `nobody` alone. The wire joins repeated headers with a comma or a line end.
TRICKS: dict[str, dict[str, str]] = {
    "an admin": {"impersonate-user": "admin"},
    "two users": {"impersonate-user": "nobody,admin"},
    "two users in two lines": {"impersonate-user": "nobody\nadmin"},
    "a group besides": {"impersonate-user": "nobody", "impersonate-group": "system:masters"},
    "groups in one line": {"impersonate-user": "nobody", "impersonate-group": "devs,system:masters"},
    "groups in two lines": {"impersonate-user": "nobody", "impersonate-group": "devs\nsystem:masters"},
    "a uid besides": {"impersonate-user": "nobody", "impersonate-uid": "1"},
    "extra besides": {"impersonate-user": "nobody", "impersonate-extra-scopes": "all"},
    "extra in an encoded name": {"impersonate-user": "nobody", "impersonate-extra-sc%6fpes": "all"},
    "extra with a slash": {"impersonate-user": "nobody", "impersonate-extra-a%2fb": "all"},
    "extra without a name": {"impersonate-user": "nobody", "impersonate-extra-": "all"},
    "a group alone": {"impersonate-group": "system:masters"},
    "a uid alone": {"impersonate-uid": "1"},
    "an empty user with a group": {"impersonate-user": "", "impersonate-group": "system:masters"},
    "a service account": {"impersonate-user": "system:serviceaccount:kube-system:default"},
    "a node": {"impersonate-user": "system:node:n"},
    "the name with a space": {"impersonate-user": "admin "},
    "the name in capitals": {"impersonate-user": "NOBODY"},
}


def test_nobody_borrows_a_name_by_odd_headers() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(f"{RBAC}/clusterroles", READER)).ok()
        (await api.create(f"{RBAC}/clusterrolebindings", BOUND)).ok()
        jane = api.as_user(JANE)
        review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        asked = await jane.request("POST", review, {}, {"impersonate-user": "nobody"})
        assert asked.ok()["status"]["userInfo"]["username"] == "nobody"
        for name, headers in TRICKS.items():
            answer = await jane.request("POST", review, {}, headers)
            assert answer.status in (400, 403), (name, answer.status, answer.body[:300])
            answer = await jane.request("GET", SECRETS % "kube-system", headers=headers)
            assert answer.status in (400, 403), (name, answer.status)

    api_server.run(scenario, users=(JANE,))


# -- what grows ------------------------------------------------------------------------------------------------------


def doubling(times: int) -> list[dict[str, Any]]:
    """Each copy holds all those before it."""
    grown = {"op": "add", "path": "/x", "value": {"a": "b" * 100}}
    return [grown, *({"op": "copy", "from": "", "path": f"/x/k{i}"} for i in range(times))]


def test_copies_of_copies_are_stopped() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(MAPS, {"metadata": {"name": "a"}})).ok()
        for patch in (doubling(60), [{"op": "copy", "from": "/metadata", "path": "/metadata/x"}] * 10_001):
            sent = {"content-type": "application/json-patch+json"}
            answer = await api.request("PATCH", f"{MAPS}/a", patch, sent)
            assert answer.status in (413, 422), answer.body[:200]
            assert answer.seconds < SECONDS

    api_server.run(scenario)


def widgets(schema: dict[str, Any]) -> dict[str, Any]:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "kind": "Widget"}
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def nested(depth: int, key: str = "items") -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = (
            {"type": "array", "items": schema} if key == "items" else {"type": "object", "properties": {"a": schema}}
        )
    return schema


SCHEMAS: dict[str, dict[str, Any]] = {
    "deep lists": {"type": "object", "properties": {"a": nested(150)}},
    "deep objects": nested(150, "properties"),
    "deeper than any": nested(240, "properties"),
    "a reference to itself": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "a reference to a file": {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
    "a schema of schemas": {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"},
    "an id": {"id": "x", "type": "object"},
    "choices in choices": {"type": "object", "anyOf": [{"anyOf": [{"anyOf": [{}] * 20}] * 20}] * 20},
    "definitions": {"type": "object", "definitions": {"a": {"$ref": "#/definitions/a"}}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_without_end_is_refused_or_served(name: str) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.create(DEFINITIONS, widgets(SCHEMAS[name]))
        assert answer.status in (201, 400, 422), answer.body[:300]
        assert answer.seconds < SECONDS
        for path in ("/openapi/v2", "/openapi/v3", "/openapi/v3/apis/example.com/v1", "/apis/example.com/v1"):
            assert (await api.get(path)).status in (200, 404)
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "a": {"a": [[]]}}
        answer = await api.create("/apis/example.com/v1/namespaces/default/widgets", widget)
        assert answer.status in (201, 404, 422)

    api_server.run(scenario)


# -- what goes in circles --------------------------------------------------------------------------------------------


def test_a_group_that_is_served_by_this_server_itself_is_not_asked_for_ever() -> None:
    async def scenario(api: Api) -> None:
        service = {"metadata": {"name": "loop"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
        (await api.create("/api/v1/namespaces/default/services", service)).ok()
        spec = {
            "group": "loop.example.com",
            "version": "v1",
            "service": {"namespace": "default", "name": "loop", "port": 443},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 1,
            "versionPriority": 1,
        }
        made = {"metadata": {"name": "v1.loop.example.com"}, "spec": spec}
        (await api.create("/apis/apiregistration.k8s.io/v1/apiservices", made)).ok()
        for path in ("/apis/loop.example.com/v1", "/apis/loop.example.com/v1/things", "/apis", "/openapi/v3"):
            answer = await api.get(path)
            assert answer.status in (200, 404, 502, 503), (path, answer.status)
            assert answer.seconds < SECONDS

    api_server.run(scenario)


def test_a_webhook_that_points_at_this_server_ends() -> None:
    """It is asked as nobody: what it is sent there is refused before it is a write."""

    async def scenario(api: Api) -> None:
        hook = {
            "name": "loop.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/api/v1/namespaces/default/configmaps"},
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        }
        where = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        (await api.create(where, {"metadata": {"name": "loop"}, "webhooks": [hook]})).ok()
        answer = await api.create(MAPS, {"metadata": {"name": "a"}})
        assert answer.status == 500 and b"failed calling webhook" in answer.body  # as upstream tells it
        (await api.request("DELETE", f"{where}/loop")).ok()
        (await api.create(MAPS, {"metadata": {"name": "a"}})).ok()

    api_server.run(scenario)


# -- what is many ----------------------------------------------------------------------------------------------------


def test_many_watches_of_one_client_keep_nobody_from_reading() -> None:
    async def scenario(api: Api) -> None:
        async with contextlib.AsyncExitStack() as open_watches:
            watched = [await open_watches.enter_async_context(api.watch(f"{MAPS}?watch=1")) for _ in range(300)]
            began = time.process_time()
            (await api.create(MAPS, {"metadata": {"name": "a"}})).ok()
            (await api.get(f"{MAPS}/a")).ok()
            assert (await watched[-1].next())["object"]["metadata"]["name"] == "a"
            assert time.process_time() - began < SECONDS

    api_server.run(scenario)
