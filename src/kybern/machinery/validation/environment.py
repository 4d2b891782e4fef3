"""Environment variables and downward fields of containers."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from kybern.api.core_v1 import (
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    Volume,
)
from kybern.machinery import names, quantity
from kybern.machinery.status import invalid, not_found_field, not_supported, required
from kybern.machinery.validation import paths, rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_CONVERTIBLE = frozenset(
    {
        "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    }
)  # fmt: skip
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SUBSCRIPT = re.compile(r"([^\[]+)\['([^']*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def check_env(variables: list[EnvVar], volumes: Mapping[str, Volume], path: str, errors: Errors) -> None:
    """`volumes`: those of the pod, by name."""
    for i, variable in enumerate(pausing(variables)):
        name = variable.name
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            for message in names.check_env_name(name):
                errors.append(invalid(f"{path}[{i}].name", name, message))
        if variable.valueFrom is not None:
            _check_source(variable, variable.valueFrom, volumes, f"{path}[{i}].valueFrom", errors)


def _check_source(
    variable: EnvVar, source: EnvVarSource, volumes: Mapping[str, Volume], path: str, errors: Errors
) -> None:
    count = sum(getattr(source, name) is not None for name in _SOURCES)
    if source.fieldRef is not None:
        check_field(source.fieldRef, ENV_FIELDS, f"{path}.fieldRef", errors)
    if source.resourceFieldRef is not None:
        check_resource_field(source.resourceFieldRef, False, f"{path}.resourceFieldRef", errors)
    for name in ("configMapKeyRef", "secretKeyRef"):
        reference = getattr(source, name)
        if reference is not None:
            rules.check_rule(reference.name or "", f"{path}.{name}.name", names.check_subdomain, errors)
            rules.check_name(reference.key, f"{path}.{name}.key", names.check_config_key, errors)
    if source.fileKeyRef is not None:
        _check_file_key(source.fileKeyRef, volumes, f"{path}.fileKeyRef", errors)
    if count == 0:
        choices = ", ".join(f"`{s}`" for s in _SOURCES[:-1])
        errors.append(invalid(path, "", f"must specify one of: {choices} or `{_SOURCES[-1]}`"))
    elif variable.value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))


def _check_file_key(key: FileKeySelector, volumes: Mapping[str, Volume], path: str, errors: Errors) -> None:
    rules.check_name(key.key, f"{path}.key", names.check_env_name, errors)
    if not key.volumeName:
        errors.append(required(f"{path}.volumeName"))
    else:
        rules.check_rule(key.volumeName, f"{path}.volumeName", names.check_label, errors)
    if not key.path:
        errors.append(required(f"{path}.path"))
    else:
        paths.check_no_backsteps(key.path, f"{path}.path", errors)
    if key.volumeName not in volumes:
        errors.append(not_found_field(f"{path}.volumeName", key.volumeName))
    elif volumes[key.volumeName].emptyDir is None:
        errors.append(invalid(f"{path}.volumeName", key.volumeName, "referenced volume must be of type emptyDir"))


@functools.lru_cache(maxsize=256)
def _split_field(field: str) -> tuple[str, str | None]:
    """("metadata.labels", "key") of "metadata.labels['key']"."""
    match = _SUBSCRIPT.fullmatch(field)
    return (match[1], match[2]) if match else (field, None)


def check_field(selector: ObjectFieldSelector, allowed: tuple[str, ...], path: str, errors: Errors) -> None:
    if not selector.apiVersion:
        errors.append(required(f"{path}.apiVersion"))
        return
    field = selector.fieldPath
    where = f"{path}.fieldPath"
    if not field:
        errors.append(required(where))
        return
    if selector.apiVersion != "v1":
        message = f"error converting fieldPath: unsupported pod version: {selector.apiVersion}"
        errors.append(invalid(where, field, message))
        return
    base, key = _split_field(field)
    if key is not None:
        if base == "metadata.annotations":
            rules.check_rule(key.lower(), path, names.check_qualified, errors)
        elif base == "metadata.labels":
            rules.check_rule(key, path, names.check_qualified, errors)
        else:
            message = f"error converting fieldPath: field label does not support subscript: {field}"
            errors.append(invalid(where, field, message))
        return
    if field not in _CONVERTIBLE:
        errors.append(invalid(where, field, f"error converting fieldPath: field label not supported: {field}"))
    elif field not in allowed:
        errors.append(not_supported(where, field, allowed))


_BYTES_TEXT = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
_BYTE_DIVISORS = frozenset(_BYTES_TEXT.split(", "))


def check_resource_field(field: ResourceFieldSelector, in_volume: bool, path: str, errors: Errors) -> None:
    if in_volume and not field.containerName:
        errors.append(required(f"{path}.containerName"))
        return
    if not field.resource:
        errors.append(required(f"{path}.resource"))
        return
    if field.resource not in _RESOURCES and not field.resource.startswith(_HUGE_PAGES):
        errors.append(not_supported(f"{path}.resource", field.resource, _RESOURCES))
    _check_divisor(field, f"{path}.divisor", errors)


def _check_divisor(field: ResourceFieldSelector, path: str, errors: Errors) -> None:
    divisor = field.divisor
    if divisor is None or quantity.nano(divisor) == 0:
        return
    resource = field.resource
    if resource.endswith(".cpu"):
        if divisor not in ("1", "1m"):
            errors.append(invalid(path, resource, "only divisor's values 1m and 1 are supported with the cpu resource"))
        return
    if resource.endswith(".memory"):
        what = "memory"
    elif resource.endswith(".ephemeral-storage"):
        what = "local ephemeral storage"
    elif resource.startswith(_HUGE_PAGES):
        what = "hugepages"
    else:
        return
    if divisor not in _BYTE_DIVISORS:
        message = f"only divisor's values {_BYTES_TEXT} are supported with the {what} resource"
        errors.append(invalid(path, resource, message))


def check_env_from(sources: list[EnvFromSource], path: str, errors: Errors) -> None:
    for i, source in enumerate(pausing(sources)):
        if source.prefix:
            rules.check_rule(source.prefix, f"{path}[{i}].prefix", names.check_env_name, errors)
        present = 0
        for name in ("configMapRef", "secretRef"):
            reference = getattr(source, name)
            if reference is not None:
                present += 1
                rules.check_name(reference.name, f"{path}[{i}].{name}.name", names.check_subdomain, errors)
        if present == 0:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif present > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
