"""Resource names and amounts: requests and limits of containers and pods, quotas, limit ranges, overhead."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence

from kybern.api.core_v1 import ResourceRequirements
from kybern.machinery import names, quantity
from kybern.machinery.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
)
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

HUGE_PAGES = "hugepages-"
_REQUESTS = "requests."
_CONTAINER = frozenset({"cpu", "memory", "ephemeral-storage"})
# Names without a domain that mean something somewhere.
STANDARD = _CONTAINER | {
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers", "storage", "requests.cpu", "requests.memory", "requests.storage",
    "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
}  # fmt: skip
# Counts of things: an amount of these is a whole number.
_COUNTED = frozenset(
    {
        "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps",
        "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
    }
)  # fmt: skip


def is_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_native(name: str) -> bool:
    """Without a domain, or in kubernetes.io."""
    return "/" not in name or "kubernetes.io/" in name


@functools.lru_cache(maxsize=1024)
def is_extended(name: str) -> bool:
    """`example.com/gpu`: anything with a foreign domain that still makes a label when prefixed by "requests."."""
    return not is_native(name) and not name.startswith(_REQUESTS) and not names.check_qualified(_REQUESTS + name)


@functools.lru_cache(maxsize=1024)
def is_integer(name: str) -> bool:
    """Amounts of it are whole."""
    return name in _COUNTED or is_extended(name)


def is_overcommitable(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


@functools.lru_cache(maxsize=1024)
def _container_name_faults(name: str) -> tuple[FieldError, ...]:
    """With "" for the path: what is wrong with a resource's name in a container, whatever the amount."""
    errors: Errors = []
    rules.check_rule(name, "", names.check_qualified, errors)
    if errors:
        if "/" not in name and not is_huge_page(name):
            errors.append(invalid("", name, "must be a standard resource for containers"))
        return tuple(errors)
    if "/" not in name:
        if name not in STANDARD and not is_huge_page(name):
            errors.append(invalid("", name, "must be a standard resource type or fully qualified"))
        if name not in _CONTAINER and not is_huge_page(name):
            errors.append(invalid("", name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid("", name, "doesn't follow extended resource name standard"))
    return tuple(errors)


def check_name(name: str, path: str, errors: Errors) -> None:
    """A resource of anything: a known one, or one with a domain."""
    faults = names.check_qualified(name)
    for message in faults:
        errors.append(invalid(path, name, message))
    if not faults and "/" not in name and name not in STANDARD and not is_huge_page(name):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))


def check_container_name(name: str, path: str, errors: Errors) -> None:
    for fault in _container_name_faults(name):
        errors.append(FieldError(fault.reason, path, fault.message))


def check_amount(name: str, amount: str, path: str, errors: Errors) -> None:
    """Not negative, and whole where it counts something."""
    nano = quantity.nano(amount)
    if nano < 0:
        errors.append(invalid(path, amount, "must be greater than or equal to 0"))
    if is_integer(name) and nano % 10**9:
        errors.append(invalid(path, amount, "must be an integer"))


def check_not_negative(amount: str, path: str, errors: Errors) -> None:
    if quantity.nano(amount) < 0:
        errors.append(invalid(path, amount, "must be greater than or equal to 0"))


def _check_huge_page(name: str, amount: str, path: str, errors: Errors) -> None:
    try:
        size = quantity.nano(name[len(HUGE_PAGES) :])
    except ValueError:
        size = 0
    if size <= 0 or quantity.nano(amount) % size:
        errors.append(invalid(path, amount, f"{amount} is not positive integer multiple of {name}"))


def _check_list(amounts: Mapping[str, str], path: str, errors: Errors, pod_level: bool) -> None:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        if pod_level and not (name in ("cpu", "memory") or is_huge_page(name)):
            faults = names.check_qualified(name)
            if faults:
                errors.extend(invalid(where, name, message) for message in faults)
            elif "/" not in name and name not in STANDARD:
                errors.append(invalid(where, name, "must be a standard resource type or fully qualified"))
            else:
                errors.append(not_supported(where, name, ("cpu", "hugepages-", "memory")))
        else:
            check_container_name(name, where, errors)
        check_amount(name, amount, where, errors)
        if is_huge_page(name):
            _check_huge_page(name, amount, where, errors)


def check_requirements(
    requirements: ResourceRequirements, claims: Collection[str], path: str, errors: Errors, *, pod_level: bool = False
) -> None:
    """`claims`: the names in the pod's resourceClaims."""
    limits, requests = requirements.limits, requirements.requests
    if limits:
        _check_list(limits, f"{path}.limits", errors, pod_level)
    if requests:
        _check_list(requests, f"{path}.requests", errors, pod_level)
        for name, amount in requests.items():
            _check_request(name, amount, limits, path, errors)
    _check_company((*limits, *requests), path, errors)
    if requirements.claims:
        _check_claims(requirements, claims, f"{path}.claims", errors)


def _check_company(resources: Sequence[str], path: str, errors: Errors) -> None:
    if any(is_huge_page(n) for n in resources) and not ("cpu" in resources or "memory" in resources):
        errors.append(forbidden_field(path, "HugePages require cpu or memory"))


def _check_request(name: str, amount: str, limits: Mapping[str, str], path: str, errors: Errors) -> None:
    if name in limits:
        limit = limits[name]
        if is_overcommitable(name):
            if quantity.compare(amount, limit) > 0:
                message = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid(f"{path}.requests", amount, message))
        elif quantity.compare(amount, limit) != 0:
            errors.append(invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}"))
    elif not is_overcommitable(name):
        errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))


def _check_claims(requirements: ResourceRequirements, claims: Collection[str], path: str, errors: Errors) -> None:
    seen: dict[str, None] = {}  # names of claims as a whole, and "name/request"
    for i, claim in enumerate(pausing(requirements.claims)):
        where = f"{path}[{i}]"
        if not claim.name:
            errors.append(required(where))
            continue
        if claim.name in seen:
            errors.append(duplicate(where, claim.name))
        else:
            key = f"{claim.name}/{claim.request}" if claim.request else claim.name
            rules.check_optional(claim.request, f"{where}.request", names.check_label, errors)
            if key in seen:
                errors.append(duplicate(where, key))
            elif not claim.request:
                overlapping = [k for k in seen if k.startswith(f"{claim.name}/")]
                errors.extend(duplicate(where, claim.name) for _ in overlapping)
            seen[key] = None
        if claim.name not in claims:
            errors.append(_unknown_claim(where, claim.name, claims))


def _unknown_claim(path: str, name: str, claims: Collection[str]) -> FieldError:
    shown = "which is empty" if not claims else ": " + ", ".join(sorted(claims))
    detail = "must be one of the names in pod.spec.resourceClaims"
    text = f'Not found: "{name}": {detail} {shown}' if not claims else f'Not found: "{name}": {detail}{shown}'
    return FieldError("FieldValueNotFound", path, text)


def check_overhead(overhead: Mapping[str, str], path: str, errors: Errors) -> None:
    _check_list(overhead, f"{path}.limits", errors, pod_level=False)
    _check_company(tuple(overhead), path, errors)


def supported(value: str, path: str, choices: Sequence[str], errors: Errors) -> None:
    if value not in choices:
        errors.append(not_supported(path, value, choices))
