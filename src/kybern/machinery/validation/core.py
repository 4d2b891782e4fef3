"""ConfigMaps, Secrets, Namespaces, Nodes, Endpoints, quotas, limit ranges, events."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import (
    Binding,
    ConfigMap,
    Endpoints,
    EndpointSubset,
    Event,
    EventSource,
    LimitRange,
    LimitRangeItem,
    Namespace,
    Node,
    ObjectReference,
    ResourceQuota,
    Secret,
    ServiceAccount,
    Taint,
)
from kybern.machinery import names, quantity
from kybern.machinery.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
)
from kybern.machinery.validation import metadata, resources, rules, services
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_MIB = 1024 * 1024
_SEALED = "field is immutable when `immutable` is set"


def _size(value: str | bytes) -> int:
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def _check_config_map(config_map: ConfigMap, errors: Errors) -> None:
    total = 0
    for key, text in config_map.data.items():
        rules.check_rule(key, f"data[{key}]", names.check_config_key, errors)
        if key in config_map.binaryData:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        total += _size(text)
    for key, data in config_map.binaryData.items():
        rules.check_rule(key, f"binaryData[{key}]", names.check_config_key, errors)
        total += len(data)
    if total > _MIB:
        errors.append(too_long("[]", _MIB))


def _update_config_map(config_map: ConfigMap, old: ConfigMap, errors: Errors) -> None:
    if old.immutable:
        if not config_map.immutable:
            errors.append(forbidden_field("immutable", _SEALED))
        for field in ("data", "binaryData"):
            if getattr(config_map, field) != getattr(old, field):
                errors.append(forbidden_field(field, _SEALED))
    _check_config_map(config_map, errors)


# Type -> keys it must have; for basic-auth, one of them.
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_REDACTED = "<secret contents redacted>"
_ACCOUNT = "kubernetes.io/service-account.name"


def _check_secret(secret: Secret, errors: Errors) -> None:
    total = 0
    for key, data in secret.data.items():
        rules.check_rule(key, f"data[{key}]", names.check_config_key, errors)
        total += len(data)
    if total > _MIB:
        errors.append(too_long("data", _MIB))
    kind = secret.type or ""
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in secret.data:
            errors.append(required(f"data[{key}]"))
        elif kind.startswith("kubernetes.io/docker"):
            _check_json(secret.data[key], f"data[{key}]", errors)
    if kind == "kubernetes.io/basic-auth" and not ("username" in secret.data or "password" in secret.data):
        errors.append(required("data[username]"))
        errors.append(required("data[password]"))
    if kind == "kubernetes.io/service-account-token" and not secret.metadata.annotations.get(_ACCOUNT):
        errors.append(required(f"metadata.annotations[{_ACCOUNT}]"))


def _check_json(data: bytes, path: str, errors: Errors) -> None:
    try:
        parsed = msgspec.json.decode(data)
    except msgspec.DecodeError:
        first = data.lstrip()[:1].decode("utf-8", "replace")
        what = (
            f"invalid character '{first}' looking for beginning of value" if first else "unexpected end of JSON input"
        )
        errors.append(invalid(path, _REDACTED, what))
        return
    if not isinstance(parsed, dict) and parsed is not None:
        errors.append(invalid(path, _REDACTED, "json: cannot unmarshal into Go value of type map[string]interface {}"))


def _update_secret(secret: Secret, old: Secret, errors: Errors) -> None:
    rules.check_immutable(secret.type, old.type, "type", errors)
    if old.immutable:
        if not secret.immutable:
            errors.append(forbidden_field("immutable", _SEALED))
        if secret.data != old.data:
            errors.append(forbidden_field("data", _SEALED))
    _check_secret(secret, errors)


def check_namespace_finalizers(namespace: Namespace, errors: Errors) -> None:
    """Of its spec: they hold back the end of what is in it."""
    for i, finalizer in enumerate(pausing(namespace.spec.finalizers)):
        path = f"spec.finalizers[{i}]"
        rules.check_rule(finalizer, path, names.check_qualified, errors)
        if "/" not in finalizer and finalizer not in metadata.STANDARD_FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(path, finalizer, message))


def _check_namespace(namespace: Namespace, errors: Errors) -> None:
    for finalizer in namespace.spec.finalizers:
        for message in names.check_qualified(finalizer):
            errors.append(invalid("spec.finalizers", finalizer, message))
        if "/" not in finalizer and finalizer not in ("kubernetes", "orphan", "foregroundDeletion"):
            message = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid("spec.finalizers", finalizer, message))


def _update_namespace(namespace: Namespace, old: Namespace, errors: Errors) -> None:
    """Nothing beside metadata: the strategy keeps the rest."""


def _status_of_namespace(namespace: Namespace, old: Namespace, errors: Errors) -> None:
    wanted = "Active" if namespace.metadata.deletionTimestamp is None else "Terminating"
    if namespace.status.phase != wanted:
        presence = "is empty" if wanted == "Active" else "is not empty"
        message = f"may only be '{wanted}' if `deletionTimestamp` {presence}"
        errors.append(invalid("status.Phase", namespace.status.phase, message))


EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def check_taints(taints: list[Taint], path: str, errors: Errors) -> None:
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(pausing(taints)):
        where = f"{path}[{i}]"
        rules.check_rule(taint.key, f"{where}.key", names.check_qualified, errors)
        rules.check_rule(taint.value or "", f"{where}.value", names.check_label_value, errors)
        if not taint.effect:
            errors.append(required(f"{where}.effect"))
        elif taint.effect not in EFFECTS:
            errors.append(not_supported(f"{where}.effect", taint.effect, EFFECTS))
        key = (taint.key, taint.effect)
        if key in seen:
            shown = codec.encode(taint).decode()
            message = f"Duplicate value: {shown}: taints must be unique by key and effect pair"
            errors.append(FieldError("FieldValueDuplicate", where, message))
        seen.add(key)


def _check_node_amounts(amounts: Mapping[str, str], path: str, errors: Errors) -> None:
    for name, amount in amounts.items():
        resources.check_amount(name, amount, f"{path}.{name}", errors)


def _check_node(node: Node, errors: Errors) -> None:
    check_taints(node.spec.taints, "metadata.taints", errors)
    _check_node_amounts(node.status.capacity, "status.capacity", errors)
    _check_node_amounts(node.status.allocatable, "status.allocatable", errors)
    for i, cidr in enumerate(pausing(node.spec.podCIDRs)):
        rules.check_cidr(cidr, f"spec.podCIDRs[{i}]", errors)
    if len(node.spec.podCIDRs) > 1:
        networks = [rules.parse_cidr(c) for c in node.spec.podCIDRs]
        if len(networks) > 2 or None in networks or len({n.version for n in networks if n}) == 1:
            message = "may specify no more than one CIDR for each IP family"
            errors.append(invalid("spec.podCIDRs", node.spec.podCIDRs, message))
    _check_features(node.status.declaredFeatures, "status.declaredFeatures", errors)


_is_feature = re.compile(r"[A-Z][A-Za-z0-9]*(/[A-Za-z0-9]+)*").fullmatch
_BAD_FEATURE = (
    "must start with an UpperCamelCase segment, with subsequent segments separated by '/' "
    "(e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
)


def _check_features(features: Sequence[str], path: str, errors: Errors) -> None:
    for i, feature in enumerate(pausing(features)):
        where = f"{path}[{i}]"
        if len(feature) > 253:
            message = f'invalid feature name "{feature}": {names.too_many_characters(253)}'
            errors.append(invalid(where, feature, message))
        elif not _is_feature(feature):
            errors.append(invalid(where, feature, f'invalid feature name "{feature}": {_BAD_FEATURE}'))
        if i and feature == features[i - 1]:
            errors.append(duplicate(where, feature))
        elif i and feature < features[i - 1]:
            errors.append(invalid(where, feature, "list must be sorted alphabetically"))


def _update_node(node: Node, old: Node, errors: Errors) -> None:
    _check_node(node, errors)
    spec, before = node.spec, old.spec
    if before.podCIDRs and spec.podCIDRs != before.podCIDRs:
        errors.append(forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
    if before.providerID and spec.providerID != before.providerID:
        message = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden_field("spec.providerID", message))
    if spec.externalID != before.externalID:
        errors.append(forbidden_field("spec.externalID", "may not be updated"))


def _status_of_node(node: Node, old: Node, errors: Errors) -> None:
    _check_node_amounts(node.status.capacity, "status.capacity", errors)
    _check_node_amounts(node.status.allocatable, "status.allocatable", errors)
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate(pausing(node.status.addresses)):
        key = (address.type, address.address)
        if key in seen:
            errors.append(duplicate(f"status.addresses[{i}]", codec.to_json(address)))
        seen.add(key)
    _check_features(node.status.declaredFeatures, "status.declaredFeatures", errors)


def _check_endpoints(endpoints: Endpoints, errors: Errors) -> None:
    for i, subset in enumerate(pausing(endpoints.subsets)):
        _check_subset(subset, f"subsets[{i}]", errors)


def _check_subset(subset: EndpointSubset, path: str, errors: Errors) -> None:
    if not subset.addresses and not subset.notReadyAddresses:
        errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for field in ("addresses", "notReadyAddresses"):
        for i, address in enumerate(getattr(subset, field)):
            where = f"{path}.{field}[{i}]"
            services.check_usable_ip(address.ip, f"{where}.ip", errors)
            if rules.parse_ip(address.ip) is None:
                errors.append(invalid(f"{where}.ip", address.ip, "must be a valid IP address"))
            rules.check_optional(address.hostname, f"{where}.hostname", names.check_label, errors)
            if address.nodeName is not None:
                rules.check_rule(address.nodeName, f"{where}.nodeName", names.check_subdomain, errors)
    for i, port in enumerate(pausing(subset.ports)):
        where = f"{path}.ports[{i}]"
        if port.name:
            rules.check_rule(port.name, f"{where}.name", names.check_label, errors)
        elif len(subset.ports) > 1:
            errors.append(required(f"{where}.name"))
        rules.check_port(port.port, f"{where}.port", errors)
        if port.protocol not in ("SCTP", "TCP", "UDP"):
            errors.append(not_supported(f"{where}.protocol", port.protocol or "", ("SCTP", "TCP", "UDP")))
        if port.appProtocol is not None:
            rules.check_rule(port.appProtocol, f"{where}.appProtocol", names.check_qualified, errors)


# -- quotas ------------------------------------------------------------------------------------------------------

_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_SCOPES = (
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)  # fmt: skip
_QUOTA = _COMPUTE | frozenset(
    {
        "ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage", "requests.storage", "pods",
        "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims",
        "services.nodeports", "services.loadbalancers",
    }
)  # fmt: skip
_EXISTS_ONLY = frozenset({"Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity"})
_MUST_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def _is_standard(name: str) -> bool:
    return name in _QUOTA or resources.is_huge_page(name) or name.startswith("requests.hugepages-")


def _check_quota_name(name: str, path: str, errors: Errors) -> None:
    faults = names.check_qualified(name)
    for message in faults:
        errors.append(invalid(path, name, message))
    if "/" not in name and not _is_standard(name):
        if not faults and name not in resources.STANDARD:
            errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
        errors.append(invalid(path, name, "must be a standard resource for quota"))


def _check_quota_amounts(amounts: Mapping[str, str], path: str, errors: Errors) -> None:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        _check_quota_name(name, where, errors)
        resources.check_amount(name, amount, where, errors)


def _check_quota(quota: ResourceQuota, errors: Errors) -> None:
    spec = quota.spec
    _check_quota_amounts(spec.hard, "spec.hard", errors)
    if spec.scopes:
        _check_scopes(spec.scopes, spec.hard, "spec.scopes", errors)
    if spec.scopeSelector is not None:
        _check_scope_selector(quota, "spec.scopeSelector.matchExpressions", errors)


def _fits(scope: str, name: str) -> bool:
    """Whether a scope can narrow the counting of a resource."""
    if scope == "BestEffort":
        return name == "pods"
    if scope in ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"):
        return name in _COMPUTE or name == "pods" or "/" in name or name.endswith("ephemeral-storage")
    return True


def _check_scopes(scopes: list[str], hard: Mapping[str, str], path: str, errors: Errors) -> None:
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid(path, scopes, "unsupported scope"))
        elif any(not _fits(scope, name) for name in hard if _is_standard(name)):
            errors.append(invalid(path, scopes, "unsupported scope applied to resource"))
    for one, other in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if one in scopes and other in scopes:
            errors.append(invalid(path, scopes, "conflicting scopes"))


def _check_scope_selector(quota: ResourceQuota, path: str, errors: Errors) -> None:
    selector = quota.spec.scopeSelector
    assert selector is not None
    for requirement in selector.matchExpressions:
        if requirement.scopeName not in _SCOPES:
            errors.append(invalid(f"{path}.scopeName", requirement.scopeName, "unsupported scope"))
        elif requirement.scopeName in _EXISTS_ONLY and requirement.operator != "Exists":
            errors.append(invalid(f"{path}.operator", requirement.operator, _MUST_EXIST))
        if requirement.scopeName in _SCOPES and any(
            not _fits(requirement.scopeName, name) for name in quota.spec.hard if _is_standard(name)
        ):
            shown = codec.to_json(selector)
            errors.append(invalid(path, shown, "unsupported scope applied to resource"))
        match requirement.operator:
            case "In" | "NotIn":
                if not requirement.values:
                    message = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                    errors.append(required(f"{path}.values", message))
            case "Exists" | "DoesNotExist":
                if requirement.values:
                    message = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                    errors.append(invalid(f"{path}.values", requirement.values, message))
            case _:
                errors.append(invalid(f"{path}.operator", requirement.operator, "not a valid selector operator"))


def _update_quota(quota: ResourceQuota, old: ResourceQuota, errors: Errors) -> None:
    _check_quota(quota, errors)
    if sorted(quota.spec.scopes) != sorted(old.spec.scopes):
        errors.append(invalid("spec.scopes", quota.spec.scopes, rules.IMMUTABLE))


def _status_of_quota(quota: ResourceQuota, old: ResourceQuota, errors: Errors) -> None:
    _check_quota_amounts(quota.status.hard, "status.hard", errors)
    _check_quota_amounts(quota.status.used, "status.used", errors)


# -- limit ranges ------------------------------------------------------------------------------------------------


def _check_limit_range(limit_range: LimitRange, errors: Errors) -> None:
    seen: set[str] = set()
    for i, item in enumerate(pausing(limit_range.spec.limits)):
        path = f"spec.limits[{i}]"
        faults = names.check_qualified(item.type)
        for message in faults:
            errors.append(invalid(f"{path}.type", item.type, message))
        if not faults and "/" not in item.type and item.type not in ("Pod", "Container", "PersistentVolumeClaim"):
            message = "must be a standard limit type or fully qualified"
            errors.append(invalid(f"{path}.type", item.type, message))
        if item.type in seen:
            errors.append(duplicate(f"{path}.type", item.type))
        seen.add(item.type)
        _check_limits(item, path, errors)


def _check_limits(item: LimitRangeItem, path: str, errors: Errors) -> None:
    lists: tuple[str, ...] = ("max", "min", "maxLimitRequestRatio")
    if item.type == "Pod":
        for field in ("default", "defaultRequest"):
            if getattr(item, field):
                errors.append(forbidden_field(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
    else:
        lists = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
    if item.type == "PersistentVolumeClaim" and "storage" not in item.min and "storage" not in item.max:
        message = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", message))
    for field in lists:
        for name in getattr(item, field):
            where = f"{path}.{field}[{name}]"
            if item.type in ("Pod", "Container"):
                resources.check_container_name(name, where, errors)
            else:
                resources.check_name(name, where, errors)
    mentioned = dict.fromkeys(name for field in lists for name in getattr(item, field))
    for name in mentioned:
        _check_limit(item, name, path, errors)


def _check_limit(item: LimitRangeItem, name: str, path: str, errors: Errors) -> None:
    most, least, ratio = item.max.get(name), item.min.get(name), item.maxLimitRequestRatio.get(name)
    default, request = item.default.get(name), item.defaultRequest.get(name)
    if item.type == "Pod":
        default = request = None

    def exceeds(one: str | None, other: str | None) -> bool:
        return one is not None and other is not None and quantity.compare(one, other) > 0

    if exceeds(least, most):
        errors.append(invalid(f"{path}.min[{name}]", least, f"min value {least} is greater than max value {most}"))
    where = f"{path}.defaultRequest[{name}]"
    if exceeds(least, request):
        message = f"min value {least} is greater than default request value {request}"
        errors.append(invalid(where, request, message))
    if exceeds(request, most):
        errors.append(invalid(where, request, f"default request value {request} is greater than max value {most}"))
    if exceeds(request, default):
        message = f"default request value {request} is greater than default limit value {default}"
        errors.append(invalid(where, request, message))
    where = f"{path}.default[{name}]"
    if exceeds(least, default):
        errors.append(invalid(where, least, f"min value {least} is greater than default value {default}"))
    if exceeds(default, most):
        errors.append(invalid(where, most, f"default value {default} is greater than max value {most}"))
    if ratio is not None:
        where = f"{path}.maxLimitRequestRatio[{name}]"
        if quantity.nano(ratio) < 10**9:
            errors.append(invalid(where, ratio, f"ratio {ratio} is less than 1"))
        if most is not None and least is not None and quantity.nano(least) > 0:
            bound = quantity.nano(most) / quantity.nano(least)
            if quantity.nano(ratio) / 10**9 > bound:
                errors.append(invalid(where, ratio, f"ratio {ratio} is greater than max/min = {bound:f}"))
    if resources.is_overcommitable(name) or default is None or request is None:
        return
    if quantity.compare(default, request) != 0:
        message = f"default value {default} must equal to defaultRequest value {request} in {name}"
        errors.append(invalid(f"{path}.defaultRequest[{name}]", request, message))


# -- events ------------------------------------------------------------------------------------------------------


def _check_event(event: Event, errors: Errors) -> None:
    _check_any_event(event, "reportingComponent", errors)


_LONGEST_NOTE = 1024


def _check_any_event(event: Event, controller: str, errors: Errors) -> None:
    """`controller`: what the version calls the field that is reportingComponent in v1."""
    subject, namespace = event.involvedObject.namespace or "", event.metadata.namespace
    usual = ("", "default") if event.eventTime is None else ("", "default", "kube-system")
    if (event.eventTime is None or not subject) and subject != namespace and (subject or namespace not in usual):
        errors.append(invalid("involvedObject.namespace", subject, "does not match event.namespace"))
    if event.eventTime is None:
        return
    reporter = event.reportingComponent or ""
    if not reporter:
        errors.append(required(controller))
    rules.check_rule(reporter, controller, names.check_qualified, errors)
    for name in ("reportingInstance", "action", "reason"):
        value = getattr(event, name)
        if not value:
            errors.append(required(name))
        elif len(value) > 128:
            errors.append(invalid(name, "", "can have at most 128 characters"))
    if len(event.message or "") > _LONGEST_NOTE:
        errors.append(invalid("message", "", f"can have at most {_LONGEST_NOTE} characters"))


_EVENT_FIXED = (
    "involvedObject", "reason", "reportingInstance", "action", "related", "type", "eventTime", "message", "count",
    "firstTimestamp", "lastTimestamp", "source",
)  # fmt: skip


_REFERENCE = ("Kind", "Namespace", "Name", "UID", "APIVersion", "ResourceVersion", "FieldPath")


def _as_upstream_shows(field: str, value: Any) -> Any:
    """A value of an event in the words of upstream's internal version."""
    if isinstance(value, (ObjectReference, EventSource)):
        names = _REFERENCE if isinstance(value, ObjectReference) else ("Component", "Host")
        told = {key.lower(): inner for key, inner in codec.to_json(value).items()}
        return {name: told.get(name.lower(), "") for name in names}
    return value or 0 if field == "count" else value


