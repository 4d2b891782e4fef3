"""What a quota counts, and how much of it there is. Pure.

Fed by reconcile with the objects of a namespace. What one object takes is said in machinery/usage, which admission
reads too: both must agree, or a namespace could take more than it may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kybern.api.core_v1 import PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus
from kybern.api.resource_v1 import ResourceClaim
from kybern.machinery import usage

_CORE = frozenset({"configmaps", "secrets", "resourcequotas", "replicationcontrollers"})
_COUNT = "count/"
_CLASS = ".storageclass.storage.k8s.io/"
DEVICE_CLAIMS = "resourceclaims.resource.k8s.io"


def sources_of(name: str) -> tuple[str, ...]:
    """The resources (as `plural.group`) whose objects a name of a quota is about; () if it is about none."""
    if name.startswith(_COUNT):
        return (name.removeprefix(_COUNT),)
    if name in _CORE:
        return (name,)
    if name in ("persistentvolumeclaims", "requests.storage") or _CLASS in name:
        return ("persistentvolumeclaims",)
    if name == "services" or name.startswith("services."):
        return ("services",)
    if name.endswith(usage.DEVICES):
        return (DEVICE_CLAIMS,)
    if name.startswith(usage.IMPLICIT):
        return ("pods", DEVICE_CLAIMS)
    side, dot, rest = name.partition(".")
    resource = rest if dot and side in ("requests", "limits") else name
    if resource in ("pods", "cpu", "memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return ("pods",)
    # An extended resource: quotas know only what is requested of it, by pods or as devices of a class that is one.
    return ("pods", DEVICE_CLAIMS) if is_extended(name) else ()


def is_extended(name: str) -> bool:
    side, _, rest = name.partition(".")
    return side == "requests" and "/" in rest and not name.startswith(usage.IMPLICIT)


def sources(quota: ResourceQuota) -> set[str]:
    """The resources that have to be counted."""
    return {source for name in quota.spec.hard for source in sources_of(name)}


def plan_status(
    quota: ResourceQuota, objects: Mapping[str, Sequence[Any]], classes: Mapping[str, str | None]
) -> ResourceQuotaStatus:
    """The status of a quota in a namespace of these objects, by source. A source left out is one that is not known.

    `classes` are those of devices, with the extended resource that each stands for.
    """
    pods = {(pod.metadata.name, pod.metadata.uid) for pod in objects.get("pods", ())} if classes else set()
    known = {name: of for name in quota.spec.hard if (of := sources_of(name)) and objects.keys() >= set(of)}
    totals = dict.fromkeys(known, 0)
    for source, found in objects.items():
        names = [name for name, of in known.items() if source in of]
        for obj in found:
            if not usage.matches_scopes(quota.spec, obj):
                continue
            taken = usage.usage(source, obj)
            if classes and isinstance(obj, ResourceClaim):
                taken |= usage.extended_usage(obj, classes.get, lambda name, uid: (name, uid) in pods)
            for name in names:
                totals[name] += taken.get(name, 0)
    used = {name: usage.render(name, total) for name, total in totals.items()}
    return ResourceQuotaStatus(hard=dict(quota.spec.hard), used=used)


def is_outdated(quota: ResourceQuota) -> bool:
    """The status is about another spec."""
    return quota.status.hard != quota.spec.hard


def has_freed(source: str, old: Any, new: Any) -> bool:
    """Whether a change may have left more to others. What is added was counted by admission, before it was written."""
    if old is None:
        return False
    if new is None:
        return True
    if isinstance(new, Pod) and usage.is_over(new):
        return not usage.is_over(old)
    if source in ("pods", "services", "persistentvolumeclaims"):
        return usage.usage(source, old) != usage.usage(source, new) or _has_moved(old, new)
    return False


def _has_moved(old: Any, new: Any) -> bool:
    """From the scope of one quota to that of another: only these fields of scopes can change."""
    if isinstance(new, Pod):
        return (old.spec.activeDeadlineSeconds is None) != (new.spec.activeDeadlineSeconds is None)
    if isinstance(new, PersistentVolumeClaim):
        return usage.attributes_classes(old) != usage.attributes_classes(new)
    return False
