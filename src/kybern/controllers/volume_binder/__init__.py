"""Claims find volumes, volumes know their claims."""

from kybern.controllers.volume_binder.reconcile import BinderController, build

__all__ = ["BinderController", "build"]
