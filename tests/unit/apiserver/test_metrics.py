from bisect import bisect_left

import pytest

from kybern.apiserver.metrics import DURATIONS, Line, Metrics, _sli
from kybern.testing import api_server
from kybern.testing.api_server import Api

CONFIGS = "/api/v1/namespaces/default/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
VERSION = {"name": "v1", "served": True, "storage": True, "schema": SCHEMA}
DEFINITION = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [VERSION],
    },
}


async def lines(api: Api, name: str) -> list[str]:
    text = (await api.get("/metrics")).body.decode()
    return [line for line in text.splitlines() if line.startswith(name)]


def test_requests_are_counted_by_verb_resource_scope_and_code() -> None:
    async def scenario(api: Api) -> None:
        (await api.create(CONFIGS, {"metadata": {"name": "a"}}, user_agent="kube-scheduler/v1.36.0")).ok()
        await api.create(f"{CONFIGS}?dryRun=All", {"metadata": {"name": "b"}})
        await api.get(f"{CONFIGS}/none")
        await api.get(CONFIGS)
        found = await lines(api, "apiserver_request_total")
        where = 'component="apiserver",dry_run="{}",group="",resource="configmaps",scope="{}",subresource=""'
        for expected in (
            f'{{code="201",{where.format("", "namespace")},system_client="kube-scheduler",verb="POST",version="v1"}} 1',
            f'{{code="201",{where.format("All", "namespace")},system_client="",verb="POST",version="v1"}} 1',
            f'{{code="404",{where.format("", "resource")},system_client="",verb="GET",version="v1"}} 1',
            f'{{code="200",{where.format("", "namespace")},system_client="",verb="LIST",version="v1"}} 1',
        ):
            assert f"apiserver_request_total{expected}" in found, (expected, found)

    api_server.run(scenario)


def test_custom_resources_are_counted_once_they_are_served() -> None:
    async def scenario(api: Api) -> None:
        assert (await api.get(WIDGETS)).status == 404
        (await api.create(CRDS, DEFINITION)).ok()
        for _ in range(50):
            if (await api.get(WIDGETS)).status == 200:
                break
            await api.clock.advance(0.1)  # type: ignore[attr-defined]
        found = await lines(api, 'apiserver_request_total{code="200",component="apiserver"')
        assert any('group="example.com",resource="widgets"' in line for line in found), found

    api_server.run(scenario)


def test_words_of_clients_become_no_labels() -> None:
    async def scenario(api: Api) -> None:
        for number in range(5):
            await api.get(f"/made/up/{number}")
            await api.get(f"/apis/made.up/v1/things{number}")
            await api.get(f"/api/v1/namespaces/default/pods/x/made-up-{number}")
            await api.request(f"MADEUP{number}", "/version")
        text = "\n".join(await lines(api, "apiserver_request"))
        assert "made" not in text.lower()

    api_server.run(scenario)


def test_a_watch_is_told_of_while_it_lasts_and_counted_when_it_ends() -> None:
    async def scenario(api: Api) -> None:
        async with api.watch(f"{CONFIGS}?watch=1") as watched:
            (await api.create(CONFIGS, {"metadata": {"name": "a"}})).ok()
            await watched.take(1)
            assert any('verb="WATCH"' in line for line in await lines(api, "apiserver_longrunning_requests{"))
            assert not any('verb="WATCH"' in line for line in await lines(api, "apiserver_request_total{"))
        assert not await lines(api, "apiserver_longrunning_requests{")
        assert any('verb="WATCH"' in line for line in await lines(api, "apiserver_request_total{"))
        assert await lines(api, 'apiserver_watch_events_total{group="",resource="configmaps",version="v1"} 1')

    api_server.run(scenario)


def test_verdicts_and_deprecated_apis_are_counted() -> None:
    async def scenario(api: Api) -> None:
        await api.get("/api/v1/endpoints")
        await api.request("GET", CONFIGS, headers={"authorization": "Bearer wrong"})
        assert await lines(api, 'authentication_attempts{result="error"} 1')
        assert await lines(api, 'authorization_attempts_total{result="allowed"}')
        assert await lines(api, 'apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints"')

    api_server.run(scenario)


def test_the_sli_leaves_out_what_a_request_waited_for_its_turn() -> None:
    line = Line(Metrics(), ("PUT", "", "v1", "pods", "", "resource", "apiserver"))
    for seconds, queued in ((0.03, 0.0), (7.0, 6.92), (7.0, 0.0), (70.0, 69.5)):
        line.durations.counts[bisect_left(DURATIONS, seconds)] += 1
        line.durations.sum += seconds
        if queued:
            line.leave_out(seconds, queued)
    sli = _sli(line)
    found = {bound: n for bound, n in zip((*DURATIONS[2:], float("inf")), sli.counts, strict=True) if n}
    assert found == {0.05: 1, 0.1: 1, 0.6: 1, 8: 1}
    assert sli.total == 4 and sli.sum == pytest.approx(84.03 - 76.42)
    assert sum(line.durations.counts) == 4 and line.durations.counts[-1] == 1
