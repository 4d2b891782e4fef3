"""Defaults of resource.k8s.io (dynamic resource allocation), in every version, and of other young groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import certificates_v1beta1, resource_v1, resource_v1alpha3, resource_v1beta1, resource_v1beta2
from kybern.api import scheduling_v1alpha2 as scheduling
from kybern.api.meta_v1 import ObjectMeta


def _fill_request(request: Any) -> None:
    """An exact request or a sub-request."""
    if not request.deviceClassName and isinstance(request, resource_v1beta1.DeviceRequest):
        return
    request.allocationMode = request.allocationMode or "ExactCount"
    if request.allocationMode == "ExactCount" and not request.count:
        request.count = 1
    elif request.allocationMode == "All" and request.count == 0:
        request.count = None
    for toleration in request.tolerations:
        toleration.operator = toleration.operator or "Equal"


def _fill_claim_spec(spec: Any) -> None:
    if spec.devices is None:
        return
    for request in spec.devices.requests:
        exact = getattr(request, "exactly", None)
        # v1beta1 has the fields of an exact request in the request itself.
        if exact is not None:
            _fill_request(exact)
        elif isinstance(request, resource_v1beta1.DeviceRequest):
            _fill_request(request)
        for alternative in request.firstAvailable:
            _fill_request(alternative)


def _fill_claim(claim: Any) -> None:
    _fill_claim_spec(claim.spec)


def _fill_claim_template(template: Any) -> None:
    if template.spec.metadata is None:
        template.spec.metadata = ObjectMeta()
    _fill_claim_spec(template.spec.spec)


def _fill_certificate_request(request: certificates_v1beta1.PodCertificateRequest) -> None:
    if request.spec.maxExpirationSeconds is None:
        request.spec.maxExpirationSeconds = 86400


def _fill_pool_status_request(request: resource_v1alpha3.ResourcePoolStatusRequest) -> None:
    if request.spec.limit is None:
        request.spec.limit = 100


def _fill_pod_group(group: scheduling.PodGroup) -> None:
    group.spec.disruptionMode = group.spec.disruptionMode or "Pod"


_VERSIONS = (resource_v1, resource_v1beta1, resource_v1beta2)

DEFAULTS: dict[type[Any], Callable[[Any], None]] = {
    **{module.ResourceClaim: _fill_claim for module in _VERSIONS},
    **{module.ResourceClaimTemplate: _fill_claim_template for module in _VERSIONS},
    certificates_v1beta1.PodCertificateRequest: _fill_certificate_request,
    resource_v1alpha3.ResourcePoolStatusRequest: _fill_pool_status_request,
    scheduling.PodGroup: _fill_pod_group,
}
