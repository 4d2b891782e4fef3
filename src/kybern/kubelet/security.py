"""The security context of a container: what pod and container ask for, merged, checked and in the runtime's words.

Pure. Used by sync/apply when it creates sandboxes and containers.
Source: "Configure a Security Context" and the Pod Security Standards in the Kubernetes documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybern.api.core_v1 import (
    AppArmorProfile,
    Pod,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
)
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import NamespaceMode, ProfileType
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.podkeys import AnyContainer

# What containers may not see of the host (the set container runtimes agreed on).
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class ImageUser:
    """Whom the image's config runs as: a number, or a name that only the image's /etc/passwd explains."""

    uid: int | None = None
    username: str = ""


def pod_context(pod: Pod) -> PodSecurityContext:
    return pod.spec.securityContext or PodSecurityContext()


def effective(pod: Pod, container: AnyContainer) -> SecurityContext:
    """The container's context with what it leaves open taken from the pod's."""
    outer = pod_context(pod)
    inner = container.securityContext or SecurityContext()

    return SecurityContext(
        allowPrivilegeEscalation=inner.allowPrivilegeEscalation,
        appArmorProfile=inner.appArmorProfile or outer.appArmorProfile,
        capabilities=inner.capabilities,
        privileged=inner.privileged,
        procMount=inner.procMount,
        readOnlyRootFilesystem=inner.readOnlyRootFilesystem,
        runAsGroup=inner.runAsGroup if inner.runAsGroup is not None else outer.runAsGroup,
        runAsNonRoot=inner.runAsNonRoot if inner.runAsNonRoot is not None else outer.runAsNonRoot,
        runAsUser=inner.runAsUser if inner.runAsUser is not None else outer.runAsUser,
        seLinuxOptions=inner.seLinuxOptions or outer.seLinuxOptions,
        seccompProfile=inner.seccompProfile or outer.seccompProfile,
    )


def check_non_root(pod: Pod, container: AnyContainer, image: ImageUser) -> None:
    """Raise StartFailed if the container must not run as root, and would or might."""
    context = effective(pod, container)
    if not context.runAsNonRoot:
        return
    where = f'(pod: "{podkeys.format_pod(pod)}", container: {container.name})'
    if context.runAsUser is not None:
        if context.runAsUser == 0:
            raise StartFailed(Reason.CONFIG, f"container's runAsUser breaks non-root policy {where}")
        return
    if image.uid == 0 or (image.uid is None and not image.username):
        raise StartFailed(Reason.CONFIG, f"container has runAsNonRoot and image will run as root {where}")
    if image.uid is None:
        raise StartFailed(
            Reason.CONFIG,
            f"container has runAsNonRoot and image has non-numeric user ({image.username}), "
            f"cannot verify user is non-root {where}",
        )


def seccomp(profile: SeccompProfile | None, *, privileged: bool, by_default: bool) -> contract.SecurityProfile:
    """`by_default`: RuntimeDefault for who asks for nothing (kubelet --seccomp-default)."""
    if profile is None or privileged:
        if profile is None and by_default and not privileged:
            return contract.SecurityProfile(ProfileType.RUNTIME_DEFAULT)
        return contract.SecurityProfile(ProfileType.UNCONFINED)
    return _profile(profile.type, profile.localhostProfile or "")


def _apparmor(profile: AppArmorProfile | None) -> contract.SecurityProfile | None:
    return None if profile is None else _profile(profile.type, profile.localhostProfile or "")


def _profile(kind: str, localhost: str) -> contract.SecurityProfile:
    match kind:
        case "RuntimeDefault":
            return contract.SecurityProfile(ProfileType.RUNTIME_DEFAULT)
        case "Localhost":
            return contract.SecurityProfile(ProfileType.LOCALHOST, localhost)
    return contract.SecurityProfile(ProfileType.UNCONFINED)


def _selinux(options: SELinuxOptions | None) -> contract.SELinux | None:
    if options is None:
        return None
    return contract.SELinux(options.user or "", options.role or "", options.type or "", options.level or "")


def namespaces(pod: Pod) -> contract.NamespaceOptions:
    """Of the sandbox and of containers that target no other."""
    spec = pod.spec
    pid = NamespaceMode.CONTAINER
    if spec.hostPID:
        pid = NamespaceMode.NODE
    elif spec.shareProcessNamespace:
        pid = NamespaceMode.POD
    return contract.NamespaceOptions(
        network=NamespaceMode.NODE if spec.hostNetwork else NamespaceMode.POD,
        pid=pid,
        ipc=NamespaceMode.NODE if spec.hostIPC else NamespaceMode.POD,
    )


def supplemental_groups(pod: Pod, volume_groups: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The groups of every process: those named, the volumes' and fsGroup."""
    context = pod_context(pod)
    groups = dict.fromkeys([*volume_groups, *context.supplementalGroups])
    if context.fsGroup is not None:
        groups[context.fsGroup] = None
    return tuple(groups)


