"""Containers of every sort: regular, init (with sidecars) and ephemeral ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kybern.api.core_v1 import Container, ContainerPort, EphemeralContainer, PodSpec, Volume
from kybern.machinery import names
from kybern.machinery.status import (
    duplicate,
    forbidden_field,
    invalid,
    not_found_field,
    not_supported,
    required,
    too_many,
)
from kybern.machinery.validation import environment, probes, resources, rules, security, volumes
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_RESTARTS = ("Always", "Never", "OnFailure")
_MESSAGES = ("File", "FallbackToLogsOnError")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container is checked against."""

    spec: PodSpec
    volumes: Mapping[str, Volume]
    claims: Collection[str]  # names in spec.resourceClaims


def check_containers(around: Surroundings, path: str, errors: Errors) -> set[str]:
    """All regular containers; returns their names."""
    taken: set[str] = set()
    if not around.spec.containers:
        errors.append(required(f"{path}.containers"))
    host_ports: set[str] = set()
    for i, container in enumerate(pausing(around.spec.containers)):
        where = f"{path}.containers[{i}]"
        _check_common(container, around, taken, where, errors)
        if container.lifecycle is not None:
            grace = around.spec.terminationGracePeriodSeconds
            probes.check_lifecycle(container.lifecycle, grace, f"{where}.lifecycle", errors)
        probes.check_probes(container.livenessProbe, container.readinessProbe, container.startupProbe, where, errors)
        _check_restart(container, where, errors)
        if container.ports:
            _check_host_ports(container, host_ports, f"{where}.ports", errors)
    return taken


def check_init_containers(around: Surroundings, taken: set[str], path: str, errors: Errors) -> None:
    """`taken`: the names of the regular containers; those of init containers are added."""
    for i, container in enumerate(pausing(around.spec.initContainers)):
        where = f"{path}.initContainers[{i}]"
        unnamed = "" in taken
        _check_common(container, around, taken, where, errors)
        if not unnamed:
            taken.discard("")  # of init containers, one without name makes no other a duplicate
        _check_restart(container, where, errors, is_init=True)
        if container.restartPolicy == "Always":
            if container.lifecycle is not None:
                grace = around.spec.terminationGracePeriodSeconds
                probes.check_lifecycle(container.lifecycle, grace, f"{where}.lifecycle", errors)
            probes.check_probes(
                container.livenessProbe, container.readinessProbe, container.startupProbe, where, errors
            )
        else:
            for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if getattr(container, field) is not None:
                    message = "may not be set for init containers without restartPolicy=Always"
                    errors.append(forbidden_field(f"{where}.{field}", message))
        if container.ports:
            _check_host_ports(container, set(), f"{where}.ports", errors)


_NOT_EPHEMERAL = (
    "ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules",
    "livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
)  # fmt: skip


def check_ephemeral_containers(around: Surroundings, taken: set[str], path: str, errors: Errors) -> None:
    targets = {c.name for c in (*around.spec.containers, *around.spec.initContainers)}
    for i, container in enumerate(pausing(around.spec.ephemeralContainers)):
        where = f"{path}.ephemeralContainers[{i}]"
        _check_common(container, around, taken, where, errors)
        if container.targetContainerName and container.targetContainerName not in targets:
            errors.append(not_found_field(f"{where}.targetContainerName", container.targetContainerName))
        for field in _NOT_EPHEMERAL:
            value = getattr(container, field)
            if field == "resources":
                value = value.limits or value.requests or value.claims
            if value:
                errors.append(forbidden_field(f"{where}.{field}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(pausing(container.volumeMounts)):
            for field in ("subPath", "subPathExpr"):
                if getattr(mount, field):
                    message = "cannot be set for an Ephemeral Container"
                    errors.append(forbidden_field(f"{where}.volumeMounts[{j}].{field}", message))


def check_image(image: str | None, path: str, errors: Errors) -> None:
    if not image:
        errors.append(required(path))
    elif image != image.strip():
        errors.append(invalid(path, image, "must not have leading or trailing whitespace"))


def _check_common(
    container: Container | EphemeralContainer, around: Surroundings, taken: set[str], path: str, errors: Errors
) -> None:
    name = container.name
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        for message in names.check_label(name):
            errors.append(invalid(f"{path}.name", name, message))
    if name in taken:
        errors.append(duplicate(f"{path}.name", name))
    taken.add(name)
    check_image(container.image, f"{path}.image", errors)
    if container.terminationMessagePolicy not in _MESSAGES:
        policy = container.terminationMessagePolicy or ""
        errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGES))
    if container.imagePullPolicy not in _PULL_POLICIES:
        errors.append(not_supported(f"{path}.imagePullPolicy", container.imagePullPolicy or "", _PULL_POLICIES))
    if container.ports:
        _check_ports(container.ports, f"{path}.ports", errors)
    if container.env:
        environment.check_env(container.env, around.volumes, f"{path}.env", errors)
    if container.envFrom:
        environment.check_env_from(container.envFrom, f"{path}.envFrom", errors)
    if container.volumeMounts:
        volumes.check_mounts(container, around.volumes, f"{path}.volumeMounts", errors)
    if container.volumeDevices:
        volumes.check_devices(container, around.volumes, f"{path}.volumeDevices", errors)
    requirements = container.resources
    if requirements.limits or requirements.requests or requirements.claims:
        resources.check_requirements(requirements, around.claims, f"{path}.resources", errors)
    if container.resizePolicy and isinstance(container, Container):
        is_init = any(container is c for c in around.spec.initContainers)
        _check_resize(container, around.spec.restartPolicy, f"{path}.resizePolicy", errors, is_init=is_init)
    if container.securityContext is not None:
        security.check_container(container.securityContext, around.spec.hostUsers, f"{path}.securityContext", errors)


