"""ServiceAccount: every pod runs as a service account that exists, with a token at the well-known place.

Source: "Managing Service Accounts" (the ServiceAccount admission controller) in the Kubernetes documentation.
"""

from __future__ import annotations

import random
from typing import ClassVar

from kybern.api.core_v1 import (
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    KeyToPath,
    LocalObjectReference,
    ObjectFieldSelector,
    Pod,
    ProjectedVolumeSource,
    ServiceAccount,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize import references
from kybern.apiserver.request import Reader
from kybern.machinery import names

DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"  # the config map the root CA publisher puts into every namespace
TOKEN_SECONDS = 3607  # an hour, recognisable: the issuer may extend such tokens
_VOLUME_PREFIX = "kube-api-access-"
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"


class ServiceAccountAdmission(Rule):
    """Mirror pods get nothing and may ask for nothing: the API server did not make them."""

    name: str = "ServiceAccount"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE", "UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods", "pods/ephemeralcontainers"})

    def __init__(self, reader: Reader, rng: random.Random) -> None:
        self._reader = reader
        self._rng = rng

    def admit(self, a: Attributes) -> None:
        pod = a.object
        if a.operation != "CREATE" or not isinstance(pod, Pod) or references.MIRROR in pod.metadata.annotations:
            return
        spec = pod.spec
        name = spec.serviceAccountName or spec.serviceAccount or DEFAULT
        spec.serviceAccountName = spec.serviceAccount = name
        account = self._account(a, name)
        if _wants_token(pod, account):
            self._mount_token(pod)
        if not spec.imagePullSecrets and account.imagePullSecrets:
            spec.imagePullSecrets = [LocalObjectReference(name=r.name) for r in account.imagePullSecrets]

    def validate(self, a: Attributes) -> None:
        pod = a.object
        if not isinstance(pod, Pod):
            return
        if a.operation == "CREATE" and references.MIRROR in pod.metadata.annotations:
            _check_mirror(a, pod)
            return
        if a.operation == "UPDATE" and a.subresource != "ephemeralcontainers":
            return
        account = self._account(a, pod.spec.serviceAccountName or DEFAULT)
        if account.metadata.annotations.get(_ENFORCE, "").lower() in ("true", "1", "t"):
            _check_mountable(a, pod, account)

    def _account(self, a: Attributes, name: str) -> ServiceAccount:
        account: ServiceAccount | None = self._reader.get("serviceaccounts", a.namespace, name)
        if account is None:
            raise forbidden(
                a, f'error looking up service account {a.namespace}/{name}: serviceaccount "{name}" not found'
            )
        return account

    def _mount_token(self, pod: Pod) -> None:
        needy = [c for c in (*pod.spec.initContainers, *pod.spec.containers) if not _has_mount(c)]
        # An existing token volume (the pod was exported and is created again) is used again.
        known = next((v.name for v in pod.spec.volumes if v.name.startswith(_VOLUME_PREFIX) and v.projected), "")
        name = known or self._volume_name(pod)
        for container in needy:
            container.volumeMounts.append(VolumeMount(name=name, readOnly=True, mountPath=MOUNT_PATH))
        if needy and not known:
            pod.spec.volumes.append(Volume(name=name, projected=token_volume()))

    def _volume_name(self, pod: Pod) -> str:
        taken = {v.name for v in pod.spec.volumes}
        while True:
            name = names.generate(_VOLUME_PREFIX, self._rng)
            if name not in taken:
                return name


def token_volume() -> ProjectedVolumeSource:
    """Token, CA and namespace, as every client in a pod expects to find them."""
    field = ObjectFieldSelector(apiVersion="v1", fieldPath="metadata.namespace")
    return ProjectedVolumeSource(
        defaultMode=0o644,
        sources=[
            VolumeProjection(
                serviceAccountToken=ServiceAccountTokenProjection(expirationSeconds=TOKEN_SECONDS, path="token")
            ),
            VolumeProjection(
                configMap=ConfigMapProjection(name=ROOT_CA, items=[KeyToPath(key="ca.crt", path="ca.crt")])
            ),
            VolumeProjection(
                downwardAPI=DownwardAPIProjection(items=[DownwardAPIVolumeFile(path="namespace", fieldRef=field)])
            ),
        ],
    )


def _wants_token(pod: Pod, account: ServiceAccount) -> bool:
    """The pod's word counts first, then the account's."""
    wanted = pod.spec.automountServiceAccountToken
    if wanted is None:
        wanted = account.automountServiceAccountToken
    return wanted is not False


def _has_mount(container: Container) -> bool:
    return any(m.mountPath == MOUNT_PATH for m in container.volumeMounts)


def _check_mirror(a: Attributes, pod: Pod) -> None:
    if pod.spec.serviceAccountName:
        raise forbidden(a, "a mirror pod may not reference service accounts")
    if next(references.secrets_of(pod), None) is not None:
        raise forbidden(a, "a mirror pod may not reference secrets")
    if references.has_token_volume(pod):
        raise forbidden(a, "a mirror pod may not use ServiceAccountToken volume projections")


def _check_mountable(a: Attributes, pod: Pod, account: ServiceAccount) -> None:
    mountable = {s.name for s in account.secrets}
    pullable = {s.name for s in account.imagePullSecrets}
    pulled = {r.name for r in pod.spec.imagePullSecrets}
    for name in references.secrets_of(pod):
        if name not in mountable and name not in pulled:
            raise forbidden(
                a, f'secret "{name}" is not listed as mountable by service account "{account.metadata.name}"'
            )
    for pull in pulled:
        if pull not in pullable:
            raise forbidden(a, f'imagePullSecret "{pull}" is not listed by service account "{account.metadata.name}"')
