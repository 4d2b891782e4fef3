"""What an object takes from a quota, and which quotas it counts against. Pure, in nano-units.

Read by admission/resource_quota (what a write would add) and the quota controller (what there is); LimitRanger reads
the sums of a pod. Source: "Resource Quotas" and "Resource sharing within containers" in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kybern.api import scalars
from kybern.api.core_v1 import (
    Container,
    PersistentVolumeClaim,
    Pod,
    ResourceQuota,
    ResourceQuotaSpec,
    ResourceRequirements,
    ScopedResourceSelectorRequirement,
    Service,
)
from kybern.api.resource_v1 import ResourceClaim
from kybern.api.scalars import Quantity
from kybern.machinery import qos, quantity

Amounts = dict[str, int]  # resource name -> nano-units
ONE = 10**9

# Core kinds that are also counted under their own name; all others only as count/<resource>.<group>.
_COUNTED_BY_NAME = frozenset(
    {"pods", "services", "configmaps", "secrets", "resourcequotas", "replicationcontrollers", "persistentvolumeclaims"}
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"
DEVICES = ".deviceclass.resource.k8s.io/devices"
IMPLICIT = "requests.deviceclass.resource.kubernetes.io/"  # devices of a class, by whichever way they are asked for
# On a claim that the scheduler makes for what a pod asks for as an extended resource.
EXTENDED_CLAIM = "resource.kubernetes.io/extended-resource-claim"
_MOST_DEVICES = 32  # that one claim may be given
_POD_SCOPES = frozenset(
    {"Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"}
)


def usage(group_resource: str, obj: Any) -> Amounts:
    """All that one object takes, under every name a quota may have for it."""
    if isinstance(obj, Pod):
        return _pod_usage(obj)
    counted = {f"count/{group_resource}": ONE}
    if group_resource in _COUNTED_BY_NAME:
        counted[group_resource] = ONE
    if isinstance(obj, Service):
        counted |= _service_usage(obj)
    elif isinstance(obj, PersistentVolumeClaim):
        counted |= _claim_usage(obj)
    elif isinstance(obj, ResourceClaim):
        counted |= _device_usage(obj)
    return counted


def pod_requests(pod: Pod) -> Amounts:
    """What a pod requests: the larger of what runs together and of what any init container needs, with overhead."""
    total = _pod_sum(pod, lambda r: r.requests)
    _add(total, pod.spec.overhead)
    return total


def pod_limits(pod: Pod) -> Amounts:
    """The same for limits; a container without one counts as none, and overhead only where there is a limit."""
    total = _pod_sum(pod, lambda r: r.limits)
    _add(total, {name: amount for name, amount in pod.spec.overhead.items() if name in total})
    return total


def render(name: str, nano: int) -> Quantity:
    """An amount of a resource as people write it: memory and storage in Ki, Mi, ..., all else in decimals."""
    binary = any(word in name for word in ("memory", "storage", "hugepages-"))
    return Quantity(scalars.render_quantity(nano, "binary" if binary else "decimal"))


def missing(pod: Pod, hard: Iterable[str]) -> dict[str, list[str]]:
    """Names of containers that must say how much of a resource they use, by name in the quota, and do not."""
    wanted = [(name, *_split_compute(name)) for name in hard]
    needed = [(name, side, resource) for name, side, resource in wanted if resource in ("cpu", "memory")]
    found: dict[str, list[str]] = {}
    whole = pod.spec.resources
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        for name, side, resource in needed:
            amounts = container.resources.limits if side == "limits" else container.resources.requests
            of_pod = (whole.limits if side == "limits" else whole.requests) if whole is not None else {}
            if resource not in amounts and resource not in of_pod:
                found.setdefault(name, []).append(container.name)
    return found


def is_over(pod: Pod) -> bool:
    """A pod that has run to its end takes nothing any more."""
    return pod.status.phase in ("Failed", "Succeeded")


def matches_scopes(spec: ResourceQuotaSpec, obj: Any) -> bool:
    """Whether an object is among those a quota is for. A quota with scopes is for pods (or claims) only."""
    requirements = [ScopedResourceSelectorRequirement(scopeName=s, operator="Exists") for s in spec.scopes]
    if spec.scopeSelector is not None:
        requirements += spec.scopeSelector.matchExpressions
    return all(_matches_scope(r, obj) for r in requirements)


def attributes_classes(claim: PersistentVolumeClaim) -> tuple[str, ...]:
    """All classes of attributes a claim counts for: the one it wants, has, and is on its way to; ("",) for none."""
    status = claim.status
    target = status.modifyVolumeStatus.targetVolumeAttributesClassName if status.modifyVolumeStatus else None
    names = (claim.spec.volumeAttributesClassName, status.currentVolumeAttributesClassName, target)
    return tuple(dict.fromkeys(name for name in names if name)) or ("",)


def is_relevant(quota: ResourceQuota, names: Iterable[str]) -> bool:
    """Whether the quota limits any of these names."""
    hard = quota.status.hard
    return any(name in hard for name in names)


def _pod_usage(pod: Pod) -> Amounts:
    counted = {"count/pods": ONE}
    if is_over(pod):
        return counted
    counted["pods"] = ONE
    for resource, amount in pod_requests(pod).items():
        if resource in _COMPUTE or resource.startswith("hugepages-"):
            counted[resource] = amount
            counted[f"requests.{resource}"] = amount
        elif "/" in resource and not resource.startswith("kubernetes.io/"):  # an extended resource
            counted[f"requests.{resource}"] = amount
    for resource, amount in pod_limits(pod).items():
        if resource in _COMPUTE:
            counted[f"limits.{resource}"] = amount
    return counted


def _service_usage(service: Service) -> Amounts:
    spec = service.spec
    kind = spec.type or "ClusterIP"
    counted = {}
    if kind == "LoadBalancer":
        counted["services.loadbalancers"] = ONE
    if kind == "NodePort" or (kind == "LoadBalancer" and spec.allocateLoadBalancerNodePorts is not False):
        counted["services.nodeports"] = len(spec.ports) * ONE
    elif kind == "LoadBalancer":
        ports = sum(1 for p in spec.ports if p.nodePort)
        if ports:
            counted["services.nodeports"] = ports * ONE
    return counted


def _claim_usage(claim: PersistentVolumeClaim) -> Amounts:
    asked = claim.spec.resources.requests.get("storage")
    storage = quantity.nano(asked) if asked is not None else 0
    counted = {"requests.storage": storage}
    name = claim.spec.storageClassName
    if name:
        counted[f"{name}{_STORAGE_CLASS}persistentvolumeclaims"] = ONE
        counted[f"{name}{_STORAGE_CLASS}requests.storage"] = storage
    return counted


def extended_usage(
    claim: ResourceClaim, name_of: Callable[[str], str | None], is_there: Callable[[str, str], bool]
) -> Amounts:
    """What a claim takes of extended resources, by the classes that stand for one.

    `name_of` gives the extended resource of a class, `is_there` whether a pod of a name and uid exists: a claim that
    was made for the extended resources of a pod takes nothing, as the pod itself was charged.
    """
    if claim.metadata.annotations.get(EXTENDED_CLAIM) == "true":
        owner = next((o for o in claim.metadata.ownerReferences if o.controller), None)
        if owner is not None and owner.kind == "Pod" and is_there(owner.name, owner.uid):
            return {}
    total: Amounts = {}
    for name, count in _devices(claim).items():
        extended = name_of(name)
        if extended:
            total[f"requests.{extended}"] = total.get(f"requests.{extended}", 0) + count * ONE
    return total


def _device_usage(claim: ResourceClaim) -> Amounts:
    total = _devices(claim)
    counted = {f"{name}{DEVICES}": count * ONE for name, count in total.items()}
    return counted | {f"{IMPLICIT}{name}": count * ONE for name, count in total.items()}


def _devices(claim: ResourceClaim) -> dict[str, int]:
    """Devices by class, at the most: of alternatives the largest of each class, of "all" as many as fit a claim."""
    total: dict[str, int] = {}
    for request in claim.spec.devices.requests if claim.spec.devices is not None else ():
        most: dict[str, int] = {}
        for one in (request.exactly, *request.firstAvailable):
            if one is not None:
                count = _MOST_DEVICES if one.allocationMode == "All" else one.count or 1
                most[one.deviceClassName] = max(count, most.get(one.deviceClassName, 0))
        for name, count in most.items():
            total[name] = total.get(name, 0) + count
    return total


def _pod_sum(pod: Pod, pick: Callable[[ResourceRequirements], Mapping[str, str]]) -> Amounts:
    spec = pod.spec
    total: Amounts = {}
    for container in spec.containers:
        _add(total, pick(container.resources))
    if spec.initContainers:
        total = _with_init(total, spec.initContainers, pick)
    if spec.resources is not None:
        for name, amount in pick(spec.resources).items():
            total[name] = quantity.nano(amount)
    return total


def _with_init(
    regular: Amounts, init: Iterable[Container], pick: Callable[[ResourceRequirements], Mapping[str, str]]
) -> Amounts:
    """Sidecars run with all that come after them; other init containers alone with the sidecars before them."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in init:
        if container.restartPolicy == "Always":
            _add(sidecars, pick(container.resources))
            _raise_to(peak, sidecars)
        else:
            alone = dict(sidecars)
            _add(alone, pick(container.resources))
            _raise_to(peak, alone)
    for name, amount in sidecars.items():
        regular[name] = regular.get(name, 0) + amount
    _raise_to(regular, peak)
    return regular


