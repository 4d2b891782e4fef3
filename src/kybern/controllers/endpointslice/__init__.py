"""EndpointSlices: the addresses of a service, in objects of at most a hundred.

reconcile -> plan (which endpoints) -> pack (into which slices)
"""

from kybern.controllers.endpointslice.reconcile import EndpointSliceController, build

__all__ = ["EndpointSliceController", "build"]
