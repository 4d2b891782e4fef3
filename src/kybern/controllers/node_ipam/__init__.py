"""Every node gets a range of pod addresses of its own."""

from kybern.controllers.node_ipam.reconcile import NodeIpamController, build

__all__ = ["NodeIpamController", "build"]
