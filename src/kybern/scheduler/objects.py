"""What the scheduler sees of the cluster's objects: lean Structs, so that a pod costs a tenth of its full form.

Decoded by client/informer through the shapes below; read by snapshot and plugins. Fields that are not named here never
leave the wire.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kybern.api import codec, core_v1, meta_v1, storage_v1
from kybern.api.scalars import Int32, Quantity, Time
from kybern.client.shapes import Shape
from kybern.machinery import scheme

T = TypeVar("T")
ANONYMOUS = "default-scheduler"


class OwnerView(msgspec.Struct):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class MetaView(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    labels: dict[str, str] = {}
    creationTimestamp: Time | None = None
    deletionTimestamp: Time | None = None


class ContainerView(msgspec.Struct):
    image: str | None = None
    ports: list[core_v1.ContainerPort] = []
    resources: core_v1.ResourceRequirements = msgspec.field(default_factory=core_v1.ResourceRequirements)
    restartPolicy: str | None = None
    name: str = ""


class EphemeralView(msgspec.Struct):
    pass


class ImageVolumeView(msgspec.Struct):
    reference: str | None = None


class VolumeView(msgspec.Struct):
    name: str = ""
    persistentVolumeClaim: core_v1.PersistentVolumeClaimVolumeSource | None = None
    ephemeral: EphemeralView | None = None
    image: ImageVolumeView | None = None


class SpecView(msgspec.Struct):
    nodeName: str | None = None
    schedulerName: str | None = None
    priority: Int32 | None = None
    preemptionPolicy: str | None = None
    containers: list[ContainerView] = []
    initContainers: list[ContainerView] = []
    overhead: dict[str, Quantity] = {}
    resources: core_v1.ResourceRequirements | None = None
    nodeSelector: dict[str, str] = {}
    affinity: core_v1.Affinity | None = None
    tolerations: list[core_v1.Toleration] = []
    topologySpreadConstraints: list[core_v1.TopologySpreadConstraint] = []
    schedulingGates: list[core_v1.PodSchedulingGate] = []
    volumes: list[VolumeView] = []
    hostNetwork: bool | None = None


class ContainerStatusView(msgspec.Struct):
    name: str = ""
    allocatedResources: dict[str, Quantity] = {}
    resources: core_v1.ResourceRequirements | None = None


class ConditionView(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class StatusView(msgspec.Struct):
    phase: str | None = None
    nominatedNodeName: str | None = None
    startTime: Time | None = None
    conditions: list[ConditionView] = []
    containerStatuses: list[ContainerStatusView] = []
    initContainerStatuses: list[ContainerStatusView] = []


class PodView(msgspec.Struct):
    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: SpecView = msgspec.field(default_factory=SpecView)
    status: StatusView = msgspec.field(default_factory=StatusView)


class NodeSpecView(msgspec.Struct):
    taints: list[core_v1.Taint] = []
    unschedulable: bool | None = None


class NodeStatusView(msgspec.Struct):
    allocatable: dict[str, Quantity] = {}
    capacity: dict[str, Quantity] = {}
    images: list[core_v1.ContainerImage] = []


class NodeView(msgspec.Struct):
    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: NodeSpecView = msgspec.field(default_factory=NodeSpecView)
    status: NodeStatusView = msgspec.field(default_factory=NodeStatusView)


class NamespaceView(msgspec.Struct):
    metadata: MetaView = msgspec.field(default_factory=MetaView)


class ServiceSpecView(msgspec.Struct):
    selector: dict[str, str] = {}


class ServiceView(msgspec.Struct):
    """Of services and replication controllers."""

    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: ServiceSpecView = msgspec.field(default_factory=ServiceSpecView)


class SetSpecView(msgspec.Struct):
    selector: meta_v1.LabelSelector | None = None


class SetView(msgspec.Struct):
    """Of replica sets and stateful sets."""

    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: SetSpecView = msgspec.field(default_factory=SetSpecView)


class BudgetStatusView(msgspec.Struct):
    disruptionsAllowed: Int32 | None = None
    disruptedPods: dict[str, Time] = {}


class BudgetView(msgspec.Struct):
    """Of pod disruption budgets."""

    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: SetSpecView = msgspec.field(default_factory=SetSpecView)
    status: BudgetStatusView = msgspec.field(default_factory=BudgetStatusView)


class VolumeClaimMeta(MetaView):
    annotations: dict[str, str] = {}
    ownerReferences: list[OwnerView] = []


class ClaimView(msgspec.Struct):
    metadata: VolumeClaimMeta = msgspec.field(default_factory=VolumeClaimMeta)
    spec: core_v1.PersistentVolumeClaimSpec = msgspec.field(default_factory=core_v1.PersistentVolumeClaimSpec)
    status: core_v1.PersistentVolumeClaimStatus = msgspec.field(default_factory=core_v1.PersistentVolumeClaimStatus)


class DriverView(msgspec.Struct):
    driver: str = ""


class VolumeSpecView(msgspec.Struct):
    accessModes: list[str] = []
    capacity: dict[str, Quantity] = {}
    claimRef: core_v1.ObjectReference | None = None
    csi: DriverView | None = None
    nodeAffinity: core_v1.VolumeNodeAffinity | None = None
    storageClassName: str | None = None
    volumeMode: str | None = None


class PhaseView(msgspec.Struct):
    phase: str | None = None


class PersistentVolumeView(msgspec.Struct):
    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: VolumeSpecView = msgspec.field(default_factory=VolumeSpecView)
    status: PhaseView = msgspec.field(default_factory=PhaseView)


class ClassView(msgspec.Struct):
    metadata: VolumeClaimMeta = msgspec.field(default_factory=VolumeClaimMeta)
    provisioner: str = ""
    volumeBindingMode: str | None = None
    allowedTopologies: list[core_v1.TopologySelectorTerm] = []


class CsiNodeView(msgspec.Struct):
    metadata: MetaView = msgspec.field(default_factory=MetaView)
    spec: storage_v1.CSINodeSpec = msgspec.field(default_factory=storage_v1.CSINodeSpec)


def _shape(view: type[T], group: str, version: str, plural: str) -> Shape[T]:
    resource = scheme.resource_for(group, version, plural)
    assert resource is not None, plural
    return Shape(resource, lambda data: codec.decode_pruned(view, data)[0])


PODS = _shape(PodView, "", "v1", "pods")
NODES = _shape(NodeView, "", "v1", "nodes")
NAMESPACES = _shape(NamespaceView, "", "v1", "namespaces")
SERVICES = _shape(ServiceView, "", "v1", "services")
REPLICATION_CONTROLLERS = _shape(ServiceView, "", "v1", "replicationcontrollers")
REPLICA_SETS = _shape(SetView, "apps", "v1", "replicasets")
STATEFUL_SETS = _shape(SetView, "apps", "v1", "statefulsets")
BUDGETS = _shape(BudgetView, "policy", "v1", "poddisruptionbudgets")
CLAIMS = _shape(ClaimView, "", "v1", "persistentvolumeclaims")
VOLUMES = _shape(PersistentVolumeView, "", "v1", "persistentvolumes")
CLASSES = _shape(ClassView, "storage.k8s.io", "v1", "storageclasses")
CSI_NODES = _shape(CsiNodeView, "storage.k8s.io", "v1", "csinodes")
