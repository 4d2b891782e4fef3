from __future__ import annotations

from kybern.testing import api_server
from kybern.testing.api_server import Api


def test_the_store_is_healthy_and_components_that_do_not_answer_are_not() -> None:
    async def scenario(api: Api) -> None:
        listed = (await api.request("GET", "/api/v1/componentstatuses")).json
        found = {item["metadata"]["name"]: item["conditions"][0] for item in listed["items"]}
        assert set(found) == {"etcd-0", "controller-manager", "scheduler"}
        assert found["etcd-0"]["status"] == "True"

    api_server.run(scenario)


def test_one_component_is_read_by_name_and_another_is_not_found() -> None:
    async def scenario(api: Api) -> None:
        one = await api.request("GET", "/api/v1/componentstatuses/etcd-0")
        assert one.status == 200 and one.json["kind"] == "ComponentStatus"
        assert (await api.request("GET", "/api/v1/componentstatuses/nobody")).status == 404
        assert (await api.request("DELETE", "/api/v1/componentstatuses/etcd-0")).status == 405

    api_server.run(scenario)


def test_reviews_have_no_table_form() -> None:
    async def scenario(api: Api) -> None:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        assert (await api.request("POST", path, body, table)).status == 406
        assert (await api.request("POST", path, body)).status == 201

    api_server.run(scenario)