def has_privileged(pod: Pod) -> bool:
    return any(c.securityContext and c.securityContext.privileged for _, c in podkeys.containers_of(pod))


def container_security(
    pod: Pod,
    container: AnyContainer,
    image: ImageUser,
    *,
    seccomp_default: bool,
    target_id: str = "",
    volume_groups: tuple[int, ...] = (),
) -> contract.ContainerSecurity:
    """`target_id`: the container whose processes an ephemeral one joins."""
    context = effective(pod, container)
    privileged = bool(context.privileged)
    spaces = namespaces(pod)
    if target_id:
        spaces = contract.NamespaceOptions(
            network=spaces.network, pid=NamespaceMode.TARGET, ipc=spaces.ipc, target_id=target_id
        )
    unmasked = context.procMount == "Unmasked" or privileged
    capabilities = context.capabilities
    user = context.runAsUser if context.runAsUser is not None else image.uid
    return contract.ContainerSecurity(
        privileged=privileged,
        add_capabilities=tuple(capabilities.add) if capabilities else (),
        drop_capabilities=tuple(capabilities.drop) if capabilities else (),
        namespaces=spaces,
        selinux=_selinux(context.seLinuxOptions),
        run_as_user=user,
        run_as_username=image.username if user is None else "",
        run_as_group=context.runAsGroup,
        supplemental_groups=supplemental_groups(pod, volume_groups),
        readonly_rootfs=bool(context.readOnlyRootFilesystem),
        no_new_privs=context.allowPrivilegeEscalation is False,
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        seccomp=seccomp(context.seccompProfile, privileged=privileged, by_default=seccomp_default),
        apparmor=_apparmor(context.appArmorProfile),
    )


def sandbox_security(pod: Pod, config: contract.SandboxConfig) -> contract.SandboxConfig:
    """`config` with the sandbox's part of the pod's context."""
    from dataclasses import replace

    context = pod_context(pod)
    return replace(
        config,
        namespaces=namespaces(pod),
        selinux=_selinux(context.seLinuxOptions),
        run_as_user=context.runAsUser,
        # A sandbox with a group must have a user: runtimes refuse one without the other.
        run_as_group=context.runAsGroup if context.runAsUser is not None else None,
        supplemental_groups=supplemental_groups(pod),
        privileged=has_privileged(pod),
        seccomp=contract.SecurityProfile(ProfileType.RUNTIME_DEFAULT),
        sysctls={s.name.replace("/", "."): s.value for s in context.sysctls},
    )


# Sysctls.

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def forbidden_sysctl(pod: Pod, allowed: tuple[str, ...] = ()) -> str:
    """Why a sysctl of the pod may not be set here; "" when all may. `allowed`: --allowed-unsafe-sysctls patterns."""
    for sysctl in pod_context(pod).sysctls:
        name = sysctl.name.replace("/", ".")
        if pod.spec.hostNetwork and name.startswith("net."):
            return f'forbidden sysctl: "{sysctl.name}" not allowed with host net enabled'
        if pod.spec.hostIPC and (name.startswith(_IPC_SYSCTLS) or name == "kernel.sem"):
            return f'forbidden sysctl: "{sysctl.name}" not allowed with host ipc enabled'
        if name in SAFE_SYSCTLS:
            continue
        if any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in allowed):
            continue
        return f'forbidden sysctl: "{sysctl.name}" not allowlisted'
    return ""
