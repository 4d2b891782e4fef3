"""Discovery: aggregated and, on older servers, group by group."""

import msgspec

from kybern.api.resource import Resource
from kybern.client import discovery, http, kubeconfig
from kybern.client.rest import RestClient
from kybern.machinery import scheme
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi

WIDGETS = Resource(
    group="example.com", version="v1", plural="widgets", singular="widget", kind="Widget", namespaced=True,
    verbs=("list", "delete"),
)  # fmt: skip


def test_built_in_resources_are_the_very_rows_of_the_table_and_custom_ones_are_like_them():
    async def main(clock):
        api = FakeApi(clock, resources=[WIDGETS])
        return await discovery.discover(api.client())

    found = virtual.run(main)
    rows = {r.group_resource: r for r in found.preferred()}
    assert rows["pods"] is scheme.resource_for("", "v1", "pods")
    assert rows["widgets.example.com"] == WIDGETS
    assert found.stale == ()


def test_an_older_server_is_asked_group_by_group_and_what_does_not_answer_is_told():
    documents = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": {"resources": [{"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["list"]},
                                  {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]}]},
        "/apis": {"kind": "APIGroupList", "groups": [
            {"name": "x", "versions": [{"groupVersion": "x/v1"}, {"groupVersion": "x/v2"}],
             "preferredVersion": {"groupVersion": "x/v2"}},
            {"name": "down", "versions": [{"groupVersion": "down/v1"}]},
        ]},
        "/apis/x/v1": {"resources": [{"name": "things", "kind": "Thing", "namespaced": False, "verbs": ["list"]}]},
        "/apis/x/v2": {"resources": [{"name": "things", "kind": "Thing", "namespaced": False, "verbs": ["list"]}]},
    }  # fmt: skip

    class Wire:
        authority, base_path = "old", ""

        async def exchange(self, data, timeout):
            path = data.split(b" ")[1].decode()
            if path not in documents:
                return http.Head(503, {}), b""
            return http.Head(200, {}), msgspec.json.encode(documents[path])

    async def main(clock):
        client = RestClient(kubeconfig.Access(server="http://old"), clock, wire=Wire())
        return await discovery.discover(client)

    found = virtual.run(main)
    assert [r.group_resource for r in found.preferred()] == ["pods", "things.x"]
    assert found.preferred()[1].version == "v2"
    assert found.stale == ("down/v1",)


def test_what_did_not_change_is_not_sent_again():
    async def main(clock):
        api = FakeApi(clock)
        sent = []
        original = api.exchange

        class Wire:
            authority, base_path = "fake", ""

            async def exchange(self, data, timeout):
                tag = b"v2" if len(sent) >= 4 else b"v1"
                if b"if-none-match: " + tag in data:
                    sent.append(304)
                    return http.Head(304, {}), b""
                _, body = await original(data, timeout)
                sent.append(200)
                return http.Head(200, {"etag": tag.decode()}), body

        client = RestClient(kubeconfig.Access(server="http://fake"), clock, wire=Wire())
        discoverer = discovery.Discoverer(client)
        found = [await discoverer.discover() for _ in range(4)]
        return sent, [f.resources == found[0].resources for f in found]

    sent, same = virtual.run(main)
    assert sent == [200, 200, 304, 304, 200, 200, 304, 304] and all(same)
