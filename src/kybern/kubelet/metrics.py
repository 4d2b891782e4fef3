"""What the kubelet counts, under upstream's names. Served at /metrics by server/."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kybern.kubelet.podkeys import Role

_TYPES = {
    Role.INIT: "init_container",
    Role.SIDECAR: "init_container",
    Role.REGULAR: "container",
    Role.EPHEMERAL: "ephemeral_container",
}
_START_BUCKETS = (0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600)


class Metrics:
    """One of it a kubelet, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._started = Counter(
            "kubelet_started_containers", "Containers started", ["container_type"], registry=self.registry
        )
        self._start_errors = Counter(
            "kubelet_started_containers_errors", "Containers that could not be started", ["container_type", "code"],
            registry=self.registry,
        )  # fmt: skip
        self._terminated = Counter(
            "kubelet_terminated_containers", "Containers that ended", ["container_type", "exit_code"],
            registry=self.registry,
        )  # fmt: skip
        self._sandboxes = Counter("kubelet_started_pods", "Sandboxes started", registry=self.registry)
        self._sandbox_errors = Counter(
            "kubelet_started_pods_errors", "Sandboxes that could not be started", registry=self.registry
        )
        self._evictions = Counter("kubelet_evictions", "Pods evicted", ["eviction_signal"], registry=self.registry)
        self._pod_start = Histogram(
            "kubelet_pod_start_duration_seconds", "From the first sight of a pod until its containers run",
            buckets=_START_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._relist = Histogram(
            "kubelet_pleg_relist_duration_seconds", "Of a relist of the runtime", registry=self.registry
        )
        self._running_pods = Gauge("kubelet_running_pods", "Pods with a running sandbox", registry=self.registry)
        self._running = Gauge(
            "kubelet_running_containers", "Containers by state", ["container_state"], registry=self.registry
        )

    def count_start(self, role: Role) -> None:
        self._started.labels(_TYPES[role]).inc()

    def count_start_error(self, role: Role, code: str) -> None:
        self._start_errors.labels(_TYPES[role], code).inc()

    def count_end(self, role: Role, exit_code: int) -> None:
        self._terminated.labels(_TYPES[role], str(exit_code)).inc()

    def count_sandbox(self, *, failed: bool) -> None:
        (self._sandbox_errors if failed else self._sandboxes).inc()

    def count_eviction(self, signal: str) -> None:
        self._evictions.labels(signal).inc()

    def observe_pod_start(self, seconds: float) -> None:
        self._pod_start.observe(seconds)

    def observe_relist(self, seconds: float) -> None:
        self._relist.observe(seconds)

    def show_running(self, pods: int, containers: Mapping[str, int]) -> None:
        self._running_pods.set(pods)
        for state in ("created", "running", "exited", "unknown"):
            self._running.labels(state).set(containers.get(state, 0))
