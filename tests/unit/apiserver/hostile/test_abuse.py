"""What somebody with an account tries: forged tokens of lists, names worn by others, things that grow or go in circles."""

from __future__ import annotations

import base64

import msgspec
import pytest

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
