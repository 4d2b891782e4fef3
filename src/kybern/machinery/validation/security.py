"""Security contexts of pods and containers, and what the operating system of a pod forbids."""

from __future__ import annotations

import re
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    WindowsSecurityContextOptions,
)
from kybern.machinery import names
from kybern.machinery.status import duplicate, forbidden_field, invalid, not_supported, required, too_long
from kybern.machinery.validation import paths, rules
from kybern.machinery.validation.rules import Errors
from kybern.pausing import pausing

_LARGEST_ID = 2**31 - 1
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_NOT_A_SYSCTL = (
    "must have at most 253 characters and match regex "
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)


def _check_id(value: int | None, path: str, errors: Errors) -> None:
    rules.check_range(value, path, 0, _LARGEST_ID, errors)


def _check_seccomp(profile: SeccompProfile, path: str, errors: Errors) -> None:
    where = f"{path}.localhostProfile"
    if profile.type == "Localhost":
        if profile.localhostProfile is None:
            errors.append(required(where, "must be set when seccomp type is Localhost"))
        else:
            paths.check_descending(profile.localhostProfile, where, errors)
    elif profile.localhostProfile is not None:
        errors.append(invalid(where, codec.to_json(profile), "can only be set when seccomp type is Localhost"))
    if not profile.type:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif profile.type not in _PROFILES:
        errors.append(not_supported(f"{path}.type", profile.type, _PROFILES))


def _check_app_armor(profile: AppArmorProfile, path: str, errors: Errors) -> None:
    where, name = f"{path}.localhostProfile", profile.localhostProfile
    if profile.type == "Localhost":
        if not name or not name.strip():
            errors.append(required(where, "must be set when AppArmor type is Localhost"))
        elif name.strip() != name:
            errors.append(invalid(where, name, "must not be padded with whitespace"))
        elif len(name) > 4095:
            errors.append(too_long(where, 4095))
    elif name is not None and profile.type in _PROFILES:
        errors.append(invalid(where, name, "can only be set when AppArmor type is Localhost"))
    if not profile.type:
        errors.append(required(f"{path}.type", "type is required when appArmorProfile is set"))
    elif profile.type not in _PROFILES:
        errors.append(not_supported(f"{path}.type", profile.type, _PROFILES))


def check_container(context: SecurityContext, host_users: bool | None, path: str, errors: Errors) -> None:
    """`host_users`: of the pod."""
    _check_id(context.runAsUser, f"{path}.runAsUser", errors)
    _check_id(context.runAsGroup, f"{path}.runAsGroup", errors)
    if context.procMount is not None:
        if context.procMount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{path}.procMount", context.procMount, ("Default", "Unmasked")))
        elif context.procMount == "Unmasked" and host_users is not False:
            message = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", context.procMount, message))
    if context.seccompProfile is not None:
        _check_seccomp(context.seccompProfile, f"{path}.seccompProfile", errors)
    if context.allowPrivilegeEscalation is False:
        if context.privileged:
            message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, codec.to_json(context), message))
        # Both spellings are known to runtimes; only this one was ever refused.
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid(path, codec.to_json(context), message))
    if context.windowsOptions is not None:
        _check_windows(context.windowsOptions, f"{path}.windowsOptions", errors)
    if context.appArmorProfile is not None:
        _check_app_armor(context.appArmorProfile, f"{path}.appArmorProfile", errors)


def _check_windows(options: WindowsSecurityContextOptions, path: str, errors: Errors) -> None:
    if options.gmsaCredentialSpecName is not None:
        where = f"{path}.gmsaCredentialSpecName"
        rules.check_rule(options.gmsaCredentialSpecName, where, names.check_subdomain, errors)
    credentials = options.gmsaCredentialSpec
    if credentials is not None:
        where = f"{path}.gmsaCredentialSpec"
        if not credentials:
            errors.append(invalid(where, credentials, "gmsaCredentialSpec cannot be an empty string"))
        elif len(credentials) > _LONGEST_CREDENTIALS:
            errors.append(invalid(where, credentials, "gmsaCredentialSpec size must be under 64 KiB"))
    user = options.runAsUserName
    if user is not None:
        for message in _user_faults(user):
            errors.append(invalid(f"{path}.runAsUserName", user, f"runAsUserName{message}"))


_LONGEST_CREDENTIALS = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NET_BIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DOMAIN_LABEL = r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_DOMAIN_LABEL}(\.{_DOMAIN_LABEL})*")
_NOT_IN_USERS = '"/\\:;|=,+*?<>@[]'


def _user_faults(user: str) -> list[str]:
    """What is wrong with DOMAIN\\user or user: to be read after the name of the field."""
    if not user:
        return [" cannot be an empty string"]
    if _CONTROL.search(user):
        return [" cannot contain control characters"]
    domain, _, name = user.rpartition("\\")
    if "\\" in domain:
        return [" cannot contain more than one backslash"]
    faults = []
    if name != user:
        if len(domain) >= 256:
            faults.append("'s Domain length must be under 256 characters")
        if not (_NET_BIOS.fullmatch(domain) or _DOMAIN.fullmatch(domain)):
            faults.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not name:
        faults.append("'s User cannot be empty")
    elif len(name) > 104:
        faults.append("'s User length must not be longer than 104 characters")
    if name and not name.strip(". "):
        faults.append("'s User cannot contain only periods or spaces")
    if any(c in name for c in _NOT_IN_USERS):
        faults.append(f"'s User cannot contain the following characters: {_NOT_IN_USERS}")
    return faults


