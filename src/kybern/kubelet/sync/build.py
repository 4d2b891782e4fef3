"""The runtime's configuration of sandboxes and containers, from specs.

Pure. Used by apply. Everything needed to recognise our containers after a restart is in their labels and annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kybern.api import codec
from kybern.api.core_v1 import Pod
from kybern.kubelet import expansion, podkeys, security
from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import ContainerConfig, PortMapping, SandboxConfig
from kybern.kubelet.podkeys import AnyContainer
from kybern.kubelet.sync import logs


@dataclass(frozen=True, slots=True)
class SandboxParts:
    """What a sandbox needs besides the spec."""

    hostname: str
    dns: contract.DnsConfig
    log_root: str
    cgroup_parent: str


def sandbox_config(pod: Pod, attempt: int, parts: SandboxParts) -> SandboxConfig:
    config = SandboxConfig(
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        attempt=attempt,
        # A pod on the host's network has the host's name.
        hostname="" if pod.spec.hostNetwork and not pod.spec.hostnameOverride else parts.hostname,
        log_directory=str(logs.pod_directory(parts.log_root, pod)),
        dns=parts.dns,
        ports=_port_mappings(pod),
        labels={**pod.metadata.labels, **_pod_labels(pod)},
        annotations=dict(pod.metadata.annotations),
        cgroup_parent=parts.cgroup_parent,
    )
    return security.sandbox_security(pod, config)


def _pod_labels(pod: Pod) -> dict[str, str]:
    return {
        labels.POD_NAME: pod.metadata.name,
        labels.POD_NAMESPACE: pod.metadata.namespace,
        labels.POD_UID: pod.metadata.uid,
    }


def _port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    if pod.spec.hostNetwork:
        return ()
    return tuple(
        PortMapping(port.protocol or "TCP", port.containerPort, port.hostPort or 0, port.hostIP or "")
        for container in [*pod.spec.initContainers, *pod.spec.containers]
        for port in container.ports
    )


@dataclass(frozen=True, slots=True)
class ContainerParts:
    """What a container needs besides the spec."""

    attempt: int
    image: contract.Image
    env: Mapping[str, str]
    mounts: tuple[contract.Mount, ...]
    devices: tuple[contract.Device, ...]
    resources: contract.Resources
    seccomp_default: bool
    target_id: str = ""  # whose processes an ephemeral container joins
    volume_groups: tuple[int, ...] = ()


def container_config(pod: Pod, container: AnyContainer, parts: ContainerParts) -> ContainerConfig:
    image_user = security.ImageUser(parts.image.uid, parts.image.username)
    return ContainerConfig(
        name=container.name,
        attempt=parts.attempt,
        image=parts.image.id,
        user_image=container.image or "",
        command=tuple(expansion.expand(word, parts.env) for word in container.command),
        args=tuple(expansion.expand(word, parts.env) for word in container.args),
        working_dir=container.workingDir or "",
        env=tuple(parts.env.items()),
        mounts=parts.mounts,
        devices=parts.devices,
        labels={**_pod_labels(pod), labels.CONTAINER_NAME: container.name},
        annotations=_annotations(pod, container, parts.attempt),
        log_path=logs.relative_path(container.name, parts.attempt),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdinOnce),
        tty=bool(container.tty),
        resources=parts.resources,
        security=security.container_security(
            pod,
            container,
            image_user,
            seccomp_default=parts.seccomp_default,
            target_id=parts.target_id,
            volume_groups=parts.volume_groups,
        ),
        stop_signal=(container.lifecycle.stopSignal or "") if container.lifecycle else "",
    )


def _annotations(pod: Pod, container: AnyContainer, attempt: int) -> dict[str, str]:
    found = {
        labels.HASH: labels.container_hash(container),
        labels.RESTART_COUNT: str(attempt),
        labels.RESOURCES: codec.encode(container.resources).decode(),
        labels.TERMINATION_PATH: container.terminationMessagePath or "",
        labels.TERMINATION_POLICY: container.terminationMessagePolicy or "File",
    }
    if pod.metadata.deletionGracePeriodSeconds is not None:
        found[labels.POD_GRACE] = str(pod.metadata.deletionGracePeriodSeconds)
    if pod.spec.terminationGracePeriodSeconds is not None:
        found[labels.CONTAINER_GRACE] = str(pod.spec.terminationGracePeriodSeconds)
    if container.lifecycle and container.lifecycle.preStop:
        found[labels.PRE_STOP] = codec.encode(container.lifecycle).decode()
    if container.ports:
        found[labels.PORTS] = codec.encode(container.ports).decode()
    return found


def with_attempt(config: SandboxConfig, attempt: int) -> SandboxConfig:
    return replace(config, attempt=attempt)


def describe(pod: Pod, container: AnyContainer) -> str:
    """`container=c pod=p_ns(uid)`, as back-off messages name it."""
    return f"container={container.name} pod={podkeys.format_pod(pod)}"
