"""What the proxy counts, under kube-proxy's names. Filled by sync.py, served by process/proxy."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kybern.machinery.clock import Clock

_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384)


class Metrics:
    """The counters of one proxy."""

    def __init__(self, registry: CollectorRegistry) -> None:
        prefix = "kubeproxy_sync_proxy_rules"
        self.registry = registry
        self.duration = Histogram(
            f"{prefix}_duration_seconds", "Time of one transaction.", registry=registry, buckets=_BUCKETS
        )
        self.programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the first change that waited to its transaction's end.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.last = Gauge(f"{prefix}_last_timestamp_seconds", "When rules were last applied.", registry=registry)
        self.failures = Counter(f"{prefix}_nftables_sync_failures", "Transactions that failed.", registry=registry)
        self.forgotten = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries", "UDP flows deleted as stale.", registry=registry
        )

    def applied(self, clock: Clock, started: float, waiting_since: float | None) -> None:
        """A transaction that began at `started` (monotonic) has ended well."""
        now = clock.monotonic()
        self.duration.observe(now - started)
        if waiting_since is not None:
            self.programming.observe(now - waiting_since)
        self.last.set(clock.now().timestamp())
