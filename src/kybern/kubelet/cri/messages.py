"""The contract's frozen classes to CRI messages and back. Imported by client only (it pulls in protobuf)."""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerId, ImageRef, SandboxId
from kybern.kubelet.cri.pb import runtime_pb2 as _runtime_pb2

pb: Any = _runtime_pb2  # the generated module builds its classes at run time

# The CRI's numbers of signals: its own order, not the kernel's.
SIGNALS = [
    "RUNTIME_DEFAULT",
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
]
SIGNALS += [f"SIGRTMINPLUS{n}" for n in range(1, 16)] + [f"SIGRTMAXMINUS{n}" for n in range(14, 0, -1)] + ["SIGRTMAX"]


def _int64(value: int | None) -> Any:
    return None if value is None else pb.Int64Value(value=value)


def _profile(profile: contract.SecurityProfile | None) -> Any:
    if profile is None:
        return None
    return pb.SecurityProfile(profile_type=profile.type.value, localhost_ref=profile.localhost_ref)


def _selinux(options: contract.SELinux | None) -> Any:
    if options is None:
        return None
    return pb.SELinuxOption(user=options.user, role=options.role, type=options.type, level=options.level)


def _namespaces(options: contract.NamespaceOptions) -> Any:
    return pb.NamespaceOption(
        network=options.network.value, pid=options.pid.value, ipc=options.ipc.value, target_id=options.target_id
    )


def resources(limits: contract.Resources) -> Any:
    return pb.LinuxContainerResources(
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory_limit,
        oom_score_adj=limits.oom_score_adj,
        hugepage_limits=[pb.HugepageLimit(page_size=size, limit=limit) for size, limit in limits.hugepage_limits],
        unified=dict(limits.unified),
        memory_swap_limit_in_bytes=limits.memory_swap_limit,
    )


def _optional_resources(limits: contract.Resources | None) -> Any:
    return None if limits is None else resources(limits)


def sandbox_config(config: contract.SandboxConfig) -> Any:
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt
        ),
        hostname=config.hostname,
        log_directory=config.log_directory,
        dns_config=None
        if config.dns is None
        else pb.DNSConfig(
            servers=list(config.dns.servers), searches=list(config.dns.searches), options=list(config.dns.options)
        ),
        port_mappings=[
            pb.PortMapping(
                protocol=pb.Protocol.Value(p.protocol),
                container_port=p.container_port,
                host_port=p.host_port,
                host_ip=p.host_ip,
            )
            for p in config.ports
        ],
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=config.cgroup_parent,
            sysctls=dict(config.sysctls),
            overhead=_optional_resources(config.overhead),
            resources=_optional_resources(config.resources),
            security_context=pb.LinuxSandboxSecurityContext(
                namespace_options=_namespaces(config.namespaces),
                selinux_options=_selinux(config.selinux),
                run_as_user=_int64(config.run_as_user),
                run_as_group=_int64(config.run_as_group),
                supplemental_groups=list(config.supplemental_groups),
                privileged=config.privileged,
                seccomp=_profile(config.seccomp),
            ),
        ),
    )


def _mount(mount: contract.Mount) -> Any:
    return pb.Mount(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.readonly,
        selinux_relabel=mount.selinux_relabel,
        propagation=mount.propagation.value,
        recursive_read_only=mount.recursive_read_only,
        image=pb.ImageSpec(image=mount.image) if mount.image else None,
        image_sub_path=mount.image_sub_path,
    )


def _security(security: contract.ContainerSecurity) -> Any:
    return pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=list(security.add_capabilities), drop_capabilities=list(security.drop_capabilities)
        ),
        privileged=security.privileged,
        namespace_options=_namespaces(security.namespaces),
        selinux_options=_selinux(security.selinux),
        run_as_user=_int64(security.run_as_user),
        run_as_username=security.run_as_username,
        run_as_group=_int64(security.run_as_group),
        readonly_rootfs=security.readonly_rootfs,
        supplemental_groups=list(security.supplemental_groups),
        no_new_privs=security.no_new_privs,
        masked_paths=list(security.masked_paths),
        readonly_paths=list(security.readonly_paths),
        seccomp=_profile(security.seccomp),
        apparmor=_profile(security.apparmor),
    )


def container_config(config: contract.ContainerConfig) -> Any:
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=pb.ImageSpec(
            image=config.image, user_specified_image=config.user_image, runtime_handler=config.runtime_handler
        ),
        command=list(config.command),
        args=list(config.args),
        working_dir=config.working_dir,
        envs=[pb.KeyValue(key=key, value=value.encode("utf-8", "surrogateescape")) for key, value in config.env],
        mounts=[_mount(mount) for mount in config.mounts],
        devices=[
            pb.Device(container_path=d.container_path, host_path=d.host_path, permissions=d.permissions)
            for d in config.devices
        ],
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux=pb.LinuxContainerConfig(
            resources=resources(config.resources), security_context=_security(config.security)
        ),
        stop_signal=SIGNALS.index(config.stop_signal) if config.stop_signal else 0,
    )


