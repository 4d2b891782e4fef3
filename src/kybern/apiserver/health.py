"""/healthz, /livez and /readyz with their named checks. Asked by load balancers and by `kybern status`.

Built by server, looked up by paths. Names are upstream's where they mean something here.
"""

from __future__ import annotations

from collections.abc import Callable

from kybern.apiserver.request import Request, Response
from kybern.machinery import health, metrics
from kybern.machinery.health import Check, Health, Milestones

_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)

# What a start has to have done, by its stages. Each stands for all hooks of upstream that it does the work of.
_HOOK = "poststarthook/"
CACHES = (  # the store's state is read, and everything that reads it can
    f"{_HOOK}start-apiserver-admission-initializer",
    f"{_HOOK}generic-apiserver-start-informers",
    f"{_HOOK}storage-object-count-tracker-hook",
    f"{_HOOK}storage-readiness",
)
DEFINITIONS = (  # custom resources are served
    f"{_HOOK}start-apiextensions-informers",
    f"{_HOOK}start-apiextensions-controllers",
    f"{_HOOK}crd-informer-synced",
)
OBJECTS = (  # what every cluster has is there
    f"{_HOOK}start-system-namespaces-controller",
    f"{_HOOK}start-cluster-authentication-info-controller",
    f"{_HOOK}rbac/bootstrap-roles",
    f"{_HOOK}scheduling/bootstrap-system-priority-classes",
)
SERVICE = (  # the server's own Service, and the ranges of all
    f"{_HOOK}start-service-ip-repair-controllers",
    f"{_HOOK}bootstrap-controller",
    f"{_HOOK}start-kubernetes-service-cidr-controller",
)
AGGREGATION = (  # other servers are known, and their documents merged
    f"{_HOOK}start-kube-aggregator-informers",
    f"{_HOOK}apiservice-status-local-available-controller",
    f"{_HOOK}apiservice-status-remote-available-controller",
    f"{_HOOK}apiservice-registration-controller",
    f"{_HOOK}apiservice-wait-for-first-sync",
    f"{_HOOK}apiservice-discovery-controller",
    f"{_HOOK}kube-apiserver-autoregistration",
    "autoregister-completion",
    f"{_HOOK}apiservice-openapi-controller",
    f"{_HOOK}apiservice-openapiv3-controller",
)
FAIRNESS = (
    f"{_HOOK}priority-and-fairness-config-consumer",
    f"{_HOOK}priority-and-fairness-filter",
    f"{_HOOK}priority-and-fairness-config-producer",
)


class ServerHealth:
    """All three endpoints of one server."""

    def __init__(self, is_synced: Callable[[], bool], slis: metrics.Registry, started: float) -> None:
        self.hooks = Milestones(*CACHES, *DEFINITIONS, *OBJECTS, *SERVICE, *AGGREGATION, *FAIRNESS)
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
