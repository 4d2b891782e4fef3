"""EndpointSlices for Endpoints that people write themselves, for services without a selector."""

from kybern.controllers.endpointslice_mirroring.reconcile import MirroringController, build

__all__ = ["MirroringController", "build"]
