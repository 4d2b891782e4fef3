"""Tricks with paths: what is authorized is what is served, however a path is spelled."""

from __future__ import annotations

import pytest

from kybern.apiserver.request import User
from kybern.testing import api_server
from kybern.testing.api_server import Api

pytestmark = pytest.mark.thorough

JANE = User("jane", "2", ("devs",))
READER = {
    "metadata": {"name": "reader"},
    "rules": [{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"]}],
}
BINDING = {
    "metadata": {"name": "reader"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
}
TRICKS = (
    "/api/v1/namespaces/default/configmaps/../secrets/a",
    "/api/v1/namespaces/default/configmaps/..%2Fsecrets%2Fa",
    "/api/v1/namespaces/default/configmaps/%2e%2e/secrets/a",
    "/api/v1/namespaces/default/configmaps%2F..%2Fsecrets/a",
    "/api/v1/namespaces/default/configmaps;/secrets/a",
    "/api/v1/namespaces/default/configmaps/a/../../secrets/a",
    "/api/v1/namespaces/default//secrets/a",
    "//api/v1/namespaces/default/secrets/a",
    "/api//v1/namespaces/default/secrets/a",
    "/api/v1/./namespaces/default/secrets/a",
    "/api/v1/namespaces/default/secrets/a/",
    "/API/v1/namespaces/default/secrets/a",
    "/api/v1/namespaces/default/Secrets/a",
    "/api/v1/namespaces/default/%73ecrets/a",
    "/api/v1/watch/namespaces/default/secrets/a",
    "/api/v1/watch/namespaces/default/secrets",
    "/api/v1/proxy/namespaces/default/secrets/a",
    "/api/v1/namespaces/default/configmaps/a/secrets/a",
    "/api/v1/namespaces/configmaps/secrets/a",
    "/api/v1/secrets?fieldSelector=metadata.name=a",
    "/version/../api/v1/namespaces/default/secrets/a",
    "/healthz/../api/v1/namespaces/default/secrets/a",
    "/healthz/%2e%2e/api/v1/namespaces/default/secrets/a",
    "/openapi/v3/../../api/v1/namespaces/default/secrets/a",
    "/version?/api/v1/namespaces/default/secrets/a",
)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "OPTIONS", "GETT"])
def test_no_spelling_of_a_path_leads_past_authorization(method: str) -> None:
    async def scenario(api: Api) -> None:
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        (await api.create(f"{rbac}/clusterroles", READER)).ok()
        (await api.create(f"{rbac}/clusterrolebindings", BINDING)).ok()
        secret = {"metadata": {"name": "a"}, "stringData": {"k": "hidden-value"}}
        (await api.create("/api/v1/namespaces/default/secrets", secret)).ok()
        jane = api.as_user(JANE)
        for trick in TRICKS:
            answer = await jane.request(method, trick)
            assert b"aGlkZGVuLXZhbHVl" not in answer.body, trick
            assert answer.status in (400, 401, 403, 404, 405) or trick.startswith("/version?"), (trick, answer.status)
        assert (await api.get("/api/v1/namespaces/default/secrets/a")).status == 200, "it is still there"

    api_server.run(scenario, users=(JANE,))
