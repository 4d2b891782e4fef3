"""Dynamic resources as users ask for them: claims, their templates, device classes, and what was allocated.

device_names has the rules that slices share. Expressions are compiled here too: a selector that cannot run is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kybern.api import codec
from kybern.api.resource_v1 import (
    AllocatedDeviceStatus,
    DeviceClaim,
    DeviceClass,
    DeviceConstraint,
    DeviceRequest,
    DeviceSelector,
    DeviceToleration,
    OpaqueDeviceConfiguration,
    ResourceClaim,
    ResourceClaimTemplate,
)
from kybern.machinery import names
from kybern.machinery.status import (
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from kybern.machinery.validation import conditions, device_names, metadata, resources, rules, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_MODES = ("All", "ExactCount")
_MOST = 32  # requests, constraints, configurations, selectors, names of requests
_MOST_ALTERNATIVES = 8
_MOST_RESERVED = 256
_MOST_CONDITIONS = 8
_MOST_ADDRESSES = 16
_UNKNOWN_REQUEST = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_ONE_ATTRIBUTE = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
_ONE_REQUEST = "exactly one of `exactly` or `firstAvailable` is required"


def _fits(items: Sequence[Any], path: str, limit: int, errors: Errors) -> bool:
    """False if there are too many: then nobody looks at each."""
    if len(items) > limit:
        errors.append(too_many(path, len(items), limit))
        return False
    return True


# -- claims ------------------------------------------------------------------------------------------------------


def _check_devices(devices: DeviceClaim | None, path: str, errors: Errors) -> None:
    if devices is None:
        return
    requests = devices.requests if _fits(devices.requests, f"{path}.requests", _MOST, errors) else []
    constraints = devices.constraints if _fits(devices.constraints, f"{path}.constraints", _MOST, errors) else []
    configs = devices.config if _fits(devices.config, f"{path}.config", _MOST, errors) else []
    seen: set[str] = set()
    for i, request in enumerate(pausing(requests)):
        where = f"{path}.requests[{i}]"
        _check_request(request, where, errors)
        if request.name in seen:
            errors.append(duplicate(where, request.name))
        seen.add(request.name)
    known = {r.name for r in devices.requests}
    known |= {f"{r.name}/{sub.name}" for r in devices.requests for sub in r.firstAvailable}
    for i, constraint in enumerate(pausing(constraints)):
        _check_constraint(constraint, known, f"{path}.constraints[{i}]", errors)
    for i, config in enumerate(pausing(configs)):
        _check_requests(config.requests, known, f"{path}.config[{i}].requests", errors)
        _check_opaque(config.opaque, f"{path}.config[{i}].opaque", errors)


def _check_request(request: DeviceRequest, path: str, errors: Errors) -> None:
    rules.check_rule(request.name, f"{path}.name", names.check_label, errors)
    if request.exactly is not None and request.firstAvailable:
        shown = codec.to_json(request)
        errors.append(invalid(path, shown, f"{_ONE_REQUEST}, but multiple fields are set"))
    elif request.exactly is not None:
        _check_wanted(request.exactly, f"{path}.exactly", errors)
    elif not request.firstAvailable:
        errors.append(required(path, _ONE_REQUEST))
    elif _fits(request.firstAvailable, f"{path}.firstAvailable", _MOST_ALTERNATIVES, errors):
        seen: set[str] = set()
        for i, alternative in enumerate(pausing(request.firstAvailable)):
            where = f"{path}.firstAvailable[{i}]"
            rules.check_rule(alternative.name, f"{where}.name", names.check_label, errors)
            _check_wanted(alternative, where, errors)
            if alternative.name in seen:
                errors.append(duplicate(where, alternative.name))
            seen.add(alternative.name)


def _check_wanted(wanted: Any, path: str, errors: Errors) -> None:
    """An exact request or an alternative."""
    rules.check_name(wanted.deviceClassName, f"{path}.deviceClassName", names.check_subdomain, errors)
    _check_selectors(wanted.selectors, f"{path}.selectors", errors)
    if wanted.allocationMode == "All":
        if wanted.count:
            errors.append(invalid(f"{path}.count", wanted.count, "must not be specified when allocationMode is 'All'"))
    elif wanted.allocationMode == "ExactCount":
        if (wanted.count or 0) <= 0:
            errors.append(invalid(f"{path}.count", wanted.count or 0, "must be greater than zero"))
    else:
        errors.append(not_supported(f"{path}.allocationMode", wanted.allocationMode or "", _MODES))
    _check_tolerations(wanted.tolerations, f"{path}.tolerations", errors)


def _check_selectors(found: Sequence[DeviceSelector], path: str, errors: Errors) -> None:
    if not _fits(found, path, _MOST, errors):
        return
    for i, selector in enumerate(pausing(found)):
        where = f"{path}[{i}].cel"
        if selector.cel is None:
            errors.append(required(where))
        else:
            device_names.check_expression(selector.cel.expression, f"{where}.expression", errors)


def _check_tolerations(tolerations: Sequence[DeviceToleration], path: str, errors: Errors) -> None:
    for i, toleration in enumerate(pausing(tolerations)):
        where = f"{path}[{i}]"
        rules.check_optional(toleration.key, f"{where}.key", names.check_qualified, errors)
        match toleration.operator or "":
            case "Exists":
                if toleration.value:
                    message = "must be empty for operator `Exists`"
                    errors.append(invalid(f"{where}.value", toleration.value, message))
            case "Equal":
                rules.check_rule(toleration.value or "", f"{where}.value", names.check_label_value, errors)
            case "":
                errors.append(required(f"{where}.operator"))
            case other:
                errors.append(not_supported(f"{where}.operator", other, ("Equal", "Exists")))
        if toleration.effect and toleration.effect not in device_names.EFFECTS:
            errors.append(not_supported(f"{where}.effect", toleration.effect, device_names.EFFECTS))


def _check_constraint(constraint: DeviceConstraint, known: set[str], path: str, errors: Errors) -> None:
    _check_requests(constraint.requests, known, f"{path}.requests", errors)
    match, distinct = constraint.matchAttribute, constraint.distinctAttribute
    if match is not None:
        device_names.check_fully_qualified(match, f"{path}.matchAttribute", errors)
    elif distinct is not None:
        device_names.check_fully_qualified(distinct, f"{path}.distinctAttribute", errors)
    else:
        errors.append(required(path, _ONE_ATTRIBUTE))


def _check_requests(requests: Sequence[str], known: set[str], path: str, errors: Errors) -> None:
    """Names of requests, or of a request and one of its alternatives."""
    if not _fits(requests, path, _MOST, errors):
        return
    seen: set[str] = set()
    for i, name in enumerate(pausing(requests)):
        where = f"{path}[{i}]"
        for part in name.split("/", 1):
            rules.check_rule(part, where, names.check_label, errors)
        if name not in known:
            errors.append(invalid(where, name, _UNKNOWN_REQUEST))
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)


def _check_opaque(opaque: OpaqueDeviceConfiguration | None, path: str, errors: Errors) -> None:
    if opaque is None:
        errors.append(required(path))
        return
    device_names.check_driver(opaque.driver, f"{path}.driver", errors)
    device_names.check_object(opaque.parameters, f"{path}.parameters", errors)


def check_claim(claim: ResourceClaim, errors: Errors) -> None:
    _check_devices(claim.spec.devices, "spec.devices", errors)


def _update_claim(claim: ResourceClaim, old: ResourceClaim, errors: Errors) -> None:
    if claim.spec != old.spec:
        errors.append(invalid("spec", codec.to_json(claim.spec), rules.IMMUTABLE))


# -- templates, classes ------------------------------------------------------------------------------------------

# What the metadata of a template may not say, as upstream spells it.
_NOT_IN_TEMPLATES = {
    "name": "name", "generateName": "generateName", "namespace": "namespace", "uid": "uID",
    "resourceVersion": "resourceVersion", "generation": "generation", "creationTimestamp": "creationTimestamp",
    "deletionTimestamp": "deletionTimestamp", "deletionGracePeriodSeconds": "deletionGracePeriodSeconds",
    "selfLink": "selfLink", "finalizers": "finalizers", "ownerReferences": "ownerReferences",
    "managedFields": "managedFields",
}  # fmt: skip


def _check_template(template: ResourceClaimTemplate, errors: Errors) -> None:
    meta = template.spec.metadata
    if meta is not None:
        for field, shown in _NOT_IN_TEMPLATES.items():
            if (value := getattr(meta, field)) not in (None, "", []) and (value or field != "generation"):
                errors.append(forbidden_field(f"spec.metadata.{shown}", "cannot be set"))
        metadata.check_template(meta, "spec.metadata", errors)
    _check_devices(template.spec.spec.devices, "spec.spec.devices", errors)


def _update_template(template: ResourceClaimTemplate, old: ResourceClaimTemplate, errors: Errors) -> None:
    if template.spec != old.spec:
        errors.append(invalid("spec", codec.to_json(template.spec), rules.IMMUTABLE))
    _check_template(template, errors)


def _check_class(device_class: DeviceClass, errors: Errors) -> None:
    spec = device_class.spec
    _check_selectors(spec.selectors, "spec.selectors", errors)
    configs = spec.config if _fits(spec.config, "spec.config", _MOST, errors) else []
    for i, config in enumerate(pausing(configs)):
        _check_opaque(config.opaque, f"spec.config[{i}].opaque", errors)
    name = spec.extendedResourceName
    if name is not None and (not resources.is_extended(name) or names.check_qualified(name)):
        errors.append(invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))


# -- what was allocated ------------------------------------------------------------------------------------------


def _check_status(claim: ResourceClaim, old: ResourceClaim, errors: Errors) -> None:
    status, before = claim.status, old.status
    _fits(status.reservedFor, "status.reservedFor", _MOST_RESERVED, errors)
    seen: set[str] = set()
    for i, consumer in enumerate(pausing(status.reservedFor)):
        where = f"status.reservedFor[{i}]"
        for field in ("resource", "name", "uid"):
            rules.check_required(getattr(consumer, field), f"{where}.{field}", errors)
        if consumer.uid in seen:
            errors.append(duplicate(where, consumer.uid))
        seen.add(consumer.uid)
    if status.allocation is None:
        if status.reservedFor:
            message = "may not be specified when `allocated` is not set"
            errors.append(forbidden_field("status.reservedFor", message))
    elif before.allocation is None:
        _check_allocation(claim, errors)
    elif status.allocation != before.allocation:
        errors.append(invalid("status.allocation", codec.to_json(status.allocation), rules.IMMUTABLE))
    _check_allocated_devices(claim, old, errors)


def _check_allocation(claim: ResourceClaim, errors: Errors) -> None:
    allocation, path = claim.status.allocation, "status.allocation"
    assert allocation is not None
    wanted = claim.spec.devices
    known = {r.name for r in wanted.requests} if wanted is not None else set()
    known |= {f"{r.name}/{s.name}" for r in (wanted.requests if wanted else ()) for s in r.firstAvailable}
    if allocation.devices is not None:
        for i, result in enumerate(pausing(allocation.devices.results)):
            where = f"{path}.devices.results[{i}]"
            _check_requests([result.request], known, f"{where}.request", errors)
            device_names.check_driver(result.driver, f"{where}.driver", errors)
            device_names.check_pool(result.pool, f"{where}.pool", errors)
            rules.check_name(result.device, f"{where}.device", names.check_label, errors)
            _check_tolerations(result.tolerations, f"{where}.tolerations", errors)
        for i, config in enumerate(pausing(allocation.devices.config)):
            where = f"{path}.devices.config[{i}]"
            if not config.source:
                errors.append(required(f"{where}.source"))
            elif config.source not in ("FromClaim", "FromClass"):
                errors.append(not_supported(f"{where}.source", config.source, ("FromClaim", "FromClass")))
            _check_requests(config.requests, known, f"{where}.requests", errors)
            _check_opaque(config.opaque, f"{where}.opaque", errors)
    if allocation.nodeSelector is not None:
        selectors.check_node_selector(allocation.nodeSelector, f"{path}.nodeSelector", errors, values_are_labels=True)


def _check_allocated_devices(claim: ResourceClaim, old: ResourceClaim, errors: Errors) -> None:
    allocation = old.status.allocation if claim.status.allocation is not None else None
    allocation = allocation or claim.status.allocation
    results = allocation.devices.results if allocation is not None and allocation.devices is not None else []
    allocated = {(r.driver, r.pool, r.device, r.shareID or "") for r in results}
    seen: set[tuple[str, str, str, str]] = set()
    for i, device in enumerate(pausing(claim.status.devices)):
        where = f"status.devices[{i}]"
        device_names.check_driver(device.driver, f"{where}.driver", errors)
        device_names.check_pool(device.pool, f"{where}.pool", errors)
        rules.check_name(device.device, f"{where}.device", names.check_label, errors)
        key = (device.driver, device.pool, device.device, device.shareID or "")
        shown = {"driver": key[0], "pool": key[1], "device": key[2], "shareID": key[3]}
        if key not in allocated:
            errors.append(invalid(where, shown, "must be an allocated device in the claim"))
        if key in seen:
            errors.append(duplicate(where, shown))
        seen.add(key)
        _check_device_status(device, where, errors)


def _check_device_status(device: AllocatedDeviceStatus, path: str, errors: Errors) -> None:
    if device.shareID is not None:
        device_names.check_uid(device.shareID, f"{path}.shareID", errors)
    _fits(device.conditions, f"{path}.conditions", _MOST_CONDITIONS, errors)
    conditions.check(device.conditions, f"{path}.conditions", errors)
    if device.data is not None:
        device_names.check_object(device.data, f"{path}.data", errors)
    network = device.networkData
    if network is None:
        return
    where = f"{path}.networkData"
    for field, limit in (("interfaceName", 256), ("hardwareAddress", 128)):
        if len((getattr(network, field) or "").encode()) > limit:
            errors.append(too_long(f"{where}.{field}", limit))
    addresses = network.ips if _fits(network.ips, f"{where}.ips", _MOST_ADDRESSES, errors) else []
    seen: set[str] = set()
    for i, address in enumerate(pausing(addresses)):
        for message in device_names.interface_address_faults(address):
            errors.append(invalid(f"{where}.ips[{i}]", address, message))
        if address in seen:
            errors.append(duplicate(f"{where}.ips[{i}]", address))
        seen.add(address)


RULES: dict[type[Any], Rules] = {
    ResourceClaim: Rules(check_claim, _update_claim, _check_status),
    ResourceClaimTemplate: Rules(_check_template, _update_template),
    DeviceClass: Rules(_check_class),
}

__all__ = ["RULES"]
