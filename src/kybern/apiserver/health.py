"""/healthz, /livez and /readyz with their named checks. Asked by load balancers and by `kybern status`.

Built by server, looked up by paths. Names are upstream's where they mean something here.
"""

from __future__ import annotations

from collections.abc import Callable

from kybern.apiserver.request import Request, Response
from kybern.machinery import health, metrics
from kybern.machinery.health import Check, Health, Milestones

_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)

HOOKS = (
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/storage-readiness",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
)


class ServerHealth:
    """All three endpoints of one server."""

    def __init__(self, is_synced: Callable[[], bool], slis: metrics.Registry, started: float) -> None:
        self.hooks = Milestones(*HOOKS)
        self.is_shutting_down = False
        counts = health.Counts(slis, started)
        basic: dict[str, Check] = {"ping": _fine, "log": _fine}
        etcd: dict[str, Check] = {"etcd": lambda: "" if is_synced() else "the store is not loaded"}
        synced: dict[str, Check] = {"informer-sync": lambda: "" if is_synced() else "the caches are not filled"}
        ending: dict[str, Check] = {"shutdown": lambda: "process is shutting down" if self.is_shutting_down else ""}
        hooks = self.hooks.checks()
        self._endpoints = (
            Health("healthz", {**basic, **etcd, **hooks}, counts),
            Health("livez", {**basic, **etcd, **hooks}, counts),
            Health("readyz", {**basic, **synced, **hooks, **ending}, counts),
        )

    def ask_all(self) -> None:
        """So that what they find is told before somebody else asks."""
        for endpoint in self._endpoints:
            endpoint.all()

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """By path, and by the prefix of single checks."""
        found: dict[str, Callable[[Request], Response]] = {}
        for endpoint in self._endpoints:
            found[f"/{endpoint.endpoint}"] = _handler(endpoint)
            found[f"/{endpoint.endpoint}/"] = _handler(endpoint)
        return found


def _handler(endpoint: Health) -> Callable[[Request], Response]:
    def handle(request: Request) -> Response:
        status, text = endpoint.answer(request.path, request.query)
        return Response(status, text.encode(), health.CONTENT_TYPE, _NOSNIFF)

    return handle


def _fine() -> str:
    return ""
