from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from kybern.client.rest_metrics import RestMetrics
from kybern.client.workqueue.core import Core, RateLimit
from kybern.process.health import Page, add_queues
from kybern.process.scheduler import Options
from kybern.wire.http1 import target as targets
from kybern.wire.message import Request, Response


def page(**extra: Any) -> Page:
    return Page("kube-scheduler", prometheus=CollectorRegistry(), **extra)


def get(of: Page, target: str) -> Response:
    path, query = targets.split_target(target)
    return of(Request("GET", path, target, query, {}))


def test_health_is_told_as_upstreams_components_do() -> None:
    fine = page()
    for path in ("/healthz", "/livez", "/readyz"):
        assert get(fine, path).body == b"ok"
    assert get(fine, "/livez?verbose").body == b"[+]ping ok\nlivez check passed\n"
    assert get(fine, "/livez/nosuch").status == 404
    assert get(fine, "/").status == 404


def test_what_is_wrong_fails_health_and_readiness_and_not_life() -> None:
    faults = {"sync": "not all objects are known yet"}
    waiting = page(checks=lambda: dict(faults))
    assert get(waiting, "/readyz").status == 500
    assert (
        get(waiting, "/healthz?verbose").body == b"[+]ping ok\n[-]sync failed: reason withheld\nhealthz check failed\n"
    )
    assert get(waiting, "/livez").status == 200
    faults["sync"] = ""
    assert get(waiting, "/readyz").status == 200


def test_metrics_of_clients_and_queues_have_upstreams_names() -> None:
    of = page()
    client = RestMetrics("127.0.0.1:6443")
    client.register(of.registry)
    client.note("GET", 200, 0.02)
    client.note("PUT", 0, 1)
    core = Core(RateLimit())
    core.add("a", 1.0)
    core.take(3.0)
    add_queues(of.registry, lambda: [("node", core.snapshot(4.0))])
    found = {f.name: f for f in text_string_to_metric_families(get(of, "/metrics").body.decode())}
    requests = {tuple(sorted(s.labels.items())): s.value for s in found["rest_client_requests"].samples}
    assert requests[(("code", "<error>"), ("host", "127.0.0.1:6443"), ("method", "PUT"))] == 1
    assert [s.value for s in found["workqueue_unfinished_work_seconds"].samples] == [1.0]
    waited = found["workqueue_queue_duration_seconds"].samples
    assert next(s.value for s in waited if s.name.endswith("_sum")) == 2.0
    assert "kubernetes_build_info" in found


def test_what_a_component_is_and_was_told_can_be_read() -> None:
    of = page(options=Options(bind_address="127.0.0.9"))
    assert b"bind-address=127.0.0.9" in get(of, "/flagz").body
    assert b'"bind_address":"127.0.0.9"' in get(of, "/configz").body
    assert get(of, "/statusz").body.startswith(b"\nkube-scheduler statusz\nWarning: ")
    get(of, "/livez")
    assert b'kubernetes_healthcheck{name="ping",type="livez"} 1' in get(of, "/metrics/slis").body
