"""Fields that an endpoint gives back their old value: whoever writes them there does not become their owner.

Read by ownership. Source: the answers of a v1.36 API server (managedFields after a PUT that changes everything).
"""

from __future__ import annotations

from kybern.api.resource import Resource
from kybern.machinery.merge.structured import fields
from kybern.machinery.merge.structured.fields import Fields

_STATUS = fields.of_paths(("f:status",))
_SPEC = fields.of_paths(("f:spec",))
_SPEC_AND_METADATA = fields.of_paths(("f:spec",), ("f:metadata",))
_SPEC_AND_STATUS = fields.of_paths(("f:spec",), ("f:status",))

# Whose status endpoint takes no metadata at all; custom resources are the same.
_STATUS_ALONE = frozenset(
    {
        "servicecidrs.networking.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "volumeattachments.storage.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io", "apiservices.apiregistration.k8s.io",
        "resourceclaims.resource.k8s.io", "customresourcedefinitions.apiextensions.k8s.io",
    }
)  # fmt: skip

_SPECIAL: dict[tuple[str, str], Fields] = {
    ("pods", "status"): fields.of_paths(
        ("f:spec",), ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences")
    ),
    ("deployments.apps", "status"): fields.of_paths(("f:spec",), ("f:metadata", "f:labels")),
    ("certificatesigningrequests.certificates.k8s.io", ""): _SPEC_AND_STATUS,
    ("certificatesigningrequests.certificates.k8s.io", "status"): _SPEC_AND_STATUS,
    ("certificatesigningrequests.certificates.k8s.io", "approval"): _SPEC_AND_STATUS,
}


def of_resource(resource: Resource, *, is_custom: bool = False) -> dict[str, Fields]:
    """By subresource ("" is the object's own endpoint)."""
    name = resource.group_resource
    found: dict[str, Fields] = {}
    for subresource in resource.subresources:
        if subresource.name == "status":
            found[""] = _STATUS
            found["status"] = _SPEC_AND_METADATA if is_custom or name in _STATUS_ALONE else _SPEC
    found.update({sub: ignored for (owner, sub), ignored in _SPECIAL.items() if owner == name})
    return found
