"""The spec of a pod, alone or in a template."""

from __future__ import annotations

from collections.abc import Collection

from kybern.api import codec
from kybern.api.core_v1 import PodDNSConfig, PodSpec, PodTemplateSpec
from kybern.machinery import names, quantity
from kybern.machinery.defaults import pods as pod_defaults
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_supported, required, too_long
from kybern.machinery.validation import containers, metadata, resources, rules, scheduling, security, volumes
from kybern.machinery.validation.containers import Surroundings
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_INT32_MAX = 2**31 - 1


def check(spec: PodSpec, path: str, errors: Errors, *, is_pod: bool = False) -> None:
    """`is_pod`: not the spec of a template."""
    found = {}
    if spec.volumes:
        found = volumes.check_volumes(spec.volumes, f"{path}.volumes", errors, needs_image=is_pod)
    claims = _check_claims(spec, f"{path}.resourceClaims", errors) if spec.resourceClaims else ()
    around = Surroundings(spec, found, claims)
    taken = containers.check_containers(around, path, errors)
    if spec.initContainers:
        containers.check_init_containers(around, taken, path, errors)
    if spec.ephemeralContainers:
        containers.check_ephemeral_containers(around, taken, path, errors)
    if spec.resources is not None:
        _check_pod_resources(spec, claims, f"{path}.resources", errors)
    if not spec.restartPolicy:
        errors.append(required(f"{path}.restartPolicy"))
    elif spec.restartPolicy not in RESTART_POLICIES:
        errors.append(not_supported(f"{path}.restartPolicy", spec.restartPolicy, RESTART_POLICIES))
    if spec.dnsPolicy not in _DNS_POLICIES:
        errors.append(not_supported(f"{path}.dnsPolicy", spec.dnsPolicy or "", _DNS_POLICIES))
    _check_dns(spec, f"{path}.dnsConfig", errors)
    if spec.nodeSelector:
        rules.check_labels(spec.nodeSelector, f"{path}.nodeSelector", errors)
    _check_host(spec, path, errors)
    if spec.securityContext is not None:
        security.check_pod(spec.securityContext, spec, f"{path}.securityContext", errors)
    for i, gate in enumerate(pausing(spec.readinessGates)):
        where = f"{path}.readinessGates[{i}].conditionType"
        rules.check_rule(gate.conditionType, where, names.check_qualified, errors)
    if spec.schedulingGates:
        scheduling.check_gates(spec, path, errors)
    if spec.topologySpreadConstraints:
        scheduling.check_spread(spec.topologySpreadConstraints, f"{path}.topologySpreadConstraints", errors)
    if spec.affinity is not None:
        scheduling.check_affinity(spec.affinity, f"{path}.affinity", errors)
    if spec.tolerations:
        scheduling.check_tolerations(spec.tolerations, f"{path}.tolerations", errors)
    for i, alias in enumerate(pausing(spec.hostAliases)):
        rules.check_ip(alias.ip, f"{path}.hostAliases[{i}].ip", errors)
        for j, hostname in enumerate(pausing(alias.hostnames)):
            where = f"{path}.hostAliases[{i}].hostnames[{j}]"
            rules.check_rule(hostname, where, names.check_subdomain, errors)
    _check_names(spec, path, errors)
    deadline = spec.activeDeadlineSeconds
    if deadline is not None and not 1 <= deadline <= _INT32_MAX:
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, rules.in_range(1, _INT32_MAX)))
    if spec.preemptionPolicy and spec.preemptionPolicy not in _PREEMPTION:
        errors.append(not_supported(f"{path}.preemptionPolicy", spec.preemptionPolicy, _PREEMPTION))
    if spec.overhead:
        resources.check_overhead(spec.overhead, f"{path}.overhead", errors)
    security.check_host_processes(spec, path, errors)
    if spec.os is not None:
        security.check_os(spec, path, errors)


def check_template(template: PodTemplateSpec, path: str, errors: Errors) -> None:
    meta = template.metadata
    if meta.labels or meta.annotations:
        metadata.check_template(meta, path, errors)
    check(template.spec, f"{path}.spec", errors)
    if template.spec.ephemeralContainers:
        message = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", message))


def _check_names(spec: PodSpec, path: str, errors: Errors) -> None:
    rules.check_optional(spec.serviceAccountName, f"{path}.serviceAccountName", names.check_subdomain, errors)
    rules.check_optional(spec.nodeName, f"{path}.nodeName", names.check_subdomain, errors)
    rules.check_optional(spec.hostname, f"{path}.hostname", names.check_label, errors)
    rules.check_optional(spec.subdomain, f"{path}.subdomain", names.check_label, errors)
    rules.check_optional(spec.priorityClassName, f"{path}.priorityClassName", names.check_subdomain, errors)
    if spec.runtimeClassName is not None:
        rules.check_rule(spec.runtimeClassName, f"{path}.runtimeClassName", names.check_subdomain, errors)
    override = spec.hostnameOverride
    if override is not None:
        where = f"{path}.hostnameOverride"
        if spec.setHostnameAsFQDN:
            errors.append(forbidden_field(where, "may not be specified when setHostnameAsFQDN is true"))
        if spec.hostNetwork:
            errors.append(forbidden_field(where, "may not be specified when hostNetwork is true"))
        if len(override) > 64:
            errors.append(too_long(where, 64))
        rules.check_rule(override, where, names.check_subdomain, errors)


