"""What a pod refers to: secrets, config maps, claims. Pure.

Read by node (a node may read what its pods need) and by admission (mirror pods and restricted accounts may not).
"""

from __future__ import annotations

from collections.abc import Iterator

from kybern.api import core_v1
from kybern.api.core_v1 import Container, EphemeralContainer, PersistentVolume, Pod, Volume

MIRROR = "kubernetes.io/config.mirror"  # annotation of a pod that only mirrors a static one
# How volume sources name a secret, besides `secret` and `projected`.
_SECRET_FIELDS = ("secretRef", "nodePublishSecretRef")
_VOLUME_SECRET_FIELDS = (
    "secretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
    "nodeExpandSecretRef",
)


def containers(spec: core_v1.PodSpec) -> Iterator[Container | EphemeralContainer]:
    yield from spec.initContainers
    yield from spec.containers
    yield from spec.ephemeralContainers


def secrets_of(pod: Pod) -> Iterator[str]:
    """Names, some maybe twice."""
    spec = pod.spec
    yield from (r.name for r in spec.imagePullSecrets if r.name)
    for container in containers(spec):
        for variable in container.env:
            ref = variable.valueFrom.secretKeyRef if variable.valueFrom else None
            if ref and ref.name:
                yield ref.name
        for source in container.envFrom:
            if source.secretRef and source.secretRef.name:
                yield source.secretRef.name
    for volume in spec.volumes:
        yield from _secrets_of_volume(volume)


def config_maps_of(pod: Pod) -> Iterator[str]:
    for container in containers(pod.spec):
        for variable in container.env:
            ref = variable.valueFrom.configMapKeyRef if variable.valueFrom else None
            if ref and ref.name:
                yield ref.name
        for source in container.envFrom:
            if source.configMapRef and source.configMapRef.name:
                yield source.configMapRef.name
    for volume in pod.spec.volumes:
        if volume.configMap and volume.configMap.name:
            yield volume.configMap.name
        for projection in volume.projected.sources if volume.projected else ():
            if projection.configMap and projection.configMap.name:
                yield projection.configMap.name


def volume_claims_of(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.volumes:
        if volume.persistentVolumeClaim:
            yield volume.persistentVolumeClaim.claimName
        elif volume.ephemeral:
            yield f"{pod.metadata.name}-{volume.name}"


def resource_claims_of(pod: Pod) -> Iterator[str]:
    yield from (c.resourceClaimName for c in pod.spec.resourceClaims if c.resourceClaimName)
    yield from (s.resourceClaimName for s in pod.status.resourceClaimStatuses if s.resourceClaimName)
    extended = pod.status.extendedResourceClaimStatus
    if extended and extended.resourceClaimName:
        yield extended.resourceClaimName


def has_token_volume(pod: Pod) -> bool:
    """Whether a volume projects a token of its service account."""
    return any(
        projection.serviceAccountToken
        for volume in pod.spec.volumes
        if volume.projected
        for projection in volume.projected.sources
    )


def secrets_of_volume(volume: PersistentVolume) -> Iterator[tuple[str, str]]:
    """(namespace, name) of the secrets a node needs to mount it; the claim's namespace where none is named."""
    spec = volume.spec
    home = (spec.claimRef.namespace or "") if spec.claimRef else ""
    if spec.azureFile:
        yield spec.azureFile.secretNamespace or home, spec.azureFile.secretName
    for source in (
        spec.cephfs,
        spec.cinder,
        spec.csi,
        spec.flexVolume,
        spec.iscsi,
        spec.rbd,
        spec.scaleIO,
        spec.storageos,
    ):
        for field in _VOLUME_SECRET_FIELDS:
            ref = getattr(source, field, None)
            if ref is not None and ref.name:
                yield ref.namespace or home, ref.name


def _secrets_of_volume(volume: Volume) -> Iterator[str]:
    if volume.secret and volume.secret.secretName:
        yield volume.secret.secretName
    for projection in volume.projected.sources if volume.projected else ():
        if projection.secret and projection.secret.name:
            yield projection.secret.name
    if volume.azureFile:
        yield volume.azureFile.secretName
    for source in (
        volume.cephfs,
        volume.cinder,
        volume.csi,
        volume.flexVolume,
        volume.iscsi,
        volume.rbd,
        volume.scaleIO,
        volume.storageos,
    ):
        for field in _SECRET_FIELDS:
            ref = getattr(source, field, None)
            if ref is not None and ref.name:
                yield ref.name
