"""Endpoints: the addresses of a service in one object, for those who read no EndpointSlices yet."""

from kybern.controllers.endpoints.reconcile import EndpointsController, build

__all__ = ["EndpointsController", "build"]
