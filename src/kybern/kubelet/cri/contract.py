"""The container runtime's contract: what the kubelet may ask, and the nouns it answers with.

Implemented by client (gRPC, real runtimes) and by testing/fake_cri. Everything above works with these frozen
classes only; the generated messages stay inside client.

Rules of every implementation (the CRI's own):
* Every call is idempotent where its name allows: stopping or removing what is gone succeeds.
* `remove_sandbox` stops and removes what still runs inside. A container lives in exactly one sandbox.
* Times are nanoseconds since the epoch, 0 when it has not happened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType, Protocol

SandboxId = NewType("SandboxId", str)
ContainerId = NewType("ContainerId", str)
ImageRef = NewType("ImageRef", str)  # what CreateContainer takes: the runtime's own id of a pulled image


class CriError(Exception):
    """A call failed. `code` is the gRPC status name (`NotFound`, `DeadlineExceeded`, ...)."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(message)
        self.call = call
        self.code = code
        self.message = message

    @property
    def is_not_found(self) -> bool:
        return self.code == "NotFound"

    @property
    def is_unavailable(self) -> bool:
        return self.code == "Unavailable"

    def __str__(self) -> str:
        return f"rpc error: code = {self.code} desc = {self.message}"


class SandboxState(Enum):
    READY = 0
    NOT_READY = 1


class ContainerState(Enum):
    CREATED = 0
    RUNNING = 1
    EXITED = 2
    UNKNOWN = 3


class NamespaceMode(Enum):
    """Whose namespace a container joins."""

    POD = 0
    CONTAINER = 1
    NODE = 2
    TARGET = 3


class Propagation(Enum):
    PRIVATE = 0
    HOST_TO_CONTAINER = 1
    BIDIRECTIONAL = 2


class ProfileType(Enum):
    """How seccomp (and AppArmor) confine."""

    RUNTIME_DEFAULT = 0
    UNCONFINED = 1
    LOCALHOST = 2


@dataclass(frozen=True, slots=True)
class Version:
    name: str  # "containerd"
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class RuntimeHandler:
    name: str
    recursive_read_only: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeCondition:
    type: str  # RuntimeReady, NetworkReady
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    conditions: tuple[RuntimeCondition, ...] = ()
    handlers: tuple[RuntimeHandler, ...] = ()
    sandbox_image: str = ""  # never to be collected; "" where the runtime does not tell

    def problem(self, kind: str) -> str:
        """What is wrong with the condition `kind`; "" when it holds."""
        for condition in self.conditions:
            if condition.type == kind:
                if condition.status:
                    return ""
                return f"{condition.type}=false reason:{condition.reason} message:{condition.message}"
        return f"{kind} is not reported"


@dataclass(frozen=True, slots=True)
class NamespaceOptions:
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    type: ProfileType
    localhost_ref: str = ""


@dataclass(frozen=True, slots=True)
class SELinux:
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one container, in the runtime's units. 0 means "not set"."""

    cpu_period: int = 0  # µs
    cpu_quota: int = 0  # µs a period; -1 none
    cpu_shares: int = 0
    memory_limit: int = 0  # bytes
    oom_score_adj: int = 0
    hugepage_limits: tuple[tuple[str, int], ...] = ()  # ("2MB", bytes)
    unified: Mapping[str, str] = field(default_factory=dict)
    memory_swap_limit: int = 0


@dataclass(frozen=True, slots=True)
class PortMapping:
    protocol: str  # TCP, UDP, SCTP
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What a pod's sandbox is made of."""

    name: str
    uid: str
    namespace: str
    attempt: int
    hostname: str = ""
    log_directory: str = ""
    dns: DnsConfig | None = None
    ports: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    namespaces: NamespaceOptions = NamespaceOptions()
    selinux: SELinux | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    overhead: Resources | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    container_path: str
    host_path: str
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: Propagation = Propagation.PRIVATE
    recursive_read_only: bool = False
    image: str = ""  # an image volume: mount this image instead of host_path
    image_sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    container_path: str
    host_path: str
    permissions: str


@dataclass(frozen=True, slots=True)
class ContainerSecurity:
    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    namespaces: NamespaceOptions = NamespaceOptions()
    selinux: SELinux | None = None
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What one container is made of."""

    name: str
    attempt: int
    image: str  # an ImageRef
    user_image: str  # as the user wrote it
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""  # relative to the sandbox's log directory
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = Resources()
    security: ContainerSecurity = ContainerSecurity()
    stop_signal: str = ""  # "SIGUSR1"; "" is the image's
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox, from a listing."""

    id: SandboxId
    name: str
    uid: str
    namespace: str
    attempt: int
    state: SandboxState
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """A sandbox with what only its status tells."""

    sandbox: Sandbox
    ips: tuple[str, ...] = ()
    network: NamespaceMode = NamespaceMode.POD


