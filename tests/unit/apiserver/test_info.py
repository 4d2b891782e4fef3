from __future__ import annotations

import pytest

from kybern.apiserver import info
from kybern.apiserver.request import Request, RequestInfo


def read(method: str, path: str, **query: str) -> RequestInfo:
    return info.parse(Request(method, path, path, {k: [v] for k, v in query.items()}, {}))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        # verb, group, version, namespace, plural, name, subresource, tail
        ("GET", "/api/v1/pods", "list||v1||pods|||"),
        ("GET", "/api/v1/pods/", "list||v1||pods|||"),
        ("GET", "/api/v1/namespaces/a/pods", "list||v1|a|pods|||"),
        ("POST", "/api/v1/namespaces/a/pods", "create||v1|a|pods|||"),
        ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection||v1|a|pods|||"),
        ("GET", "/api/v1/namespaces/a/pods/p", "get||v1|a|pods|p||"),
        ("PUT", "/api/v1/namespaces/a/pods/p", "update||v1|a|pods|p||"),
        ("PATCH", "/api/v1/namespaces/a/pods/p/status", "patch||v1|a|pods|p|status|"),
        ("DELETE", "/api/v1/namespaces/a/pods/p", "delete||v1|a|pods|p||"),
        ("HEAD", "/api/v1/namespaces/a/pods/p", "get||v1|a|pods|p||"),
        ("GET", "/api/v1/namespaces", "list||v1||namespaces|||"),
        ("GET", "/api/v1/namespaces/a", "get||v1|a|namespaces|a||"),
        ("PUT", "/api/v1/namespaces/a/finalize", "update||v1|a|namespaces|a|finalize|"),
        ("PUT", "/api/v1/namespaces/a/status", "update||v1|a|namespaces|a|status|"),
        ("GET", "/apis/apps/v1/namespaces/a/deployments/d/scale", "get|apps|v1|a|deployments|d|scale|"),
        ("GET", "/api/v1/watch/namespaces/a/pods/p", "watch||v1|a|pods|p||"),
        ("GET", "/api/v1/nodes/n/proxy", "get||v1||nodes|n|proxy|"),
        ("GET", "/api/v1/nodes/n/proxy/", "get||v1||nodes|n|proxy|/"),
        ("POST", "/api/v1/nodes/n/proxy/a//b/", "create||v1||nodes|n|proxy|/a//b/"),
        ("OPTIONS", "/api/v1/nodes/n/proxy/a", "||v1||nodes|n|proxy|/a"),
        ("GET", "/api/v1/namespaces/proxy/services/namespaces/proxy/x", "get||v1|proxy|services|namespaces|proxy|/x"),
    ],
)
def test_a_resource_path_means(method: str, path: str, expected: str) -> None:
    found = read(method, path)
    assert found.is_resource
    parts = (found.verb, found.group, found.version, found.namespace, found.plural, found.name)
    assert "|".join((*parts, found.subresource, found.tail)) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/x", "//", "//api/v1/pods",
        "/api//v1/pods", "/api/v1//pods", "/api/v1/namespaces//pods", "/api/v1/pods//x", "/api/v1/pods//",
        "/api/v1/namespaces/a/pods/x//log", "/api/v1/namespaces/a//x",
    ],
)  # fmt: skip
def test_a_path_without_a_resource_or_with_a_hole_is_just_a_path(path: str) -> None:
    found = read("GET", path)
    assert not found.is_resource
    assert (found.verb, found.path) == ("get", path)


def test_only_reads_can_be_watches() -> None:
    assert not read("POST", "/api/v1/watch/namespaces/a/pods").is_resource
    assert read("GET", "/api/v1/pods", watch="").verb == "watch"
    assert read("GET", "/api/v1/pods", watch="yes").verb == "watch"
    assert read("GET", "/api/v1/pods", watch="false").verb == "list"
    assert read("GET", "/api/v1/pods", watch="0").verb == "list"
    assert read("DELETE", "/api/v1/pods", watch="1").verb == "deletecollection"


def test_a_selected_name_is_a_name_for_authorization() -> None:
    assert read("GET", "/api/v1/secrets", fieldSelector="metadata.name=s").name == "s"
    assert read("GET", "/api/v1/secrets", fieldSelector="metadata.name!=s").name == ""
    assert read("GET", "/api/v1/secrets", fieldSelector="metadata.name=s=t").name == ""


def test_long_paths_are_read_but_not_remembered() -> None:
    before = info._of_path.cache_info().currsize
    assert read("GET", "/api/v1/nodes/" + "n" * 600).name == "n" * 600
    assert info._of_path.cache_info().currsize == before
