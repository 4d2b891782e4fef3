"""What a kubelet may say of a pod: addresses, conditions, containers, claims.

Called by pods for writes to the status subresource.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kybern.api.core_v1 import Container, ContainerStatus, Pod, ResourceStatus
from kybern.machinery import names
from kybern.machinery.status import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_HIGHEST_ID = 2**31 - 1
_NOT_NEGATIVE = "must be a non-negative integer"
_STATUSES = (
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
)


def check(pod: Pod, old: Pod, errors: Errors) -> None:
    status = pod.status
    rules.check_optional(status.nominatedNodeName, "status.nominatedNodeName", names.check_subdomain, errors)
    nominated = status.nominatedNodeName != old.status.nominatedNodeName and bool(status.nominatedNodeName)
    if nominated and pod.spec.nodeName:
        message = "may not be set on pods that are already bound to a node"
        errors.append(forbidden_field("status.nominatedNodeName", message))
    if status.observedGeneration is not None and status.observedGeneration < 0:
        errors.append(invalid("status.observedGeneration", status.observedGeneration, _NOT_NEGATIVE))
    for i, condition in enumerate(pausing(status.conditions)):
        where = f"status.conditions[{i}]"
        rules.check_rule(condition.type, f"{where}.Type", names.check_qualified, errors)
        if condition.observedGeneration is not None and condition.observedGeneration < 0:
            errors.append(invalid(f"{where}.observedGeneration", condition.observedGeneration, _NOT_NEGATIVE))
    _check_ips([p.ip for p in status.podIPs], "status.podIPs", errors)
    if status.hostIPs:
        if status.hostIPs[0].ip != (status.hostIP or ""):
            errors.append(invalid("status.hostIPs[0].ip", status.hostIPs[0].ip, "must be equal to `hostIP`"))
        _check_ips([h.ip for h in status.hostIPs], "status.hostIPs", errors)
    for field, holder in _STATUSES:
        statuses: list[ContainerStatus] = getattr(status, field)
        if statuses:
            _check_containers(pod, old, field, statuses, getattr(pod.spec, holder), errors)
    if old.status.qosClass and status.qosClass != old.status.qosClass:
        errors.append(invalid("status.qosClass", status.qosClass, rules.IMMUTABLE))
    _check_claims(pod, errors)
    if status.extendedResourceClaimStatus is not None:
        _check_extended(pod, errors)


def _check_containers(
    pod: Pod, old: Pod, field: str, statuses: list[ContainerStatus], specs: Sequence[Any], errors: Errors
) -> None:
    by_name = {c.name: c for c in specs}
    if field != "ephemeralContainerStatuses" and old.spec.restartPolicy != "Always":
        _check_no_revival(pod, old, field, by_name, errors)
    for i, status in enumerate(pausing(statuses)):
        where = f"status.{field}[{i}]"
        if status.user is not None:
            _check_user(pod, status, f"{where}.user.linux", errors)
        for k, resource in enumerate(pausing(status.allocatedResourcesStatus)):
            _check_resource(resource, by_name.get(status.name), f"{where}.allocatedResourcesStatus[{k}]", errors)


def _check_user(pod: Pod, status: ContainerStatus, path: str, errors: Errors) -> None:
    linux = status.user.linux if status.user is not None else None
    if linux is None:
        return
    if pod.spec.os is not None and pod.spec.os.name == "windows":
        errors.append(forbidden_field(path, "cannot be set for a windows pod"))
    rules.check_range(linux.uid, f"{path}.uid", 0, _HIGHEST_ID, errors)
    rules.check_range(linux.gid, f"{path}.gid", 0, _HIGHEST_ID, errors)
    for i, group in enumerate(pausing(linux.supplementalGroups)):
        rules.check_range(group, f"{path}.supplementalGroups[{i}]", 0, _HIGHEST_ID, errors)


def _check_resource(resource: ResourceStatus, spec: Any, path: str, errors: Errors) -> None:
    """A resource that a container holds, and how its parts are."""
    if isinstance(spec, Container):
        claims = spec.resources.claims
        amounts = {**spec.resources.requests, **spec.resources.limits}
        if resource.name.startswith("claim:"):
            known = {f"claim:{c.name}/{c.request}" if c.request else f"claim:{c.name}" for c in claims}
            if resource.name not in known:
                message = (
                    "must match one of the container's resource claims in a format "
                    "'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
                )
                errors.append(invalid(f"{path}.name", resource.name, message))
        elif resource.name not in amounts:
            message = "must match one of the container's resource requests"
            errors.append(invalid(f"{path}.name", resource.name, message))
    seen: set[str] = set()
    for i, part in enumerate(pausing(resource.resources)):
        if part.resourceID in seen:
            errors.append(duplicate(f"{path}.resources[{i}].resourceID", part.resourceID))
        seen.add(part.resourceID)
        if part.health not in _HEALTH:
            errors.append(not_supported(f"{path}.resources[{i}].health", part.health or "", _HEALTH))


def _check_claims(pod: Pod, errors: Errors) -> None:
    claims = {c.name for c in pod.spec.resourceClaims}
    seen: set[str] = set()
    for i, claim in enumerate(pausing(pod.status.resourceClaimStatuses)):
        where = f"status.resourceClaimStatuses[{i}]"
        if claim.name not in claims:
            message = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(invalid(f"{where}.name", claim.name, message))
        if claim.name in seen:
            errors.append(duplicate(f"{where}.name", claim.name))
        seen.add(claim.name)
        if claim.resourceClaimName is not None:
            rules.check_rule(claim.resourceClaimName, f"{where}.resourceClaimName", names.check_subdomain, errors)


def _check_extended(pod: Pod, errors: Errors) -> None:
    """The claim that was made for extended resources."""
    path = "status.extendedResourceClaimStatus"
    extended = pod.status.extendedResourceClaimStatus
    assert extended is not None
    if not extended.requestMappings:
        errors.append(required(f"{path}.requestMappings", "at least one request mapping is required"))
    rules.check_name(extended.resourceClaimName, f"{path}.resourceClaimName", names.check_subdomain, errors)
    everyone = (*pod.spec.initContainers, *pod.spec.containers)
    wanted = {name for c in everyone for name in c.resources.requests}
    for i, mapping in enumerate(pausing(extended.requestMappings)):
        where = f"{path}.requestMappings[{i}]"
        if mapping.resourceName not in wanted:
            message = (
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or "
                "spec.containers.resources.requests"
            )
            errors.append(invalid(f"{where}.resourceName", mapping.resourceName, message))


def _check_ips(addresses: list[str], path: str, errors: Errors) -> None:
    parsed = [rules.parse_ip(address) for address in addresses]
    for i, address in enumerate(pausing(addresses)):
        if parsed[i] is None:
            errors.append(invalid(f"{path}[{i}]", address, rules.NOT_AN_IP))
    if len(addresses) < 2:
        return
    if None in parsed:
        first = parsed.index(None)
        message = f"Internal error: failed to check for dual stack with error:invalid IP[{first}]: {addresses[first]}"
        errors.append(FieldError("InternalError", path, message))
    families = {p.version for p in parsed if p is not None}
    if len(addresses) > 2 or None in parsed or len(families) < 2:
        shown = [{"ip": a} for a in addresses]
        errors.append(invalid(path, shown, "may specify no more than one IP for each IP family"))


def _check_no_revival(pod: Pod, old: Pod, field: str, specs: dict[str, Any], errors: Errors) -> None:
    """What has ended for good stays ended."""
    new = {s.name: (i, s) for i, s in enumerate(getattr(pod.status, field))}
    for previous in getattr(old.status, field):
        ended = previous.state.terminated
        current = new.get(previous.name)
        spec = specs.get(previous.name)
        if ended is None or current is None or current[1].state.terminated is not None:
            continue
        if old.spec.restartPolicy == "OnFailure" and ended.exitCode != 0:
            continue
        if spec is not None and (spec.restartPolicy == "Always" or spec.restartPolicyRules):
            continue
        where = f"status.{field}[{current[0]}].state"
        errors.append(forbidden_field(where, "may not be transitioned to non-terminated state"))
