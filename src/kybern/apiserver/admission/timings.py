"""How long admission takes, plugin by plugin: upstream's apiserver_admission_* metrics.

Put around the steps of a chain when they are chosen, so that a write pays for two looks at a clock a step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from kybern.apiserver.admission import Attributes
from kybern.machinery import metrics
from kybern.machinery.metrics import Series
from kybern.machinery.status import ApiError

Step = Callable[[Attributes], Awaitable[None] | None]
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)


class Timings:
    """The histograms of one server."""

    def __init__(self, registry: metrics.Registry) -> None:
        self._controllers = registry.histogram(
            "apiserver_admission_controller_admission_duration_seconds",
            "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each "
            "operation and API resource and type (validate or admit).",
            ("name", "operation", "rejected", "type"),
            _SECONDS,
        )
        self._halves = registry.histogram(
            "apiserver_admission_step_admission_duration_seconds",
            "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource "
            "and step type (validate or admit).",
            ("operation", "rejected", "type"),
            _SECONDS,
        )

    def of_plugin(self, step: Step, name: str, operation: str, kind: str) -> Step:
        """A plugin's step, timed. `kind` is admit or validate."""
        controllers = self._controllers
        return _timed(
            step,
            controllers.of((name, operation, "false", kind)),
            lambda: controllers.of((name, operation, "true", kind)),
        )

    def of_half(self, step: Step, operation: str, kind: str) -> Step:
        """All steps of one kind."""
        halves = self._halves
        return _timed(step, halves.of((operation, "false", kind)), lambda: halves.of((operation, "true", kind)))


def _timed(step: Step, fine: Series, refused: Callable[[], Series]) -> Step:
    clock = time.perf_counter

    def run(a: Attributes) -> Awaitable[None] | None:
        began = clock()
        try:
            waiting = step(a)
        except ApiError:
            refused().observe(clock() - began)
            raise
        if waiting is not None:
            return wait(waiting, began)
        fine.observe(clock() - began)
        return None

    async def wait(waiting: Awaitable[None], began: float) -> None:
        try:
            await waiting
        except ApiError:
            refused().observe(clock() - began)
            raise
        fine.observe(clock() - began)

    return run
