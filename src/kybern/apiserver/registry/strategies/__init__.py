"""What is special about each resource when it is written, one file a family. Read by registry/registry.

Resources that are not listed are written by the generic rules of registry/strategy.
"""

from __future__ import annotations

from collections.abc import Callable

from kybern.api.resource import Resource
from kybern.apiserver.custom_resources.definition_strategy import CustomResourceDefinitions
from kybern.apiserver.registry.strategies.cluster import (
    CertificateSigningRequests,
    ClusterTrustBundles,
    EndpointSlices,
    Events,
    Leases,
    LimitRanges,
    Nodes,
    PodCertificateRequests,
    PodDisruptionBudgets,
    PriorityClasses,
    ResourceSlices,
    Secrets,
)
from kybern.apiserver.registry.strategies.jobs import Jobs
from kybern.apiserver.registry.strategies.namespaces import Namespaces
from kybern.apiserver.registry.strategies.pods import Pods
from kybern.apiserver.registry.strategies.resource_claims import ResourceClaims, ResourceClaimTemplates
from kybern.apiserver.registry.strategies.services import Services
from kybern.apiserver.registry.strategies.storage import CSIDrivers, PersistentVolumeClaims, PersistentVolumes
from kybern.apiserver.registry.strategies.workloads import DaemonSets, Deployments, ReplicationControllers, StatefulSets
from kybern.apiserver.registry.strategy import Context, Strategy

# By group_resource of the stored version.
STRATEGIES: dict[str, Callable[[Context, Resource], Strategy]] = {
    "pods": Pods,
    "services": Services,
    "namespaces": Namespaces,
    "nodes": Nodes,
    "events": Events,
    "leases.coordination.k8s.io": Leases,
    "limitranges": LimitRanges,
    "secrets": Secrets,
    "persistentvolumeclaims": PersistentVolumeClaims,
    "persistentvolumes": PersistentVolumes,
    "csidrivers.storage.k8s.io": CSIDrivers,
    "priorityclasses.scheduling.k8s.io": PriorityClasses,
    "replicationcontrollers": ReplicationControllers,
    "deployments.apps": Deployments,
    "daemonsets.apps": DaemonSets,
    "statefulsets.apps": StatefulSets,
    "jobs.batch": Jobs,
    "poddisruptionbudgets.policy": PodDisruptionBudgets,
    "endpointslices.discovery.k8s.io": EndpointSlices,
    "certificatesigningrequests.certificates.k8s.io": CertificateSigningRequests,
    "clustertrustbundles.certificates.k8s.io": ClusterTrustBundles,
    "podcertificaterequests.certificates.k8s.io": PodCertificateRequests,
    "resourceclaims.resource.k8s.io": ResourceClaims,
    "resourceclaimtemplates.resource.k8s.io": ResourceClaimTemplates,
    "resourceslices.resource.k8s.io": ResourceSlices,
    "customresourcedefinitions.apiextensions.k8s.io": CustomResourceDefinitions,
}
