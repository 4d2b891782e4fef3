"""Pods leave nodes whose NoExecute taints they do not tolerate, or no longer."""

from kybern.controllers.taint_eviction.reconcile import TaintEvictionController, build

__all__ = ["TaintEvictionController", "build"]
