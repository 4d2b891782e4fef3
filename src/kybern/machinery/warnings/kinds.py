"""Warnings by kind. Pure; called through the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.machinery.warnings import pods

_STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
_MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_OLD_CLASS = f'metadata.annotations[{_STORAGE_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
_INGRESS_CLASS = "kubernetes.io/ingress.class"
_HINTS = "service.kubernetes.io/topology-aware-hints"
_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
# Jobs with more indexes and more pods at once than these lose track of which have failed.
_MANY_COMPLETIONS, _MANY_PODS = 100_000, 10_000


def _named_after(obj: Any) -> list[str]:
    return [*pods.of_owner_name(obj.metadata.name), *_templated(obj)]


def _templated(obj: Any) -> list[str]:
    return pods.of_template(obj.spec.template, "spec.template")


def _pod_template(obj: Any) -> list[str]:
    return pods.of_template(obj.template, "template")


def _stateful_set(obj: Any) -> list[str]:
    found = _templated(obj)
    for number, claim in enumerate(obj.spec.volumeClaimTemplates):
        path = f"spec.volumeClaimTemplates[{number}]"
        found += pods.of_resources(claim.spec.resources, f"{path}.resources")
    if (obj.spec.revisionHistoryLimit or 0) < 0:
        found.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
        )
    return found


def _job(obj: Any) -> list[str]:
    spec = obj.spec
    found = pods.of_owner_name(obj.metadata.name)
    many = (spec.completions or 0) > _MANY_COMPLETIONS and (spec.parallelism or 0) > _MANY_PODS
    if spec.completionMode == "Indexed" and many:
        found.append(
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
            "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    return found + _templated(obj)


def _cron_job(obj: Any) -> list[str]:
    path = "spec.jobTemplate.spec.template"
    return [*pods.of_owner_name(obj.metadata.name), *pods.of_template(obj.spec.jobTemplate.spec.template, path)]


def _service(obj: Any) -> list[str]:
    spec = obj.spec
    found = []
    if _HINTS in obj.metadata.annotations:
        found.append(f"annotation {_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead")
    if spec.externalIPs:
        if spec.type == "ExternalName":
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        elif spec.clusterIP == "None":
            found.append("spec.externalIPs is ignored for headless services")
        else:
            found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.clusterIP == "None" and spec.sessionAffinity not in (None, "", "None"):
        found.append("spec.SessionAffinity is ignored for headless services")
    if spec.externalName and spec.type != "ExternalName":
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.trafficDistribution == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _endpoint_slice(obj: Any) -> list[str]:
    return ["spec.addressType: FQDN endpoints are deprecated"] if obj.addressType == "FQDN" else []


def _ingress(obj: Any) -> list[str]:
    if _INGRESS_CLASS not in obj.metadata.annotations:
        return []
    return [f"annotation \"{_INGRESS_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]


def _claim(obj: Any) -> list[str]:
    found = [_OLD_CLASS] if _STORAGE_CLASS in obj.metadata.annotations else []
    return [*found, *pods.of_resources(obj.spec.resources, "spec.resources")]


def _volume(obj: Any) -> list[str]:
    spec = obj.spec
    found = [_OLD_CLASS] if _STORAGE_CLASS in obj.metadata.annotations else []
    if _MOUNT_OPTIONS in obj.metadata.annotations:
        found.append(
            f'metadata.annotations[{_MOUNT_OPTIONS}]: deprecated since v1.31; use "mountOptions" attribute instead'
        )
    if spec.persistentVolumeReclaimPolicy == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        )
    required = spec.nodeAffinity.required if spec.nodeAffinity is not None else None
    for number, term in enumerate(required.nodeSelectorTerms if required is not None else ()):
        found += pods.of_node_selector_term(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{number}]")
    # Upstream says nothing about two kinds here that it warns of in pods.
    return [*found, *pods.of_dead_volume(spec, "spec", ("flocker", "quobyte"))]


def _storage_class(obj: Any) -> list[str]:
    found: list[str] = []
    for number, term in enumerate(obj.allowedTopologies):
        for index, expression in enumerate(term.matchLabelExpressions):
            path = f"allowedTopologies[{number}].matchLabelExpressions[{index}].key"
            found += pods.of_label(expression.key, path, "deprecated")
    return found


def _capacity(obj: Any) -> list[str]:
    topology = obj.nodeTopology
    found: list[str] = []
    for key in sorted(topology.matchLabels if topology is not None else ()):
        found += pods.of_label(key, f"nodeTopology.matchLabels.{key}", "deprecated")
    return found


def _runtime_class(obj: Any) -> list[str]:
    found: list[str] = []
    for key in sorted(obj.scheduling.nodeSelector if obj.scheduling is not None else ()):
        found += pods.of_label(key, "scheduling.nodeSelector", "deprecated")
    return found


def _secret(obj: Any) -> list[str]:
    if obj.type != "kubernetes.io/tls":
        return []
    why = _tls_fault(bytes(obj.data.get("tls.crt") or b""), bytes(obj.data.get("tls.key") or b""))
    return [f"tls: {why}"] if why else []


def _tls_fault(certificate: bytes, key: bytes) -> str:
    """Why a certificate and a key are no pair, in Go's words."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    plain, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        public = x509.load_pem_x509_certificates(certificate)[0].public_key().public_bytes(plain, form)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "failed to find any PEM data in certificate input"
    try:
        own = serialization.load_pem_private_key(key, None).public_key().public_bytes(plain, form)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "failed to find any PEM data in key input"
    return "" if own == public else "private key does not match public key"


def _service_account(obj: Any) -> list[str]:
    if _MOUNTABLE not in obj.metadata.annotations:
        return []
    said = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_MOUNTABLE}]: {said}"]


JUDGES: dict[str, Callable[[Any], list[str]]] = {
    "Pod": pods.of_pod,
    "PodTemplate": _pod_template,
    "ReplicationController": _named_after,
    "ReplicaSet": _named_after,
    "Deployment": _named_after,
    "DaemonSet": _templated,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "EndpointSlice": _endpoint_slice,
    "Ingress": _ingress,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "StorageClass": _storage_class,
    "CSIStorageCapacity": _capacity,
    "RuntimeClass": _runtime_class,
    "Secret": _secret,
    "ServiceAccount": _service_account,
}
