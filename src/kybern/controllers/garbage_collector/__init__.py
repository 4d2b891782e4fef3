"""Objects whose owners are gone go too; owners that wait for their dependents are let go.

monitors (one informer a resource) -> graph (pure: who owns whom) -> plan (pure: what to do) -> reconcile
"""

from kybern.controllers.garbage_collector.reconcile import GarbageCollector, build

__all__ = ["GarbageCollector", "build"]
