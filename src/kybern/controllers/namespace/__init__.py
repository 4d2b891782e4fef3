"""Namespaces being deleted: empty them, resource by resource, then let them go."""

from kybern.controllers.namespace.reconcile import NamespaceController, build

__all__ = ["NamespaceController", "build"]
