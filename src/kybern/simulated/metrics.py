"""What simulated nodes count, in upstream's names. Written by node and fleet, served by process/simulated_nodes."""

from __future__ import annotations

from kybern.machinery import metrics

# Those of kubelet_pod_start_sli_duration_seconds.
STARTS = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip


class Metrics:
    """Of all nodes of the process together."""

    def __init__(self) -> None:
        self.registry = metrics.Registry()
        self.starts = self.registry.histogram(
            "kubelet_pod_start_sli_duration_seconds",
            "[ALPHA] Duration in seconds to start a pod, excluding time to pull images and run init containers, "
            "measured from pod creation timestamp to when all its containers are reported as started and observed via "
            "watch",
            (),
            STARTS,
        )
        self.turns = self.registry.counter("simulated_pod_turns_total", "Looks at a pod", ("outcome",))
