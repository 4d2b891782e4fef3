"""Fields behind feature gates that are off by default in v1.36: what a client says there is dropped, not refused.

Called by registry strategies before validation, with the spec that was stored before (None for a new object). A field
that is in use stays in use: it is dropped only where the old spec has nothing of the kind.
Source: kubernetes_feature_enabled of a v1.36 API server, and what it stores.
"""

from __future__ import annotations

from kybern.api.coordination_v1 import LeaseSpec
from kybern.api.core_v1 import Container, EphemeralContainer, PodSpec, PodStatus, VolumeMountStatus, VolumeProjection
from kybern.api.resource_v1 import ResourceSliceSpec
from kybern.machinery import feature_gates
from kybern.machinery.feature_gates import Gates

_PROJECTED = (
    ("clusterTrustBundle", feature_gates.CLUSTER_TRUST_BUNDLE_PROJECTION),
    ("podCertificate", feature_gates.POD_CERTIFICATE_REQUEST),
)


def drop_from_pod_spec(spec: PodSpec, old: PodSpec | None, gates: Gates) -> None:
    """GenericWorkload, ContainerStopSignals, ClusterTrustBundleProjection, PodCertificateRequest."""
    if spec.schedulingGroup is not None and (old is None or old.schedulingGroup is None):
        spec.schedulingGroup = None
    if any(_has_stop_signal(c) for c in _containers(spec)) and not (
        old is not None and any(_has_stop_signal(c) for c in _containers(old))
    ):
        _drop_stop_signals(spec)
    for field, gate in _PROJECTED:
        if gates.is_on(gate):
            continue
        holders = [p for p in _projections(spec) if getattr(p, field) is not None]
        if holders and not (old is not None and any(getattr(p, field) is not None for p in _projections(old))):
            for projection in holders:
                setattr(projection, field, None)


def _containers(spec: PodSpec) -> list[Container | EphemeralContainer]:
    return [*spec.containers, *spec.initContainers, *spec.ephemeralContainers]


def _has_stop_signal(container: Container | EphemeralContainer) -> bool:
    return container.lifecycle is not None and container.lifecycle.stopSignal is not None


def _drop_stop_signals(spec: PodSpec) -> None:
    for container in _containers(spec):
        lifecycle = container.lifecycle
        if lifecycle is not None and lifecycle.stopSignal is not None:
            lifecycle.stopSignal = None
            if lifecycle.postStart is None and lifecycle.preStop is None:
                container.lifecycle = None


def _projections(spec: PodSpec) -> list[VolumeProjection]:
    return [p for v in spec.volumes if v.projected is not None for p in v.projected.sources]


def drop_from_slice(spec: ResourceSliceSpec, old: ResourceSliceSpec | None) -> None:
    """DRAListTypeAttributes, DRANodeAllocatableResources."""
    lists = ("bools", "ints", "strings", "versions")
    before = old.devices if old is not None else []
    if not any(getattr(a, field) for d in before for a in d.attributes.values() for field in lists):
        for device in spec.devices:
            for attribute in device.attributes.values():
                for field in lists:
                    if getattr(attribute, field):
                        setattr(attribute, field, [])
    if not any(d.nodeAllocatableResourceMappings for d in before):
        for device in spec.devices:
            if device.nodeAllocatableResourceMappings:
                device.nodeAllocatableResourceMappings = {}


def drop_from_lease(spec: LeaseSpec, old: LeaseSpec | None) -> None:
    """CoordinatedLeaderElection."""
    for field in ("strategy", "preferredHolder"):
        if getattr(spec, field) is not None and (old is None or getattr(old, field) is None):
            setattr(spec, field, None)


def drop_from_pod_status(status: PodStatus, old: PodStatus) -> None:
    """DRANodeAllocatableResources, ImageVolumeWithDigest."""
    if status.nodeAllocatableResourceClaimStatuses and not old.nodeAllocatableResourceClaimStatuses:
        status.nodeAllocatableResourceClaimStatuses = []
    mounts = [m for m in _mounts(status) if m.volumeStatus is not None]
    if mounts and not any(m.volumeStatus is not None for m in _mounts(old)):
        for mount in mounts:
            mount.volumeStatus = None


def _mounts(status: PodStatus) -> list[VolumeMountStatus]:
    every = (*status.containerStatuses, *status.initContainerStatuses, *status.ephemeralContainerStatuses)
    return [mount for one in every for mount in one.volumeMounts]
