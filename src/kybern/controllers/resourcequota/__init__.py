"""Resource quotas: count what a namespace's quotas are about, and say so in their status.

reconcile -> counted (objects of any resource) -> plan (sums)
"""

from kybern.controllers.resourcequota.reconcile import ResourceQuotaController, build

__all__ = ["ResourceQuotaController", "build"]
