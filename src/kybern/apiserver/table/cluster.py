"""Rows of the cluster itself: nodes, namespaces, events, roles, leases, certificates, extensions."""

from __future__ import annotations

import datetime
from typing import Any

from kybern.apiserver.table.column import (
    CREATED_AT,
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    Printer,
    age,
    human,
    integer,
    printer,
    since,
)

_ROLE = "node-role.kubernetes.io/"


def _node(obj: Any, now: datetime.datetime) -> list[Any]:
    ready = next((c.status for c in obj.status.conditions if c.type == "Ready"), None)
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    if obj.spec.unschedulable:
        status += ",SchedulingDisabled"
    roles = {k.removeprefix(_ROLE) for k in obj.metadata.labels if k.startswith(_ROLE) and k != _ROLE}
    roles |= {v for k, v in obj.metadata.labels.items() if k == "kubernetes.io/role" and v}
    addresses = {a.type: a.address for a in reversed(obj.status.addresses)}
    info = obj.status.nodeInfo
    kernel = info.kernelVersion or UNKNOWN
    if info.kernelVersion and info.architecture:
        kernel = f"{info.kernelVersion} ({info.architecture})"
    return [
        obj.metadata.name,
        status,
        ",".join(sorted(roles)) or NONE,
        age(obj, now),
        info.kubeletVersion,
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.osImage or UNKNOWN,
        kernel,
        info.containerRuntimeVersion or UNKNOWN,
    ]


def _namespace(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.status.phase or "Active", age(obj, now)]


def _event(obj: Any, now: datetime.datetime) -> list[Any]:
    core = hasattr(obj, "involvedObject")
    target = obj.involvedObject if core else obj.regarding
    source = obj.source if core else obj.deprecatedSource
    first = obj.firstTimestamp if core else obj.deprecatedFirstTimestamp
    last = obj.lastTimestamp if core else obj.deprecatedLastTimestamp
    count = obj.count if core else obj.deprecatedCount
    message = (obj.message if core else obj.note) or ""
    component = (obj.reportingComponent if core else obj.reportingController) or ""
    first_seen = since(first or obj.eventTime, now)
    last_seen = since(last or obj.eventTime, now) if last or obj.eventTime else first_seen
    if obj.series is not None:
        last_seen = since(obj.series.lastObservedTime, now)
        count = obj.series.count
    elif not count:
        count = 1
    shown = f"{(target.kind or '').lower()}/{target.name}" if target is not None and target.name else ""
    instance = obj.reportingInstance or ""
    if source is not None and (source.component or source.host):
        where = f"{source.component or ''}, {source.host}" if source.host else source.component
    else:
        where = ", ".join(filter(None, (component, instance)))
    return [
        last_seen,
        obj.type or "",
        obj.reason or "",
        shown or (target.kind or "").lower(),
        (target.fieldPath or "") if target is not None else "",
        where,
        message.strip(),
        first_seen,
        count,
        obj.metadata.name,
    ]


def _account(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, age(obj, now)]


def _created_at(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.metadata.creationTimestamp]


def _binding(obj: Any, now: datetime.datetime) -> list[Any]:
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.subjects:
        name = f"{subject.namespace or ''}/{subject.name}" if subject.kind == "ServiceAccount" else subject.name
        by_kind.setdefault(subject.kind, []).append(name)
    return [
        obj.metadata.name,
        f"{obj.roleRef.kind}/{obj.roleRef.name}",
        age(obj, now),
        *(", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _lease(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.spec.holderIdentity or "", age(obj, now)]


def _request(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    types = {c.type for c in obj.status.conditions}
    condition = "Approved" if "Approved" in types else "Denied" if "Denied" in types else "Pending"
    if "Failed" in types:
        condition += ",Failed"
    if obj.status.certificate:
        condition += ",Issued"
    seconds = spec.expirationSeconds
    duration = NONE
    if seconds is not None:
        duration = human(datetime.timedelta(seconds=seconds))
    return [obj.metadata.name, age(obj, now), spec.signerName or NONE, spec.username or "", duration, condition]


def _definition(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.metadata.creationTimestamp]


def _service(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    where = f"{spec.service.namespace}/{spec.service.name}" if spec.service is not None else "Local"
    available = next((c for c in obj.status.conditions if c.type == "Available"), None)
    text = UNKNOWN
    if available is not None:
        text = available.status if available.status == "True" else f"{available.status} ({available.reason})"
    return [obj.metadata.name, where, text, age(obj, now)]


def _component(obj: Any, now: datetime.datetime) -> list[Any]:
    healthy = next((c for c in obj.conditions if c.type == "Healthy"), None)
    if healthy is None:
        return [obj.metadata.name, "Unknown", "", ""]
    status = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.status, "Unknown")
    return [obj.metadata.name, status, healthy.message or "", healthy.error or ""]


def _hooks(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, len(obj.webhooks), age(obj, now)]


def _policy(obj: Any, now: datetime.datetime) -> list[Any]:
    kind = obj.spec.paramKind
    shown = f"{kind.apiVersion}/{kind.kind}" if kind is not None else UNSET
    count = len(obj.spec.validations) if hasattr(obj.spec, "validations") else len(obj.spec.mutations)
    return [obj.metadata.name, count, shown, age(obj, now)]


def _selector(selector: Any) -> str:
    """As Go prints the struct, which is what upstream shows."""
    labels = "".join(f"{key}: {value}," for key, value in sorted(selector.matchLabels.items()))
    wanted = "".join(
        f"LabelSelectorRequirement{{Key:{e.key},Operator:{e.operator},Values:[{' '.join(e.values)}],}},"
        for e in selector.matchExpressions
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{wanted}}},}}"
    )


