"""Operations as upstream tells them."""

from __future__ import annotations

from kybern.testing import api_server
from kybern.testing.api_server import Api


def test_old_paths_of_watches_are_told_and_said_to_be_deprecated() -> None:
    async def scenario(api: Api) -> None:
        for document in ("/openapi/v2", "/openapi/v3/api/v1"):
            paths = (await api.get(document)).ok()["paths"]
            for path, name, action in (
                ("/api/v1/watch/namespaces/{namespace}/pods/{name}", "watchCoreV1NamespacedPod", "watch"),
                ("/api/v1/watch/namespaces/{namespace}/pods", "watchCoreV1NamespacedPodList", "watchlist"),
                ("/api/v1/watch/pods", "watchCoreV1PodListForAllNamespaces", "watchlist"),
            ):
                found = paths[path]["get"]
                assert (found["operationId"], found["x-kubernetes-action"]) == (name, action)
                assert "deprecated" in found["description"]

    api_server.run(scenario)


def test_what_all_operations_of_a_path_take_is_said_once() -> None:
    async def scenario(api: Api) -> None:
        path = (await api.get("/openapi/v3/apis/apps/v1")).ok()["paths"][
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        ]
        assert [each["name"] for each in path["parameters"]] == ["name", "namespace", "pretty"]
        assert path["patch"]["operationId"] == "patchAppsV1NamespacedDeployment"
        assert "fieldValidation" in [each["name"] for each in path["patch"]["parameters"]]

    api_server.run(scenario)
