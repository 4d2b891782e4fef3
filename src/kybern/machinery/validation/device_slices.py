"""ResourceSlices: the devices that a driver offers, with attributes, capacities, counters and taints.

Beside device_claims; device_names has what both share. Amounts are compared in billionths, as quantities are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kybern.api import codec
from kybern.api.resource_v1 import (
    CapacityRequestPolicy,
    CapacityRequestPolicyRange,
    Counter,
    Device,
    DeviceAttribute,
    DeviceTaint,
    ResourceSlice,
    ResourceSliceSpec,
)
from kybern.machinery import names, quantity
from kybern.machinery.status import (
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from kybern.machinery.validation import device_names, rules, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

_MOST_DEVICES = 128
_MOST_SPECIAL_DEVICES = 64  # with taints or counters
_MOST_COUNTER_SETS = 8
_MOST_COUNTERS = 32
_MOST_CONSUMED = 2
_MOST_TAINTS = 16
_MOST_CONDITIONS = 4
_MOST_PROPERTIES = 32
_MOST_OPTIONS = 10
_VALUE_LENGTH = 64
# https://semver.org, without a leading v.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?"
).fullmatch
_OF_SLICE = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_OF_DEVICE = ("nodeName", "nodeSelector", "allNodes")
_ONE_OF_SLICE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_OF_DEVICE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_NOT_OF_DEVICE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)
_WRONG_DEFAULT = "default value is not valid according to the requestPolicy"


def check_create(resource_slice: ResourceSlice, errors: Errors) -> None:
    spec = resource_slice.spec
    device_names.check_driver(spec.driver, "spec.driver", errors)
    _check_pool(spec, errors)
    _check_nodes(spec, _OF_SLICE, "spec", errors, _ONE_OF_SLICE, f"{_ONE_OF_SLICE}, but multiple fields are set")
    if spec.sharedCounters and spec.devices:
        errors.append(invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    special = any(d.taints or d.consumesCounters for d in spec.devices)
    limit = _MOST_SPECIAL_DEVICES if special else _MOST_DEVICES
    if len(spec.devices) > limit:
        errors.append(too_many("spec.devices", len(spec.devices), limit))
    _check_unique([d.name for d in spec.devices[:limit]], "spec.devices", errors)
    for i, device in enumerate(spec.devices[:limit]):
        _check_device(device, spec, f"spec.devices[{i}]", errors)
    _check_counter_sets(spec, errors)


def _check_pool(spec: ResourceSliceSpec, errors: Errors) -> None:
    pool = spec.pool
    device_names.check_pool(pool.name, "spec.pool.name", errors)
    if pool.resourceSliceCount <= 0:
        errors.append(invalid("spec.pool.resourceSliceCount", pool.resourceSliceCount, "must be greater than zero"))
    if pool.generation < 0:
        errors.append(invalid("spec.pool.generation", pool.generation, "must be greater than or equal to zero"))


def _check_nodes(
    holder: Any, fields: Sequence[str], path: str, errors: Errors, none_message: str, many_message: str
) -> None:
    """Exactly one way to say on which nodes devices are."""
    chosen = []
    for field in fields:
        value = getattr(holder, field)
        if value is None:
            continue
        if field == "nodeName":
            if not value:
                errors.append(invalid(f"{path}.nodeName", value, "must be either unset or set to a non-empty string"))
                continue
            rules.check_rule(value, f"{path}.nodeName", names.check_subdomain, errors)
        elif field == "nodeSelector":
            selectors.check_node_selector(value, f"{path}.nodeSelector", errors, values_are_labels=True)
            if isinstance(holder, ResourceSliceSpec):
                _check_one_term(value, f"{path}.nodeSelector", errors)
        elif not value:
            errors.append(invalid(f"{path}.{field}", value, "must be either unset or set to true"))
            continue
        chosen.append(field)
    if not chosen:
        errors.append(required(path, none_message))
    elif len(chosen) > 1:
        shown = ", ".join(f"`{field}`" for field in chosen)
        errors.append(invalid(path, f"{{{shown}}}", many_message))


def _check_one_term(selector: Any, path: str, errors: Errors) -> None:
    if len(selector.nodeSelectorTerms) != 1:
        shown = codec.to_json(selector.nodeSelectorTerms)
        errors.append(invalid(f"{path}.nodeSelectorTerms", shown, "must have exactly one node selector term"))


def _check_unique(found: Sequence[str], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, name in enumerate(pausing(found)):
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)


def _check_device(device: Device, spec: ResourceSliceSpec, path: str, errors: Errors) -> None:
    rules.check_rule(device.name, f"{path}.name", names.check_label, errors)
    if len(device.attributes) + len(device.capacity) > _MOST_PROPERTIES:
        count = len(device.attributes) + len(device.capacity)
        message = f"the total number of attributes and capacities must not exceed {_MOST_PROPERTIES}"
        errors.append(invalid(path, count, message))
    for name, attribute in device.attributes.items():
        device_names.check_qualified(name, f"{path}.attributes", errors)
        _check_attribute(attribute, f"{path}.attributes[{name}]", errors)
    for name, capacity in device.capacity.items():
        device_names.check_qualified(name, f"{path}.capacity", errors)
        if capacity.requestPolicy is not None:
            where = f"{path}.capacity[{name}].requestPolicy"
            if not device.allowMultipleAllocations:
                errors.append(forbidden_field(where, "allowMultipleAllocations must be true"))
            else:
                _check_policy(capacity.requestPolicy, capacity.value or "0", where, errors)
    if spec.perDeviceNodeSelection:
        _check_nodes(device, _OF_DEVICE, path, errors, _ONE_OF_DEVICE, _ONE_OF_DEVICE)
    elif any(getattr(device, field) is not None for field in _OF_DEVICE):
        errors.append(invalid(path, "", _NOT_OF_DEVICE))
    _check_taints(device.taints, f"{path}.taints", errors)
    _check_consumed(device, f"{path}.consumesCounters", errors)
    _check_binding(device, path, errors)


def _check_attribute(attribute: DeviceAttribute, path: str, errors: Errors) -> None:
    if attribute.string is not None and len(attribute.string.encode()) > _VALUE_LENGTH:
        errors.append(too_long(f"{path}.string", _VALUE_LENGTH))
    if attribute.version is not None:
        if not _SEMVER(attribute.version):
            message = "must be a string compatible with semver.org spec 2.0.0"
            errors.append(invalid(f"{path}.version", attribute.version, message))
        if len(attribute.version.encode()) > _VALUE_LENGTH:
            errors.append(too_long(f"{path}.version", _VALUE_LENGTH))
    count = sum(v is not None for v in (attribute.bool_, attribute.int_, attribute.string, attribute.version))
    if count != 1:
        shown = codec.to_json(attribute) if count else ""
        errors.append(invalid(path, shown, "exactly one value must be specified"))


# -- capacities --------------------------------------------------------------------------------------------------


def _check_policy(policy: CapacityRequestPolicy, capacity: str, path: str, errors: Errors) -> None:
    """How a capacity may be shared out: by a list of amounts or a range of them."""
    if policy.validValues and policy.validRange is not None:
        message = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        errors.append(forbidden_field(path, message))
    elif policy.validRange is not None:
        _check_range(policy.default, policy.validRange, capacity, path, errors)
    elif policy.validValues:
        _check_options(policy.default, policy.validValues, capacity, path, errors)
    elif policy.default is not None and quantity.compare(policy.default, capacity) > 0:
        message = f"default is larger than capacity value: {capacity}"
        errors.append(invalid(f"{path}.default", policy.default, message))


def _check_options(default: str | None, options: Sequence[str], capacity: str, path: str, errors: Errors) -> None:
    where = f"{path}.validValues"
    if default is None:
        errors.append(required(f"{path}.default", "required when validValues is defined"))
    if len(options) > _MOST_OPTIONS:
        errors.append(too_many(where, len(options), _MOST_OPTIONS))
    seen: set[int] = set()
    previous: int | None = None
    for i, option in enumerate(options[:_MOST_OPTIONS]):
        amount = quantity.nano(option)
        if quantity.compare(option, capacity) > 0:
            errors.append(invalid(f"{where}[{i}]", option, f"option is larger than capacity value: {capacity}"))
        if amount in seen:
            errors.append(duplicate(f"{where}[{i}]", str(quantity.value(option))))
        if previous is not None and amount < previous:
            errors.append(invalid(f"{where}[{i}]", option, "values must be sorted in ascending order"))
        seen.add(amount)
        previous = amount
    if default is not None and quantity.nano(default) not in seen:
        errors.append(invalid(where, default, _WRONG_DEFAULT))


def _check_range(
    default: str | None, allowed: CapacityRequestPolicyRange, capacity: str, path: str, errors: Errors
) -> None:
    where = f"{path}.validRange"
    low, high, step = allowed.min, allowed.max, allowed.step
    if default is None:
        errors.append(required(f"{path}.default", "required when validRange is defined"))
    if low is None:
        errors.append(required(f"{where}.min", "required when validRange is defined"))
        return
    if quantity.compare(low, capacity) > 0:
        errors.append(invalid(f"{where}.min", low, f"min is larger than capacity value: {capacity}"))
    if default is not None and quantity.compare(default, low) < 0:
        errors.append(invalid(f"{where}.min", default, f"default is less than min: {low}"))
    if high is not None:
        if quantity.compare(low, high) > 0:
            errors.append(invalid(f"{where}.max", low, f"min is larger than max: {high}"))
        if quantity.compare(high, capacity) > 0:
            errors.append(invalid(f"{where}.max", high, f"max is larger than capacity value: {capacity}"))
        if default is not None and quantity.compare(default, high) > 0:
            errors.append(invalid(f"{where}.max", default, f"default is more than max: {high}"))
    if step is not None:
        _check_step(default, low, high, step, capacity, f"{where}.step", errors)


def _check_step(
    default: str | None, low: str, high: str | None, step: str, capacity: str, path: str, errors: Errors
) -> None:
    one = quantity.add(low, step)
    if quantity.compare(one, capacity) > 0:
        errors.append(invalid(path, step, f"one step {one} is larger than capacity value: {capacity}"))
    # Upstream counts in whole units here.
    start, size = quantity.value(low), quantity.value(step)
    above = default is not None and high is not None and quantity.compare(default, high) > 0
    for amount in (high, None if above else default):
        if amount is not None and size and (quantity.value(amount) - start) % size:
            message = f"value is not a multiple of a given step ({step}) from ({low})"
            errors.append(invalid(path, amount, message))


# -- taints, counters, conditions --------------------------------------------------------------------------------


def _check_taints(taints: Sequence[DeviceTaint], path: str, errors: Errors) -> None:
    if len(taints) > _MOST_TAINTS:
        errors.append(too_many(path, len(taints), _MOST_TAINTS))
    for i, taint in enumerate(taints[:_MOST_TAINTS]):
        where = f"{path}[{i}]"
        rules.check_rule(taint.key, f"{where}.key", names.check_qualified, errors)
        if taint.value:
            rules.check_rule(taint.value, f"{where}.value", names.check_label_value, errors)
        if not taint.effect:
            errors.append(required(f"{where}.effect"))
        elif taint.effect not in device_names.EFFECTS:
            errors.append(not_supported(f"{where}.effect", taint.effect, device_names.EFFECTS))


def _check_counters(counters: Mapping[str, Counter], path: str, errors: Errors) -> None:
    if not counters:
        errors.append(required(path))
    if len(counters) > _MOST_COUNTERS:
        errors.append(too_many(path, len(counters), _MOST_COUNTERS))
    for name in counters:
        rules.check_rule(name, path, names.check_label, errors)


def _check_consumed(device: Device, path: str, errors: Errors) -> None:
    consumed = device.consumesCounters
    if len(consumed) > _MOST_CONSUMED:
        errors.append(too_many(path, len(consumed), _MOST_CONSUMED))
        return
    _check_unique([c.counterSet for c in consumed], path, errors)
    for i, consumption in enumerate(pausing(consumed)):
        where = f"{path}[{i}]"
        rules.check_name(consumption.counterSet, f"{where}.counterSet", names.check_label, errors)
        _check_counters(consumption.counters, f"{where}.counters", errors)


def _check_counter_sets(spec: ResourceSliceSpec, errors: Errors) -> None:
    sets, path = spec.sharedCounters, "spec.sharedCounters"
    if len(sets) > _MOST_COUNTER_SETS:
        errors.append(too_many(path, len(sets), _MOST_COUNTER_SETS))
        return
    _check_unique([s.name for s in sets], path, errors)
    for i, counters in enumerate(pausing(sets)):
        rules.check_name(counters.name, f"{path}[{i}].name", names.check_label, errors)
        _check_counters(counters.counters, f"{path}[{i}].counters", errors)


def _check_binding(device: Device, path: str, errors: Errors) -> None:
    """Conditions to wait for before a pod is bound come with those that say it will not be."""
    good, bad = device.bindingConditions, device.bindingFailureConditions
    for field, found in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        where = f"{path}.{field}"
        if len(found) > _MOST_CONDITIONS:
            errors.append(too_many(where, len(found), _MOST_CONDITIONS))
        _check_unique(found, where, errors)
        for i, condition in enumerate(pausing(found)):
            rules.check_rule(condition, f"{where}[{i}]", names.check_qualified, errors)
    if good and not bad:
        message = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid(f"{path}.bindingFailureConditions", bad, message))
    if bad and not good:
        message = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid(f"{path}.bindingConditions", good, message))


def _update(resource_slice: ResourceSlice, old: ResourceSlice, errors: Errors) -> None:
    check_create(resource_slice, errors)
    spec, before = resource_slice.spec, old.spec
    rules.check_immutable(spec.driver, before.driver, "spec.driver", errors)
    rules.check_immutable(spec.pool.name, before.pool.name, "spec.pool.name", errors)
    rules.check_immutable(spec.nodeName, before.nodeName, "spec.nodeName", errors)


RULES: dict[type[Any], Rules] = {ResourceSlice: Rules(check_create, _update)}