def _check_ports(ports: list[ContainerPort], path: str, errors: Errors) -> None:
    taken: set[str] = set()
    for i, port in enumerate(pausing(ports)):
        where = f"{path}[{i}]"
        if port.name:
            faults = names.check_port_name(port.name)
            for message in faults:
                errors.append(invalid(f"{where}.name", port.name, message))
            if not faults:
                if port.name in taken:
                    errors.append(duplicate(f"{where}.name", port.name))
                taken.add(port.name)
        if not port.containerPort:
            errors.append(required(f"{where}.containerPort"))
        else:
            rules.check_port(port.containerPort, f"{where}.containerPort", errors)
        if port.hostPort:
            rules.check_port(port.hostPort, f"{where}.hostPort", errors)
        if not port.protocol:
            errors.append(required(f"{where}.protocol"))
        elif port.protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{where}.protocol", port.protocol, _PROTOCOLS))


def _check_host_ports(container: Container, taken: set[str], path: str, errors: Errors) -> None:
    for i, port in enumerate(pausing(container.ports)):
        if port.hostPort:
            key = f"{port.protocol}/{port.hostIP or ''}/{port.hostPort}"
            if key in taken:
                errors.append(duplicate(f"{path}[{i}].hostPort", key))
            taken.add(key)


_RULES, _EXIT_CODES = 20, 255  # the most of each


def _check_restart(container: Container, path: str, errors: Errors, *, is_init: bool = False) -> None:
    policy, restart_rules = container.restartPolicy, container.restartPolicyRules
    if policy is None:
        if restart_rules:
            message = "must specify restartPolicy when restart rules are used"
            errors.append(required(f"{path}.restartPolicy", message))
            if is_init:
                return
    elif policy not in _RESTARTS:
        errors.append(not_supported(f"{path}.restartPolicy", policy, _RESTARTS))
    if len(restart_rules) > _RULES:
        errors.append(too_many(f"{path}.restartPolicyRules", len(restart_rules), _RULES))
    for i, rule in enumerate(pausing(restart_rules)):
        where = f"{path}.restartPolicyRules[{i}]"
        if rule.action not in ("Restart", "RestartAllContainers"):
            errors.append(not_supported(f"{where}.action", rule.action, ("Restart", "RestartAllContainers")))
        if rule.exitCodes is None:
            errors.append(required(f"{where}.exitCodes", "must be specified"))
            continue
        if rule.exitCodes.operator not in ("In", "NotIn"):
            errors.append(not_supported(f"{where}.exitCodes.operator", rule.exitCodes.operator, ("In", "NotIn")))
        if len(rule.exitCodes.values) > _EXIT_CODES:
            errors.append(too_many(f"{where}.exitCodes.values", len(rule.exitCodes.values), _EXIT_CODES))


def _check_resize(
    container: Container, restart_policy: str | None, path: str, errors: Errors, *, is_init: bool
) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(pausing(container.resizePolicy)):
        if policy.resourceName in seen:
            errors.append(duplicate(f"{path}[{i}]", policy.resourceName))
        seen.add(policy.resourceName)
        if not policy.resourceName:
            errors.append(required(path))
        elif policy.resourceName not in ("cpu", "memory"):
            errors.append(not_supported(path, policy.resourceName, ("cpu", "memory")))
        if not policy.restartPolicy:
            errors.append(required(path))
        elif policy.restartPolicy not in ("NotRequired", "RestartContainer"):
            errors.append(not_supported(path, policy.restartPolicy, ("NotRequired", "RestartContainer")))
        if is_init and container.restartPolicy != "Always" and policy.restartPolicy == "RestartContainer":
            message = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            errors.append(invalid(f"{path}[{i}].restartPolicy", policy.restartPolicy, message))
        if restart_policy == "Never" and policy.restartPolicy != "NotRequired":
            message = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(invalid(path, policy.restartPolicy, message))
