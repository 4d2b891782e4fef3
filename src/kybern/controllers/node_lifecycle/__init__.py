"""Nodes that fall silent, and taints that say what is wrong with a node."""

from kybern.controllers.node_lifecycle.reconcile import NodeLifecycleController, build

__all__ = ["NodeLifecycleController", "build"]
