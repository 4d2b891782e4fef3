"""Pods nobody else takes away: of lost nodes, never scheduled, or ended in too great a number."""

from kybern.controllers.pod_gc.reconcile import PodGarbageCollector, build

__all__ = ["PodGarbageCollector", "build"]
