"""What the scheduler counts: upstream's scheduler_* metrics. Written by run, rendered when somebody scrapes."""

from __future__ import annotations

from kybern.machinery import metrics
from kybern.machinery.metrics import Samples
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.queue import PodQueue

_ATTEMPT_SECONDS = metrics.exponential(0.001, 2, 15)
_TRIES = metrics.exponential(1, 2, 5)
_VICTIMS = metrics.exponential(1, 2, 7)


class Metrics:
    """Of one scheduler."""

    def __init__(self) -> None:
        self.attempts = metrics.Counter(
            "scheduler_schedule_attempts_total",
            "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be "
            "scheduled, while 'error' means an internal scheduler problem.",
            ("profile", "result"),
        )
        self.seconds = metrics.Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            ("profile", "result"),
            _ATTEMPT_SECONDS,
        )
        self.tries = metrics.Histogram(
            "scheduler_pod_scheduling_attempts",
            "[STABLE] Number of attempts to successfully schedule a pod.",
            (),
            _TRIES,
        )
        self.preemptions = metrics.Counter(
            "scheduler_preemption_attempts_total", "[STABLE] Total preemption attempts in the cluster till now"
        )
        self.victims = metrics.Histogram(
            "scheduler_preemption_victims", "[STABLE] Number of selected preemption victims", (), _VICTIMS
        )

    def end(self, profile: str, result: str, seconds: float) -> None:
        """An attempt is over: `scheduled`, `unschedulable` or `error`."""
        self.attempts.add(profile, result)
        self.seconds.observe(seconds, profile, result)

    def register(self, registry: metrics.Registry, queue: PodQueue, cluster: Cluster) -> None:
        for family in (self.attempts, self.seconds, self.tries, self.preemptions, self.victims):
            registry.add(family)

        def pending() -> Samples:
            return [((place,), count) for place, count in queue.sizes().items() if place != "in flight"]

        def cached() -> Samples:
            return [(("nodes",), len(cluster.snapshot)), (("pods",), len(cluster.snapshot.pods))]

        registry.read(
            "gauge",
            "scheduler_pending_pods",
            "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' "
            "means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods.",
            ("queue",),
            pending,
        )
        registry.read(
            "gauge",
            "scheduler_scheduler_cache_size",
            "[ALPHA] Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            ("type",),
            cached,
        )
