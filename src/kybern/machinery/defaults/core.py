"""Defaults of the core group beside pods and ReplicationControllers, and of storage.k8s.io."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import events_v1
from kybern.api.core_v1 import (
    ClientIPConfig,
    Endpoints,
    EventSource,
    LimitRange,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    ResourceQuota,
    Secret,
    Service,
    ServicePort,
    SessionAffinityConfig,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from kybern.api.scheduling_v1 import PriorityClass
from kybern.api.storage_v1 import CSIDriver, StorageClass, VolumeAttachment
from kybern.machinery.defaults import amounts, pods, volumes


def _fill_service(service: Service) -> None:
    spec = service.spec
    spec.type = spec.type or "ClusterIP"
    spec.sessionAffinity = spec.sessionAffinity or "None"
    if spec.sessionAffinity == "None":
        spec.sessionAffinityConfig = None
    elif spec.sessionAffinity == "ClientIP":
        config = spec.sessionAffinityConfig
        if config is None or config.clientIP is None or config.clientIP.timeoutSeconds is None:
            spec.sessionAffinityConfig = SessionAffinityConfig(clientIP=ClientIPConfig(timeoutSeconds=10800))
    for port in spec.ports:
        _fill_service_port(port)
    if spec.type in ("NodePort", "LoadBalancer") or (spec.type == "ClusterIP" and spec.externalIPs):
        spec.externalTrafficPolicy = spec.externalTrafficPolicy or "Cluster"
    if spec.type in ("ClusterIP", "NodePort", "LoadBalancer") and spec.internalTrafficPolicy is None:
        spec.internalTrafficPolicy = "Cluster"
    if spec.type == "LoadBalancer":
        if spec.allocateLoadBalancerNodePorts is None:
            spec.allocateLoadBalancerNodePorts = True
        for ingress in service.status.loadBalancer.ingress:
            if ingress.ip and not ingress.ipMode:
                ingress.ipMode = "VIP"


def _fill_service_port(port: ServicePort) -> None:
    port.protocol = port.protocol or "TCP"
    if port.targetPort in (None, 0, ""):
        port.targetPort = port.port


def _fill_endpoints(endpoints: Endpoints) -> None:
    for subset in endpoints.subsets:
        for port in subset.ports:
            port.protocol = port.protocol or "TCP"


def _fill_secret(secret: Secret) -> None:
    secret.type = secret.type or "Opaque"
    # stringData is write-only: it wins over data and is never kept.
    for key, text in secret.stringData.items():
        secret.data[key] = text.encode("utf-8", "surrogatepass")
    secret.stringData = {}


def fill_claim(claim: PersistentVolumeClaim) -> None:
    claim.status.phase = claim.status.phase or "Pending"
    pods.fill_claim_spec(claim.spec)


def _fill_claim(claim: PersistentVolumeClaim) -> None:
    fill_claim(claim)
    fill_sources(claim.spec)


def fill_sources(spec: PersistentVolumeClaimSpec) -> None:
    """Where the data of a claim comes from is said in two fields: each from the other."""
    source, reference = spec.dataSource, spec.dataSourceRef
    if reference is None and source is not None:
        if _is_claim_or_snapshot(source):
            spec.dataSourceRef = TypedObjectReference(kind=source.kind, name=source.name, apiGroup=source.apiGroup)
        else:
            spec.dataSource = None  # what the old field cannot name is dropped, silently, as it always was
    elif reference is not None and source is None and not reference.namespace:
        spec.dataSource = TypedLocalObjectReference(
            kind=reference.kind, name=reference.name, apiGroup=reference.apiGroup
        )


def _is_claim_or_snapshot(reference: TypedLocalObjectReference) -> bool:
    return (reference.apiGroup or "", reference.kind) in (
        ("", "PersistentVolumeClaim"),
        ("snapshot.storage.k8s.io", "VolumeSnapshot"),
    )


def _fill_volume(volume: PersistentVolume) -> None:
    spec = volume.spec
    volume.status.phase = volume.status.phase or "Pending"
    spec.persistentVolumeReclaimPolicy = spec.persistentVolumeReclaimPolicy or "Retain"
    if spec.volumeMode is None:
        spec.volumeMode = "Filesystem"
    amounts.round_up(spec.capacity)
    volumes.fill_sources(spec)


def _fill_namespace(namespace: Namespace) -> None:
    namespace.status.phase = namespace.status.phase or "Active"
    # The name as a label, so that selectors can name a namespace; a wrong value is put right.
    if namespace.metadata.name:
        namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name


def _fill_node(node: Node) -> None:
    status, spec = node.status, node.spec
    amounts.round_up(status.capacity)
    if not status.allocatable and status.capacity:
        status.allocatable = dict(status.capacity)
    amounts.round_up(status.allocatable)
    if spec.podCIDR and spec.podCIDRs[:1] != [spec.podCIDR]:
        spec.podCIDRs = [spec.podCIDR]  # old clients know only the first
    elif spec.podCIDRs and not spec.podCIDR:
        spec.podCIDR = spec.podCIDRs[0]


def _fill_quota(quota: ResourceQuota) -> None:
    amounts.round_up(quota.spec.hard)
    amounts.round_up(quota.status.hard)
    amounts.round_up(quota.status.used)


def _fill_limit_range(limit_range: LimitRange) -> None:
    for item in limit_range.spec.limits:
        for limits in (item.max, item.min, item.default, item.defaultRequest, item.maxLimitRequestRatio):
            amounts.round_up(limits)
        if item.type != "Container":
            continue
        # A maximum is the default limit, that is the default request, and so is a minimum.
        for name, amount in item.max.items():
            item.default.setdefault(name, amount)
        for name, amount in item.default.items():
            item.defaultRequest.setdefault(name, amount)
        for name, amount in item.min.items():
            item.defaultRequest.setdefault(name, amount)


def _fill_priority_class(priority: PriorityClass) -> None:
    if priority.preemptionPolicy is None:
        priority.preemptionPolicy = "PreemptLowerPriority"
    if priority.value is None:
        priority.value = 0


def _fill_attachment(attachment: VolumeAttachment) -> None:
    inline = attachment.spec.source.inlineVolumeSpec
    if inline is not None:
        amounts.round_up(inline.capacity)
        volumes.fill_sources(inline)


def _fill_storage_class(storage_class: StorageClass) -> None:
    if storage_class.reclaimPolicy is None:
        storage_class.reclaimPolicy = "Delete"
    if storage_class.volumeBindingMode is None:
        storage_class.volumeBindingMode = "Immediate"


def _fill_csi_driver(driver: CSIDriver) -> None:
    spec = driver.spec
    if spec.attachRequired is None:
        spec.attachRequired = True
    if spec.podInfoOnMount is None:
        spec.podInfoOnMount = False
    if spec.storageCapacity is None:
        spec.storageCapacity = False
    if spec.fsGroupPolicy is None:
        spec.fsGroupPolicy = "ReadWriteOnceWithFSType"
    if not spec.volumeLifecycleModes:
        spec.volumeLifecycleModes = ["Persistent"]
    if spec.requiresRepublish is None:
        spec.requiresRepublish = False
    if spec.seLinuxMount is None:
        spec.seLinuxMount = False


def _fill_event(event: events_v1.Event) -> None:
    # The core form of the same event has its source always.
    if event.deprecatedSource is None:
        event.deprecatedSource = EventSource()


DEFAULTS: dict[type[Any], Callable[[Any], None]] = {
    Service: _fill_service,
    Endpoints: _fill_endpoints,
    Secret: _fill_secret,
    PersistentVolumeClaim: _fill_claim,
    PersistentVolume: _fill_volume,
    Namespace: _fill_namespace,
    Node: _fill_node,
    ResourceQuota: _fill_quota,
    LimitRange: _fill_limit_range,
    PriorityClass: _fill_priority_class,
    StorageClass: _fill_storage_class,
    VolumeAttachment: _fill_attachment,
    CSIDriver: _fill_csi_driver,
    events_v1.Event: _fill_event,
}
