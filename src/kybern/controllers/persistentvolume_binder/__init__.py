"""Claims and volumes: bind each claim to one volume for good, and say what became of volumes whose claim is gone.

reconcile (two loops: claims, volumes) -> plan (what to do) -> match (which volume fits)
Volumes are made and destroyed by external provisioners (CSI); nothing in-tree does.
"""

from kybern.controllers.persistentvolume_binder.reconcile import Binder, build

__all__ = ["Binder", "build"]