def _add(total: Amounts, amounts: Mapping[str, str]) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, 0) + quantity.nano(amount)


def _raise_to(total: Amounts, other: Amounts) -> None:
    for name, amount in other.items():
        if amount > total.get(name, -1):
            total[name] = amount


def _split_compute(name: str) -> tuple[str, str]:
    """("limits", "cpu") of `limits.cpu`; bare names are requests."""
    side, dot, resource = name.partition(".")
    return (side, resource) if dot and side in ("requests", "limits") else ("requests", name)


def _matches_scope(r: ScopedResourceSelectorRequirement, obj: Any) -> bool:
    if r.scopeName == "VolumeAttributesClass":
        names = attributes_classes(obj) if isinstance(obj, PersistentVolumeClaim) else ()
        return any(_matches_value(r, name) for name in names)
    if not isinstance(obj, Pod) or r.scopeName not in _POD_SCOPES:
        return False
    match r.scopeName:
        case "Terminating" | "NotTerminating":
            ends = obj.spec.activeDeadlineSeconds is not None
            return ends == (r.scopeName == "Terminating")
        case "BestEffort" | "NotBestEffort":
            return (qos.class_of(obj) == "BestEffort") == (r.scopeName == "BestEffort")
        case "PriorityClass":
            return _matches_value(r, obj.spec.priorityClassName or "")
        case _:
            return _crosses_namespaces(obj)


def _matches_value(r: ScopedResourceSelectorRequirement, value: str) -> bool:
    match r.operator:
        case "In":
            return value in r.values
        case "NotIn":
            return value not in r.values
        case "Exists":
            return bool(value)
        case "DoesNotExist":
            return not value
    return False


def _crosses_namespaces(pod: Pod) -> bool:
    affinity = pod.spec.affinity
    if affinity is None:
        return False
    for side in (affinity.podAffinity, affinity.podAntiAffinity):
        if side is None:
            continue
        terms = list(side.requiredDuringSchedulingIgnoredDuringExecution)
        terms += [w.podAffinityTerm for w in side.preferredDuringSchedulingIgnoredDuringExecution]
        if any(t.namespaces or t.namespaceSelector is not None for t in terms):
            return True
    return False
