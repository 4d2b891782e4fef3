"""What the proxy says about itself."""

import msgspec
from prometheus_client import CollectorRegistry

from kybern.api import codec
from kybern.api.core_v1 import Node
from kybern.proxy import status
from kybern.proxy.metrics import Metrics
from kybern.testing.clock import FakeClock
from kybern.wire.message import Request


def request(path: str) -> Request:
    return Request("GET", path, path, {}, {})


def node(**value: object) -> Node:
    return codec.from_json(Node, value)[0]


def test_healthz_wants_a_healthy_proxy_on_a_node_that_stays() -> None:
    clock = FakeClock()
    healthy, current = True, node(metadata={"name": "here"})
    ask = status.health_application(clock, lambda: healthy, lambda: current)
    answer = ask(request("/healthz"))
    assert answer.status == 200
    assert msgspec.json.decode(answer.body) == {
        "lastUpdated": "2026-01-01T00:00:00.000000Z",
        "currentTime": "2026-01-01T00:00:00.000000Z",
        "nodeEligible": True,
    }
    current = node(
        metadata={"name": "here"}, spec={"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}
    )
    assert ask(request("/healthz")).status == 503
    assert ask(request("/livez")).status == 200
    current = node(metadata={"name": "here", "deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert ask(request("/healthz")).status == 503
    healthy = False
    clock.move(9)
    answer = ask(request("/livez"))
    assert answer.status == 503
    assert b'"lastUpdated":"2026-01-01T00:00:00.000000Z"' in answer.body
    assert b'"currentTime":"2026-01-01T00:00:09.000000Z"' in answer.body
    assert ask(request("/other")).status == 404


def test_metrics_and_mode_are_served() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    clock = FakeClock()
    clock.move(2)
    metrics.applied(clock, 1.5, 1.0)
    ask = status.metrics_application(registry, "nftables")
    assert ask(request("/proxyMode")).body == b"nftables"
    text = ask(request("/metrics")).body
    assert b"kubeproxy_sync_proxy_rules_duration_seconds_sum 0.5" in text
    assert b"kubeproxy_network_programming_duration_seconds_sum 1.0" in text
    assert ask(request("/healthz")).body == b"ok"