def _check_host(spec: PodSpec, path: str, errors: Errors) -> None:
    if spec.hostNetwork:
        for i, container in enumerate(pausing(spec.containers)):
            for j, port in enumerate(pausing(container.ports)):
                if port.hostPort and port.hostPort != port.containerPort:
                    where = f"{path}.containers[{i}].ports[{j}].hostPort"
                    message = "must match `containerPort` when `hostNetwork` is true"
                    errors.append(invalid(where, port.hostPort, message))
    if spec.hostUsers is False:
        for field, label in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if getattr(spec, field):
                errors.append(forbidden_field(f"{path}.{label}", "when `hostUsers` is false"))
        for field in ("containers", "initContainers", "ephemeralContainers"):
            for i, user in enumerate(getattr(spec, field)):
                if user.volumeDevices:
                    errors.append(forbidden_field(f"{path}.{field}[{i}].volumeDevices", "when `hostUsers` is false"))


_NAMESERVERS, _SEARCHES, _SEARCH_LENGTH = 3, 32, 2048


def _check_dns(spec: PodSpec, path: str, errors: Errors) -> None:
    config = spec.dnsConfig
    if spec.dnsPolicy == "None":
        if config is None:
            errors.append(required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.nameservers:
            message = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(required(f"{path}.nameservers", message))
            return
    if config is not None:
        _check_dns_config(config, path, errors)


def _check_dns_config(config: PodDNSConfig, path: str, errors: Errors) -> None:
    if len(config.nameservers) > _NAMESERVERS:
        message = f"must not have more than {_NAMESERVERS} nameservers"
        errors.append(invalid(f"{path}.nameservers", config.nameservers, message))
    for i, server in enumerate(pausing(config.nameservers)):
        rules.check_ip(server, f"{path}.nameservers[{i}]", errors)
    where = f"{path}.searches"
    if len(config.searches) > _SEARCHES:
        errors.append(invalid(where, config.searches, f"must not have more than {_SEARCHES} search paths"))
    if len(" ".join(config.searches)) > _SEARCH_LENGTH:
        message = f"must not have more than {_SEARCH_LENGTH} characters (including spaces) in the search list"
        errors.append(invalid(where, config.searches, message))
    for i, search in enumerate(pausing(config.searches)):
        # A trailing dot is allowed, and so are underscores: resolvers take them.
        if search != ".":
            for message in names.check_relaxed_subdomain(search.removesuffix(".")):
                errors.append(invalid(f"{where}[{i}]", search, message))
    for i, option in enumerate(pausing(config.options)):
        if not option.name:
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))


def _check_claims(spec: PodSpec, path: str, errors: Errors) -> Collection[str]:
    taken: set[str] = set()
    for i, claim in enumerate(pausing(spec.resourceClaims)):
        where = f"{path}[{i}]"
        if not claim.name:
            errors.append(required(f"{where}.name"))
        elif claim.name in taken:
            errors.append(duplicate(f"{where}.name", claim.name))
        else:
            rules.check_rule(claim.name, f"{where}.name", names.check_label, errors)
            taken.add(claim.name)
        shown = codec.to_json(claim)
        if claim.resourceClaimName is None and claim.resourceClaimTemplateName is None:
            message = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(where, shown, message))
        elif claim.resourceClaimName is not None and claim.resourceClaimTemplateName is not None:
            message = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(where, shown, message))
        for field in ("resourceClaimName", "resourceClaimTemplateName"):
            value = getattr(claim, field)
            if value is not None:
                rules.check_rule(value, f"{where}.{field}", names.check_subdomain, errors)
    return taken


def _check_pod_resources(spec: PodSpec, claims: Collection[str], path: str, errors: Errors) -> None:
    whole = spec.resources
    assert whole is not None
    if whole.claims:
        errors.append(forbidden_field(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    resources.check_requirements(whole, claims, path, errors, pod_level=True)
    if whole.requests:
        for name, total in pod_defaults.container_requests(spec).items():
            mine = whole.requests.get(name)
            if mine is not None and quantity.compare(total, mine) > 0:
                message = f"must be greater than or equal to aggregate container requests of {total}"
                errors.append(invalid(f"{path}.requests[{name}]", mine, message))
    for name, total in pod_defaults.container_limits(spec).items():
        mine = whole.limits.get(name)
        if mine is not None and resources.is_huge_page(name) and quantity.compare(total, mine) > 0:
            message = f"must be greater than or equal to aggregate container limits of {total}"
            errors.append(invalid(f"{path}.limits[{name}]", mine, message))
    for i, container in enumerate(pausing(spec.containers)):
        for name, limit in container.resources.limits.items():
            mine = whole.limits.get(name)
            if mine is not None and quantity.compare(limit, mine) > 0:
                message = f"must be less than or equal to pod limits of {mine}"
                errors.append(invalid(f"{path}.containers[{i}][{name}].limits", limit, message))
