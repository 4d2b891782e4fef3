"""HorizontalPodAutoscalers: as many replicas as the metrics of a workload ask for.

reconcile -> metrics (ask the metrics APIs) -> proposal (replicas by one metric) -> pace (how fast) -> report (status)
"""

from kybern.controllers.horizontalpodautoscaler.reconcile import Autoscaler, build

__all__ = ["Autoscaler", "build"]
