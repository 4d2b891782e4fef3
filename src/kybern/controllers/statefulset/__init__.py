"""StatefulSets: pods with names, order and volumes of their own.

reconcile -> plan (the next pods) -> identity (names, labels, claims), history (of the template)
"""

from kybern.controllers.statefulset.reconcile import StatefulSetController, build

__all__ = ["StatefulSetController", "build"]
