"""What a client counts of its requests: upstream's rest_client_* metrics. Written by rest, added to a component's
registry by its composition root."""

from __future__ import annotations

from kybern.machinery import metrics

_DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_FAILED = "<error>"  # as client-go tells a request that got no answer


class RestMetrics:
    """Of one client: one host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._requests = metrics.Counter(
            "rest_client_requests_total",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "host", "method"),
        )
        self._durations = metrics.Histogram(
            "rest_client_request_duration_seconds",
            "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
            ("host", "verb"),
            _DURATIONS,
        )

    def note(self, method: str, status: int, seconds: float) -> None:
        """An answer has come, or (status 0) none will."""
        self._requests.add(str(status) if status else _FAILED, self._host, method)
        self._durations.observe(seconds, self._host, method)

    def register(self, registry: metrics.Registry) -> None:
        registry.add(self._requests)
        registry.add(self._durations)
