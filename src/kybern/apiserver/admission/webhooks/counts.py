"""How long webhooks take and how often they refuse: upstream's apiserver_admission_webhook_* metrics.

Filled by plugin.
"""

from __future__ import annotations

import time

from kybern.machinery import metrics

# kube-apiserver: the buckets of the histogram of webhooks.
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0)


class Counts:
    """The metrics of one server. `kind` is admit or validating."""

    def __init__(self, registry: metrics.Registry) -> None:
        self._durations = registry.histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each "
            "operation and API resource and type (validate or admit).",
            ("name", "operation", "rejected", "type"),
            _SECONDS,
        )
        self._rejections = registry.counter(
            "apiserver_admission_webhook_rejection_count",
            "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type "
            "(validating or admit) and operation.",
            ("error_type", "name", "operation", "rejection_code", "type"),
        )
        self._requests = registry.counter(
            "apiserver_admission_webhook_request_total",
            "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type "
            "(validating or mutating) and operation. Additional labels specify whether the request was rejected or not "
            "and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality "
            "bounded.",
            ("code", "name", "operation", "rejected", "type"),
        )
        self._failed_open = registry.counter(
            "apiserver_admission_webhook_fail_open_count",
            "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type "
            "(validating or admit).",
            ("name", "type"),
        )

    def began(self) -> float:
        return time.perf_counter()

    def answered(self, name: str, operation: str, kind: str, began: float, denied: int) -> None:
        """`denied`: the code of the denial, 0 for none."""
        said = "true" if denied else "false"
        self._durations.observe(time.perf_counter() - began, name, operation, said, kind)
        self._requests.add(str(min(denied or 200, 600)), name, operation, said, kind)
        if denied:
            self._rejections.add("no_error", name, operation, str(denied), kind)

    def failed(self, name: str, operation: str, kind: str, began: float, *, is_open: bool) -> None:
        """It gave no answer that counts; the write passes all the same if `is_open`."""
        said = "false" if is_open else "true"
        self._durations.observe(time.perf_counter() - began, name, operation, said, kind)
        self._requests.add("0", name, operation, said, kind)
        if is_open:
            self._failed_open.add(name, kind)
        else:
            self._rejections.add("calling_webhook_error", name, operation, "0", kind)