def _policy_binding(obj: Any, now: datetime.datetime) -> list[Any]:
    ref = obj.spec.paramRef
    shown = UNSET
    if ref is not None:
        if ref.name:
            shown = f"{ref.namespace or '*'}/{ref.name}"
        elif ref.selector is not None:
            shown = _selector(ref.selector)
    return [obj.metadata.name, obj.spec.policyName, shown, age(obj, now)]


def _lease_candidate(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    return [obj.metadata.name, spec.leaseName, spec.binaryVersion, spec.emulationVersion or "", age(obj, now)]


def _storage_version(obj: Any, now: datetime.datetime) -> list[Any]:
    status = obj.status
    common = status.commonEncodingVersion or UNSET
    versions = ",".join(f"{s.apiServerID}={s.encodingVersion}" for s in status.storageVersions) or UNSET
    return [obj.metadata.name, common, versions, age(obj, now)]


_BOUND = ("Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+")
PRINTERS: dict[str, Printer] = {
    "nodes": printer(
        _node,
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
        "Internal-IP+",
        "External-IP+",
        "OS-Image+",
        "Kernel-Version+",
        "Container-Runtime+",
    ),
    "namespaces": printer(_namespace, "Name", "Status", "Age"),
    "events": printer(
        _event,
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "Subobject+",
        "Source+",
        "Message",
        "First Seen+",
        "Count+",
        Column("Name", format="name", priority=1),
    ),
    "serviceaccounts": printer(_account, "Name", "Age"),
    "roles.rbac.authorization.k8s.io": printer(_created_at, "Name", CREATED_AT),
    "clusterroles.rbac.authorization.k8s.io": printer(_created_at, "Name", CREATED_AT),
    "rolebindings.rbac.authorization.k8s.io": printer(_binding, *_BOUND),
    "clusterrolebindings.rbac.authorization.k8s.io": printer(_binding, *_BOUND),
    "leases.coordination.k8s.io": printer(_lease, "Name", "Holder", "Age"),
    "certificatesigningrequests.certificates.k8s.io": printer(
        _request, "Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"
    ),
    "customresourcedefinitions.apiextensions.k8s.io": printer(_definition, "Name", CREATED_AT),
    "apiservices.apiregistration.k8s.io": printer(_service, "Name", "Service", "Available", "Age"),
    "leasecandidates.coordination.k8s.io": printer(
        _lease_candidate, "Name", "LeaseName", "BinaryVersion", "EmulationVersion", "Age"
    ),
    "storageversions.internal.apiserver.k8s.io": printer(
        _storage_version, "Name", "CommonEncodingVersion", "StorageVersions", "Age"
    ),
    "componentstatuses": printer(_component, "Name", "Status", "Message", "Error"),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": printer(_hooks, "Name", integer("Webhooks"), "Age"),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": printer(_hooks, "Name", integer("Webhooks"), "Age"),
    "validatingadmissionpolicies.admissionregistration.k8s.io": printer(
        _policy, "Name", integer("Validations"), "ParamKind", "Age"
    ),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": printer(
        _policy, "Name", integer("Mutations"), "ParamKind", "Age"
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": printer(
        _policy_binding, "Name", "PolicyName", "ParamRef", "Age"
    ),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": printer(
        _policy_binding, "Name", "PolicyName", "ParamRef", "Age"
    ),
}
