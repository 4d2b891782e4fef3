"""APIServices for what this server serves itself: built-in groups at start, custom ones whenever they change. Pure.

Called by reconcile. What a person made or took over (the label is gone) is left alone. Priorities: those that a v1.36
API server registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kybern.api import codec
from kybern.api.apiregistration_v1 import APIService, APIServiceSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.aggregator.remote import GROUP, GroupVersion

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"

# Priority of a group, then of its versions where they are not the usual ones.
_GROUPS: dict[str, int] = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800,
    "storagemigration.k8s.io": 16800, "apiextensions.k8s.io": 16700, "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000,
}  # fmt: skip
_VERSIONS: dict[GroupVersion, int] = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("resource.k8s.io", "v1"): 21, ("resource.k8s.io", "v1beta2"): 15, ("resource.k8s.io", "v1alpha3"): 1,
    ("admissionregistration.k8s.io", "v1beta1"): 12, ("coordination.k8s.io", "v1beta1"): 13,
    ("coordination.k8s.io", "v1alpha2"): 12, ("certificates.k8s.io", "v1beta1"): 12,
}  # fmt: skip
_STABLE, _UNSTABLE = 15, 9
_CUSTOM = (1000, 100)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written."""

    create: tuple[APIService, ...] = ()
    update: tuple[APIService, ...] = ()
    delete: tuple[str, ...] = ()


def name_of(group_version: GroupVersion) -> str:
    """`v1.apps`; `v1.` for the core group."""
    group, version = group_version
    return f"{version}.{group}"


def priorities(group_version: GroupVersion) -> tuple[int, int]:
    """(groupPriorityMinimum, versionPriority) of a built-in group-version."""
    group, version = group_version
    usual = _UNSTABLE if "alpha" in version or "beta" in version else _STABLE
    return _GROUPS.get(group, 16000), _VERSIONS.get(group_version, usual)


def _wanted(group_version: GroupVersion, label: str) -> APIService:
    minimum, priority = priorities(group_version) if label == ON_START else _CUSTOM
    group, version = group_version
    return APIService(
        metadata=ObjectMeta(name=name_of(group_version), labels={AUTOMANAGED: label}),
        spec=APIServiceSpec(
            group=group or None, version=version, groupPriorityMinimum=minimum, versionPriority=priority
        ),
    )


def plan_built_in(served: Iterable[GroupVersion], existing: Mapping[str, APIService]) -> Plan:
    """At start: every built-in group-version has its APIService; old ones that are served no more go."""
    wanted = {name_of(gv): _wanted(gv, ON_START) for gv in served if gv[0] != GROUP}
    return _plan(wanted, existing, ON_START)


def plan_custom(definitions: Iterable[Any], existing: Mapping[str, APIService]) -> Plan:
    """Whenever definitions of custom resources change: each group-version they serve has its APIService."""
    served = {
        (d.spec.group, v.name)
        for d in definitions
        if d.metadata.deletionTimestamp is None
        for v in d.spec.versions
        if v.served
    }
    return _plan({name_of(gv): _wanted(gv, ALWAYS) for gv in sorted(served)}, existing, ALWAYS)


def _plan(wanted: Mapping[str, APIService], existing: Mapping[str, APIService], label: str) -> Plan:
    update = []
    for name, obj in wanted.items():
        found = existing.get(name)
        if found is None or found.metadata.labels.get(AUTOMANAGED) != label:
            continue  # a person's own, or one of the other kind
        if found.spec != obj.spec:
            changed = codec.clone(found)
            changed.spec = obj.spec
            update.append(changed)
    gone = [
        name
        for name, obj in existing.items()
        if obj.metadata.labels.get(AUTOMANAGED) == label and name not in wanted and obj.spec.service is None
    ]
    return Plan(tuple(o for n, o in wanted.items() if n not in existing), tuple(update), tuple(gone))
