"""Discovery documents, against those of a v1.36 API server with everything switched on."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from kybern.apiserver.discovery import documents
from kybern.apiserver.discovery.serve import Discovery
from kybern.apiserver.request import Answered, Request
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

REFERENCE = pathlib.Path(__file__).parents[5] / "shared" / "reference" / "discovery"
FILES = sorted(REFERENCE.glob("ap*.json"))
ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def ask(path: str, accept: str = "application/json", **headers: str) -> Any:
    discovery = Discovery(lambda: scheme.RESOURCES)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return discovery(Request("GET", path, path, {}, {"accept": accept, "host": "10.10.10.10:8050", **names}))


def by_name(value: Any) -> Any:
    """Lists of resources in any order."""
    if isinstance(value, dict):
        return {k: by_name(v) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sorted((by_name(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    return value


@pytest.mark.skipif(not FILES, reason="the reference documents are kept outside the project")
def test_every_document_is_the_reference_s() -> None:
    for file in FILES:
        path = "/" + file.stem.replace("__", "/")
        assert json.loads(ask(path).body) == json.loads(file.read_text()), path


@pytest.mark.skipif(not FILES, reason="the reference documents are kept outside the project")
def test_the_aggregated_document_is_the_reference_s() -> None:
    wanted = json.loads((REFERENCE / "aggregated_v2.json").read_text())
    found = json.loads(ask("/apis", ACCEPT).body)
    assert [i["metadata"] for i in found["items"]] == [i["metadata"] for i in wanted["items"]]
    assert by_name(found) == by_name(wanted)


def test_every_resource_is_in_the_document_of_its_version() -> None:
    for resource in scheme.RESOURCES:
        path = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
        names = {r["name"]: r for r in json.loads(ask(path).body)["resources"]}
        assert names[resource.plural]["kind"] == resource.kind
        for subresource in resource.subresources:
            assert names[f"{resource.plural}/{subresource.name}"]["verbs"] == list(subresource.verbs)


def test_an_unchanged_document_is_not_sent_again() -> None:
    first = ask("/apis", ACCEPT)
    tag = dict(first.headers)["ETag"]
    again = ask("/apis", ACCEPT, if_none_match=tag)
    assert (again.status, again.body) == (304, b"")
    assert dict(again.headers)["ETag"] == tag


def test_a_client_that_prefers_the_old_form_gets_it() -> None:
    assert json.loads(ask("/apis", f"application/json,{ACCEPT}").body)["kind"] == "APIGroupList"
    beta = ACCEPT.replace("v=v2", "v=v2beta1")
    assert json.loads(ask("/apis", f"{beta},application/json").body)["kind"] == "APIGroupList"
    assert json.loads(ask("/apis", f"{ACCEPT},{beta},application/json").body)["kind"] == "APIGroupDiscoveryList"


def test_an_unknown_group_has_no_page() -> None:
    with pytest.raises(Answered) as caught:
        ask("/apis/nope")
    assert (caught.value.response.status, caught.value.response.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize("path", ["/apis/apps/v2", "/api/v2"])
def test_an_unknown_version_is_not_found(path: str) -> None:
    with pytest.raises(ApiError) as caught:
        ask(path)
    assert caught.value.code == 404


def test_what_cannot_be_had_is_refused() -> None:
    for accept in ("text/plain", ACCEPT):
        with pytest.raises(ApiError) as caught:
            ask("/apis/apps", accept)
        assert caught.value.code == 406


def test_versions_are_ordered_by_stability_and_then_by_number() -> None:
    versions = ["foo10", "v1alpha1", "v11beta2", "v1", "v10beta3", "v2", "foo1", "v12alpha1", "v10"]
    ordered = sorted(versions, key=documents.version_priority)
    # https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
    assert ordered == ["v10", "v2", "v1", "v11beta2", "v10beta3", "v12alpha1", "v1alpha1", "foo1", "foo10"]
