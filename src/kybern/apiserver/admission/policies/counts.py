"""How long policies take and what they decide: upstream's apiserver_validating_admission_policy_* metrics.

Filled by validating, where there are policies.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from kybern.machinery import metrics

_LABELS = ("enforcement_action", "error_type", "policy", "policy_binding")
_SECONDS = (5e-07, 0.001, 0.01, 0.1, 1.0)  # kube-apiserver: the same


class Counts:
    """The metrics of one server."""

    def __init__(self, registry: metrics.Registry) -> None:
        self._checks = registry.counter(
            "apiserver_validating_admission_policy_check_total",
            "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and "
            "enforcement action taken.",
            _LABELS,
        )
        self._durations = registry.histogram(
            "apiserver_validating_admission_policy_check_duration_seconds",
            "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy "
            "and further including binding and enforcement action taken.",
            _LABELS,
            _SECONDS,
        )

    def began(self) -> float:
        return time.perf_counter()

    def judged(self, policy: str, binding: str, actions: Iterable[str], began: float) -> None:
        """`actions`: what a violation leads to, as bindings name it; none where nothing is violated."""
        seconds = time.perf_counter() - began
        keys = [(action.lower(), "invalid_error", policy, binding) for action in actions]
        for key in keys or [("allow", "no_error", policy, binding)]:
            self._checks.add(*key)
            self._durations.observe(seconds, *key)