def check_host_processes(spec: PodSpec, path: str, errors: Errors) -> None:
    """On Windows either all containers of a pod are processes of the host, or none is."""
    options = spec.securityContext.windowsOptions if spec.securityContext is not None else None
    whole = options.hostProcess if options is not None else None
    found: list[bool] = []
    for where, container in _containers(spec, path):
        mine = container.securityContext.windowsOptions if container.securityContext is not None else None
        own = mine.hostProcess if mine is not None else None
        if own is not None and whole is not None and own != whole:
            message = f"pod hostProcess value must be identical if both are specified, was {str(whole).lower()}"
            errors.append(invalid(f"{where}.securityContext.windowsOptions.hostProcess", own, message))
        found.append(bool(whole if own is None else own))
    if not any(found):
        return
    if not all(found):
        message = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid(path, "", message))
    if not spec.hostNetwork:
        message = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid(f"{path}.hostNetwork", False, message))


def check_pod(context: PodSecurityContext, spec: PodSpec, path: str, errors: Errors) -> None:
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        _check_id(getattr(context, field), f"{path}.{field}", errors)
    for i, group in enumerate(pausing(context.supplementalGroups)):
        _check_id(group, f"{path}.supplementalGroups[{i}]", errors)
    if spec.shareProcessNamespace and spec.hostPID:
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, message))
    if context.sysctls:
        _check_sysctls(context, spec, f"{path}.sysctls", errors)
    _check_policy(context.fsGroupChangePolicy, ("Always", "OnRootMismatch"), f"{path}.fsGroupChangePolicy", errors)
    if context.seccompProfile is not None:
        _check_seccomp(context.seccompProfile, f"{path}.seccompProfile", errors)
    if context.windowsOptions is not None:
        _check_windows(context.windowsOptions, f"{path}.windowsOptions", errors)
    if context.appArmorProfile is not None:
        _check_app_armor(context.appArmorProfile, f"{path}.appArmorProfile", errors)
    _check_policy(context.supplementalGroupsPolicy, ("Merge", "Strict"), f"{path}.supplementalGroupsPolicy", errors)
    _check_policy(context.seLinuxChangePolicy, ("Recursive",), f"{path}.seLinuxChangePolicy", errors)


def _check_policy(value: str | None, choices: tuple[str, ...], path: str, errors: Errors) -> None:
    if value is not None and value not in choices:
        errors.append(not_supported(path, value, choices))


def _check_sysctls(context: PodSecurityContext, spec: PodSpec, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(pausing(context.sysctls)):
        where, name = f"{path}[{i}].name", sysctl.name
        if not name:
            errors.append(required(where))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            errors.append(invalid(where, name, _NOT_A_SYSCTL))
        elif name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.hostNetwork and dotted.startswith("net."):
            errors.append(invalid(where, name, "may not be specified when 'hostNetwork' is true"))
        if spec.hostIPC and dotted.startswith(("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")):
            errors.append(invalid(where, name, "may not be specified when 'hostIPC' is true"))


_WINDOWS_POD = (
    "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser", "runAsGroup",
    "supplementalGroups", "supplementalGroupsPolicy", "appArmorProfile", "seLinuxChangePolicy",
)  # fmt: skip
_WINDOWS_CONTAINER = (
    "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup", "appArmorProfile",
)  # fmt: skip
_NOT_ON_WINDOWS = "cannot be set for a windows pod"


def check_os(spec: PodSpec, path: str, errors: Errors) -> None:
    """Fields that mean nothing on the operating system a pod asks for."""
    system = spec.os
    if system is None:
        return
    if not system.name:
        errors.append(required(f"{path}.os.name"))
    elif system.name not in ("linux", "windows"):
        errors.append(not_supported(f"{path}.os", system.name, ("linux", "windows")))
    elif system.name == "linux":
        _check_linux(spec, path, errors)
    else:
        _check_on_windows(spec, path, errors)


def _containers(spec: PodSpec, path: str) -> list[tuple[str, Container | EphemeralContainer]]:
    found: list[tuple[str, Container | EphemeralContainer]] = []
    for name in ("containers", "initContainers", "ephemeralContainers"):
        found += [(f"{path}.{name}[{i}]", c) for i, c in enumerate(getattr(spec, name))]
    return found


def _check_linux(spec: PodSpec, path: str, errors: Errors) -> None:
    message = "windows options cannot be set for a linux pod"
    if spec.securityContext is not None and spec.securityContext.windowsOptions is not None:
        errors.append(forbidden_field(f"{path}.securityContext.windowsOptions", message))
    for where, container in _containers(spec, path):
        if container.securityContext is not None and container.securityContext.windowsOptions is not None:
            errors.append(forbidden_field(f"{where}.securityContext.windowsOptions", message))


def _is_set(value: Any) -> bool:
    return value is not None and value != []


def _check_on_windows(spec: PodSpec, path: str, errors: Errors) -> None:
    for field in ("hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"):
        value = getattr(spec, field)
        if value or (field == "hostUsers" and value is not None):
            errors.append(forbidden_field(f"{path}.{field}", _NOT_ON_WINDOWS))
    if spec.resources is not None:
        errors.append(forbidden_field(f"{path}.resources", "may not be set for a windows pod"))
    if spec.securityContext is not None:
        for field in _WINDOWS_POD:
            if _is_set(getattr(spec.securityContext, field)):
                errors.append(forbidden_field(f"{path}.securityContext.{field}", _NOT_ON_WINDOWS))
    for where, container in _containers(spec, path):
        context = container.securityContext
        if context is None:
            continue
        for field in _WINDOWS_CONTAINER:
            if _is_set(getattr(context, field)):
                errors.append(forbidden_field(f"{where}.securityContext.{field}", _NOT_ON_WINDOWS))