@dataclass(frozen=True, slots=True)
class Container:
    """A container, from a listing."""

    id: ContainerId
    sandbox_id: SandboxId
    name: str
    attempt: int
    state: ContainerState
    created_at: int
    image: str
    image_ref: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerUser:
    uid: int
    gid: int
    supplemental_groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container with what only its status tells."""

    id: ContainerId
    name: str
    attempt: int
    state: ContainerState
    created_at: int
    started_at: int
    finished_at: int
    exit_code: int
    image: str
    image_ref: str
    image_id: str = ""
    reason: str = ""
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    resources: Resources | None = None
    user: ContainerUser | None = None


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True)
class Image:
    id: ImageRef
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    uid: int | None = None  # the user its config names, when numeric
    username: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class HostMount:
    """Arguments of mount(2)."""

    type: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Auth:
    """Credentials of a registry."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(frozen=True, slots=True)
class Filesystem:
    mountpoint: str
    used_bytes: int
    inodes_used: int


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container uses now. Times in ns, cpu in ns since its start and nano-cores."""

    id: ContainerId
    name: str
    labels: Mapping[str, str]
    timestamp: int
    cpu_ns: int
    working_set: int
    usage: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    layer_bytes: int = 0
    layer_inodes: int = 0
    layer_timestamp: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a container or sandbox. `pod_uid` is "" when the source does not know it."""

    container_id: str
    pod_uid: str = ""


class Cri(Protocol):
    """See the module's docstring for the rules. Every failure is a CriError."""

    async def version(self) -> Version: ...

    async def status(self) -> RuntimeStatus: ...

    async def update_runtime_config(self, pod_cidr: str) -> None: ...

    async def run_sandbox(self, config: SandboxConfig, handler: str) -> SandboxId: ...

    async def stop_sandbox(self, sandbox: SandboxId) -> None: ...

    async def remove_sandbox(self, sandbox: SandboxId) -> None: ...

    async def sandbox_status(self, sandbox: SandboxId) -> SandboxStatus: ...

    async def list_sandboxes(self, uid: str = "") -> Sequence[Sandbox]:
        """All, or those of one pod."""
        ...

    async def create_container(
        self, sandbox: SandboxId, config: ContainerConfig, sandbox_config: SandboxConfig
    ) -> ContainerId: ...

    async def start_container(self, container: ContainerId) -> None: ...

    async def stop_container(self, container: ContainerId, grace: int) -> None:
        """Send the stop signal, after `grace` seconds SIGKILL; returns when it has exited."""
        ...

    async def remove_container(self, container: ContainerId) -> None: ...

    async def list_containers(self, uid: str = "") -> Sequence[Container]:
        """All, or those of one pod."""
        ...

    async def container_status(self, container: ContainerId) -> ContainerStatus: ...

    async def update_resources(self, container: ContainerId, resources: Resources) -> None: ...

    async def reopen_log(self, container: ContainerId) -> None: ...

    async def exec_sync(self, container: ContainerId, command: Sequence[str], timeout: float) -> ExecResult:
        """Run and wait. `timeout` in seconds, 0 for none; a CriError with DeadlineExceeded when it passes."""
        ...

    async def exec_url(
        self, container: ContainerId, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """Where to stream an exec (the runtime's streaming server)."""
        ...

    async def attach_url(
        self, container: ContainerId, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str: ...

    async def port_forward_url(self, sandbox: SandboxId, ports: Sequence[int]) -> str: ...

    async def container_usage(self) -> Sequence[ContainerUsage]: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Events as they happen. Raises CriError when the stream ends; the caller relists and asks anew."""
        ...

    async def list_images(self) -> Sequence[Image]: ...

    async def image_status(self, image: str) -> Image | None: ...

    async def pull_image(self, image: str, auth: Auth | None, sandbox: SandboxConfig | None) -> ImageRef: ...

    async def remove_image(self, image: str) -> None: ...

    async def view_image(self, image: str, key: str) -> Sequence[HostMount]:
        """Mounts that show the files of an image, read-only, until `drop_view(key)`. Asked again: the same."""
        ...

    async def drop_view(self, key: str) -> None:
        """The view is no longer mounted. Succeeds if there is none."""
        ...

    async def image_filesystems(self) -> Sequence[Filesystem]: ...

    async def close(self) -> None: ...
