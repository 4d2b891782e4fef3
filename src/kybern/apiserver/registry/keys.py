"""Where objects live in the store: upstream's layout, so that both can work on the same etcd.

Used by registry/resource_store. Source: the keys a kube-apiserver writes (documented for backup tools).
"""

from __future__ import annotations

from kybern.api.resource import Resource

ROOT = "/registry/"
_SPECIAL = {
    "nodes": "minions",
    "services": "services/specs",
    "endpoints": "services/endpoints",
    "replicationcontrollers": "controllers",
    "ingresses.networking.k8s.io": "ingress",
    "customresourcedefinitions.apiextensions.k8s.io": "apiextensions.k8s.io/customresourcedefinitions",
    "apiservices.apiregistration.k8s.io": "apiregistration.k8s.io/apiservices",
}


def prefix_of(resource: Resource, *, custom: bool = False) -> str:
    """`/registry/pods/`; custom resources get `/registry/<group>/<plural>/`."""
    if custom:
        return f"{ROOT}{resource.group}/{resource.plural}/"
    return f"{ROOT}{_SPECIAL.get(resource.group_resource, resource.plural)}/"


def key_of(prefix: str, namespace: str, name: str) -> str:
    """`/registry/pods/default/web`; without namespace for cluster-scoped kinds."""
    return f"{prefix}{namespace}/{name}" if namespace else f"{prefix}{name}"