def _check_newer_event(event: Event, old: Event | None, errors: Errors) -> None:
    """As events.k8s.io wants them: with their time, without the old fields, and fixed but for the series."""
    if old is not None:
        _check_any_event(event, "reportingController", errors)
        metadata.check_strictly(event.metadata, errors, is_new=False)
        rules.check_immutable(event.reportingComponent, old.reportingComponent, "reportingController", errors)
        for field in _EVENT_FIXED:
            value = getattr(event, field)
            if not rules.is_same(value, getattr(old, field)):
                errors.append(invalid(field, _as_upstream_shows(field, value), rules.IMMUTABLE))
        if event.series != old.series:
            _check_series(event, errors)
        return
    metadata.check_strictly(event.metadata, errors, is_new=True)
    if event.eventTime is None:
        errors.append(required("eventTime"))
    if event.type not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {event.type or ''}"))
    if event.eventTime is not None:
        _check_any_event(event, "reportingController", errors)
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if getattr(event, field):
            errors.append(invalid(field, "", "needs to be unset"))
    if event.source is not None and (event.source.component or event.source.host):
        errors.append(invalid("source", "", "needs to be unset"))
    _check_series(event, errors)


def _check_series(event: Event, errors: Errors) -> None:
    if event.series is not None:
        if (event.series.count or 0) < 2:
            errors.append(invalid("series.count", "", "should be at least 2"))
        if event.series.lastObservedTime is None:
            errors.append(required("series.lastObservedTime"))


def _nothing(obj: Any, errors: Errors) -> None:
    """Metadata only."""


# Versions of kinds that are stored as another, less demanding one: checks of the stored form, and of its predecessor.
VERSION_RULES: dict[tuple[str, str], Callable[[Any, Any | None, Errors], None]] = {
    ("events.k8s.io/v1", "Event"): _check_newer_event,
}

RULES: dict[type[Any], Rules] = {
    ConfigMap: Rules(_check_config_map, _update_config_map),
    Secret: Rules(_check_secret, _update_secret),
    ServiceAccount: Rules(_nothing),
    Namespace: Rules(_check_namespace, _update_namespace, _status_of_namespace),
    Node: Rules(_check_node, _update_node, _status_of_node),
    Endpoints: Rules(_check_endpoints),
    ResourceQuota: Rules(_check_quota, _update_quota, _status_of_quota),
    LimitRange: Rules(_check_limit_range),
    Event: Rules(_check_event),
    Binding: Rules(_nothing),
}
