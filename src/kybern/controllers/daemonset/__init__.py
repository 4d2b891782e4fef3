"""DaemonSets: one pod on every node that fits.

reconcile -> placement (which nodes), plan (which pods), history (of the template)
"""

from kybern.controllers.daemonset.reconcile import DaemonSetController, build

__all__ = ["DaemonSetController", "build"]
