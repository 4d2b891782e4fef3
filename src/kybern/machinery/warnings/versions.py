"""Versions that are deprecated: every request for them is answered with a warning. Data.

Read by the API server's dispatch. Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

_GROUPS = (
    ("networking.k8s.io", "v1beta1", 34, {"ipaddresses": "IPAddress", "servicecidrs": "ServiceCIDR"}),
    (
        "admissionregistration.k8s.io", "v1alpha1", 35,
        {
            "mutatingadmissionpolicies": "MutatingAdmissionPolicy",
            "mutatingadmissionpolicybindings": "MutatingAdmissionPolicyBinding",
        },
    ),
    ("coordination.k8s.io", "v1beta1", 36, {"leasecandidates": "LeaseCandidate"}),
    ("coordination.k8s.io", "v1alpha2", 35, {"leasecandidates": "LeaseCandidate"}),
    ("resource.k8s.io", "v1alpha3", 36, {"devicetaintrules": "DeviceTaintRule"}),
    *(
        (
            "resource.k8s.io", version, since,
            {
                "deviceclasses": "DeviceClass", "resourceclaims": "ResourceClaim",
                "resourceclaimtemplates": "ResourceClaimTemplate", "resourceslices": "ResourceSlice",
            },
        )
        for version, since in (("v1beta1", 35), ("v1beta2", 36))
    ),
)  # fmt: skip

# (group, version, plural) -> what is said.
DEPRECATED: dict[tuple[str, str, str], str] = {
    (group, version, plural): (f"{group}/{version} {kind} is deprecated in v1.{since}+, unavailable in v1.{since + 3}+")
    for group, version, since, kinds in _GROUPS
    for plural, kind in kinds.items()
} | {
    ("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("storage.k8s.io", "v1beta1", "volumeattributesclasses"): (
        "storage.k8s.io/v1beta1 VolumeAttributesClass is deprecated in v1.34+, unavailable in v1.37+; "
        "use storage.k8s.io/v1 VolumeAttributesClass"
    ),
}
