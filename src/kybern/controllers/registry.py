"""The controllers there are, by the names upstream's `--controllers` flag knows.

Read by process/controller_manager. Modules are imported when built, so that a switched-off controller costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, cast

from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.controllers.runtime import Context, Controller, Sleeper

# Name -> module with a `build(context) -> Controller`. In the order they are built: the garbage collector comes
# last, because it shares the informers of all others.
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
    "pod-garbage-collector-controller": "pod_gc",
    "clusterrole-aggregation-controller": "clusterrole_aggregation",
    "resourcequota-controller": "resourcequota",
    "horizontal-pod-autoscaler-controller": "horizontalpodautoscaler",
    "certificatesigningrequest-signing-controller": "certificates.sign",
    "certificatesigningrequest-approving-controller": "certificates.approve",
    "certificatesigningrequest-cleaner-controller": "certificates.clean",
    "storage-version-migrator-controller": "storage_version_migration",
    "garbage-collector-controller": "garbage_collector",
}

# These bring a large library (cryptography, 9 MiB): built when there is something to do for them.
ASLEEP: dict[str, type[Any]] = {
    "certificatesigningrequest-signing-controller": CertificateSigningRequest,
    "certificatesigningrequest-approving-controller": CertificateSigningRequest,
    "certificatesigningrequest-cleaner-controller": CertificateSigningRequest,
}


def select(wanted: Sequence[str]) -> list[str]:
    """The names that a `--controllers` list switches on: `*`, `name`, `-name`. Raises ValueError for unknown ones."""
    known = set(CONTROLLERS)
    unknown = [name for name in wanted if name != "*" and name.removeprefix("-") not in known]
    if unknown:
        raise ValueError(f"no such controllers: {', '.join(unknown)}; there are {', '.join(CONTROLLERS)}")
    chosen = []
    for name in CONTROLLERS:
        if f"-{name}" in wanted:
            continue
        if name in wanted or "*" in wanted:
            chosen.append(name)
    return chosen


def build(name: str, context: Context) -> Controller:
    def wake() -> Controller:
        module = importlib.import_module(f"kybern.controllers.{CONTROLLERS[name]}")
        return cast("Controller", module.build(context))

    kind = ASLEEP.get(name)
    return wake() if kind is None else Sleeper(name, context, kind, wake)
