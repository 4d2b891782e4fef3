"""The proxy's own HTTP endpoints: is it healthy, what does it count, which mode is it.

Served by process/proxy on two ports, as kube-proxy does: health (10256) for load balancers of the cloud, metrics
(10249) for the node.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from kybern.api import codec, scalars
from kybern.api.core_v1 import Node
from kybern.machinery.clock import Clock
from kybern.wire.message import Request, Response

_GOING_AWAY = "ToBeDeletedByClusterAutoscaler"  # the taint of a node that the autoscaler is about to remove


def is_eligible(node: Node | None) -> bool:
    """Whether load balancers may send new connections to the node (KEP-3836)."""
    if node is None:
        return True
    return not node.metadata.deletionTimestamp and all(t.key != _GOING_AWAY for t in node.spec.taints)


def health_application(
    clock: Clock, is_healthy: Callable[[], bool], node: Callable[[], Node | None]
) -> Callable[[Request], Response]:
    """/healthz (healthy and the node eligible), /livez and /readyz (healthy)."""
    last = clock.now()

    def application(request: Request) -> Response:
        nonlocal last
        if request.path not in ("/healthz", "/livez", "/readyz"):
            return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")
        now = clock.now()
        healthy = is_healthy()
        if healthy:
            last = now
        body: dict[str, str | bool] = {
            "lastUpdated": scalars.render_micro_time(last),
            "currentTime": scalars.render_micro_time(now),
        }
        if request.path == "/healthz":
            eligible = is_eligible(node())
            body["nodeEligible"] = eligible
            healthy = healthy and eligible
        return Response(200 if healthy else 503, codec.encode(body))

    return application


def metrics_application(registry: CollectorRegistry, mode: str) -> Callable[[Request], Response]:
    """/metrics, /proxyMode, /healthz."""

    def application(request: Request) -> Response:
        plain = "text/plain; charset=utf-8"
        match request.path:
            case "/metrics":
                return Response(200, generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8")
            case "/proxyMode":
                return Response(200, mode.encode(), plain)
            case "/healthz":
                return Response(200, b"ok", plain)
        return Response(404, b"404 page not found\n", plain)

    return application
