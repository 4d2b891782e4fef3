"""PodDisruptionBudgets: how many pods may be evicted now."""

from kybern.controllers.disruption.reconcile import DisruptionController, build

__all__ = ["DisruptionController", "build"]