def auth(credentials: contract.Auth) -> Any:
    return pb.AuthConfig(
        username=credentials.username,
        password=credentials.password,
        auth=credentials.auth,
        server_address=credentials.server_address,
        identity_token=credentials.identity_token,
        registry_token=credentials.registry_token,
    )


# And back.


def runtime_status(answer: Any) -> contract.RuntimeStatus:
    return contract.RuntimeStatus(
        tuple(contract.RuntimeCondition(c.type, c.status, c.reason, c.message) for c in answer.status.conditions),
        tuple(
            contract.RuntimeHandler(h.name, h.features.recursive_read_only_mounts, h.features.user_namespaces)
            for h in answer.runtime_handlers
        ),
        _sandbox_image(answer.info.get("config", "")),
    )


def _sandbox_image(config: str) -> str:
    """containerd tells its configuration as JSON."""
    try:
        return msgspec.json.decode(config.encode(), type=_RuntimeConfig).sandboxImage if config else ""
    except msgspec.DecodeError:
        return ""


def chain_id(info: str) -> str:
    """Of an image's layers, from the verbose status that containerd gives; "" from others."""
    try:
        return msgspec.json.decode(info.encode(), type=_ImageInfo).chainID if info else ""
    except msgspec.DecodeError:
        return ""


class _ImageInfo(msgspec.Struct):
    chainID: str = ""


class _RuntimeConfig(msgspec.Struct):
    sandboxImage: str = ""


def sandbox(item: Any) -> contract.Sandbox:
    meta = item.metadata
    return contract.Sandbox(
        id=SandboxId(item.id),
        name=meta.name,
        uid=meta.uid,
        namespace=meta.namespace,
        attempt=meta.attempt,
        state=contract.SandboxState(item.state),
        created_at=item.created_at,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
        runtime_handler=item.runtime_handler,
    )


def sandbox_status(item: Any) -> contract.SandboxStatus:
    ips = [item.network.ip, *(extra.ip for extra in item.network.additional_ips)]
    return contract.SandboxStatus(
        sandbox(item),
        tuple(ip for ip in ips if ip),
        contract.NamespaceMode(item.linux.namespaces.options.network),
    )


def container(item: Any) -> contract.Container:
    return contract.Container(
        id=ContainerId(item.id),
        sandbox_id=SandboxId(item.pod_sandbox_id),
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        state=contract.ContainerState(item.state),
        created_at=item.created_at,
        image=item.image.user_specified_image or item.image.image,
        image_ref=item.image_ref,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
    )


def _resources_back(item: Any) -> contract.Resources:
    return contract.Resources(
        cpu_period=item.cpu_period,
        cpu_quota=item.cpu_quota,
        cpu_shares=item.cpu_shares,
        memory_limit=item.memory_limit_in_bytes,
        oom_score_adj=item.oom_score_adj,
        unified=dict(item.unified),
    )


def container_status(item: Any) -> contract.ContainerStatus:
    user = item.user.linux
    return contract.ContainerStatus(
        id=ContainerId(item.id),
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        state=contract.ContainerState(item.state),
        created_at=item.created_at,
        started_at=item.started_at,
        finished_at=item.finished_at,
        exit_code=item.exit_code,
        image=item.image.user_specified_image or item.image.image,
        image_ref=item.image_ref,
        image_id=item.image_id,
        reason=item.reason,
        message=item.message,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
        log_path=item.log_path,
        resources=_resources_back(item.resources.linux) if item.HasField("resources") else None,
        user=contract.ContainerUser(user.uid, user.gid, tuple(user.supplemental_groups))
        if item.HasField("user")
        else None,
    )


def container_usage(item: Any) -> contract.ContainerUsage:
    attributes, cpu, memory, layer = item.attributes, item.cpu, item.memory, item.writable_layer
    return contract.ContainerUsage(
        id=ContainerId(attributes.id),
        name=attributes.metadata.name,
        labels=dict(attributes.labels),
        timestamp=cpu.timestamp or memory.timestamp,
        cpu_ns=cpu.usage_core_nano_seconds.value,
        working_set=memory.working_set_bytes.value,
        usage=memory.usage_bytes.value,
        rss=memory.rss_bytes.value,
        page_faults=memory.page_faults.value,
        major_page_faults=memory.major_page_faults.value,
        layer_bytes=layer.used_bytes.value,
        layer_inodes=layer.inodes_used.value,
        layer_timestamp=layer.timestamp,
    )


def image(item: Any) -> contract.Image:
    return contract.Image(
        id=ImageRef(item.id),
        tags=tuple(item.repo_tags),
        digests=tuple(item.repo_digests),
        size=item.size,
        uid=item.uid.value if item.HasField("uid") else None,
        username=item.username,
        pinned=item.pinned,
    )
