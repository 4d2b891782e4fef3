"""Objects in the cache are everybody's: a write that is not kept leaves no trace in them."""

from __future__ import annotations

from kybern.testing import api_server
from kybern.testing.api_server import Api

SERVICES = "/api/v1/namespaces/default/services"


def test_a_dry_run_that_ends_a_load_balancer_leaves_its_addresses() -> None:
    async def scenario(api: Api) -> None:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"a": "b"}}
        made = (await api.create(SERVICES, {"metadata": {"name": "s"}, "spec": spec})).ok()
        status = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
        balanced = (await api.update(f"{SERVICES}/s/status", {**made, "status": status})).ok()
        changed = {**balanced, "spec": {**balanced["spec"], "type": "ClusterIP"}}
        for field in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
            changed["spec"].pop(field, None)
        changed["spec"]["ports"] = [{"port": 80}]
        tried = (await api.update(f"{SERVICES}/s?dryRun=All", changed)).ok()
        assert tried["status"] == {"loadBalancer": {}}
        again = {**balanced, "metadata": {**balanced["metadata"], "labels": {"a": "b"}}}
        assert (await api.update(f"{SERVICES}/s", again)).ok()["status"]["loadBalancer"]["ingress"][0][
            "ip"
        ] == "1.2.3.4"

    api_server.run(scenario)
