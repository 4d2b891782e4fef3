"""The controllers there are, by the names upstream's `--controllers` flag knows.

Read by process/controller_manager. Modules are imported when built, so that a switched-off controller costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, cast

from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.controllers.runtime import Context, Controller, Sleeper

# Name -> module with a `build(context) -> Controller`, or "module:function". In the order they are built: the garbage
# collector comes last, because it shares the informers of all others.
CONTROLLERS: dict[str, str] = {
    "replicaset-controller": "replicaset",
    "replicationcontroller-controller": "replicationcontroller",
    "deployment-controller": "deployment",
    "job-controller": "job",
    "ttl-after-finished-controller": "ttl_after_finished",
    "cronjob-controller": "cronjob",
    "daemonset-controller": "daemonset",
    "statefulset-controller": "statefulset",
    "disruption-controller": "disruption",
    "persistentvolume-binder-controller": "persistentvolume_binder",
    "persistentvolume-protection-controller": "volume_protection",
    "persistentvolumeclaim-protection-controller": "volume_protection:build_claims",
    "persistentvolume-attach-detach-controller": "attach_detach",
    "volumeattributesclass-protection-controller": "attributes_class_protection",
    "ephemeral-volume-controller": "ephemeral_volume",
    "service-cidr-controller": "service_cidr",
    "legacy-serviceaccount-token-cleaner-controller": "token_cleaner",
    "namespace-controller": "namespace",
    "serviceaccount-controller": "serviceaccount",
    "serviceaccount-token-controller": "serviceaccount_token",
    "root-ca-certificate-publisher-controller": "root_ca",
    "endpoints-controller": "endpoints",
    "endpointslice-controller": "endpointslice",
    "endpointslice-mirroring-controller": "endpointslice_mirroring",
    "node-ipam-controller": "node_ipam",
    "node-lifecycle-controller": "node_lifecycle",
    "taint-eviction-controller": "taint_eviction",
    "ttl-controller": "node_ttl",
    "pod-garbage-collector-controller": "pod_gc",
    "clusterrole-aggregation-controller": "clusterrole_aggregation",
    "resourcequota-controller": "resourcequota",
    "horizontal-pod-autoscaler-controller": "horizontalpodautoscaler",
    "certificatesigningrequest-signing-controller": "certificates.sign",
    "certificatesigningrequest-approving-controller": "certificates.approve",
    "certificatesigningrequest-cleaner-controller": "certificates.clean",
    "podcertificaterequest-cleaner-controller": "pod_certificate_cleaner",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller": "trust_bundle_publisher",
    "bootstrap-signer-controller": "bootstrap_signer",
    "token-cleaner-controller": "bootstrap_token_cleaner",
    "storage-version-migrator-controller": "storage_version_migration",
    "garbage-collector-controller": "garbage_collector",
}

# These bring a large library (cryptography, 9 MiB): built when there is something to do for them.
ASLEEP: dict[str, type[Any]] = {
    "certificatesigningrequest-signing-controller": CertificateSigningRequest,
    "certificatesigningrequest-approving-controller": CertificateSigningRequest,
    "certificatesigningrequest-cleaner-controller": CertificateSigningRequest,
}

# `*` does not mean these: upstream's are off by default, or behind a gate that is.
OFF_BY_DEFAULT = frozenset(
    {
        "bootstrap-signer-controller",
        "token-cleaner-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    }
)

# Upstream knows these, too. They need a cloud, a gate that is off, or a part that is not built, and one is the API
# server's business here; command lines that name them are understood.
ABSENT = frozenset(
    {
        "cloud-node-lifecycle-controller", "node-route-controller", "service-lb-controller",
        "selinux-warning-controller", "storageversion-garbage-collector-controller", "podgroup-protection-controller",
        "resourcepoolstatusrequest-controller", "resourceclaim-controller", "device-taint-eviction-controller",
        "persistentvolume-expander-controller", "validatingadmissionpolicy-status-controller",
    }
)  # fmt: skip


def select(wanted: Sequence[str]) -> list[str]:
    """The names that a `--controllers` list switches on: `*`, `name`, `-name`. Raises ValueError for unknown ones."""
    known = set(CONTROLLERS)
    unknown = [name for name in wanted if name != "*" and name.removeprefix("-") not in known | ABSENT]
    if unknown:
        raise ValueError(f"no such controllers: {', '.join(unknown)}; there are {', '.join(CONTROLLERS)}")
    chosen = []
    for name in CONTROLLERS:
        if f"-{name}" in wanted:
            continue
        if name in wanted or ("*" in wanted and name not in OFF_BY_DEFAULT):
            chosen.append(name)
    return chosen


def build(name: str, context: Context) -> Controller:
    def wake() -> Controller:
        module, _, function = CONTROLLERS[name].partition(":")
        made = getattr(importlib.import_module(f"kybern.controllers.{module}"), function or "build")
        return cast("Controller", made(context))

    kind = ASLEEP.get(name)
    return wake() if kind is None else Sleeper(name, context, kind, wake)
