"""A container runtime in memory that obeys the CRI's rules, for tests without containers.

Implements `kubelet.cri.contract.Cri`; testing/cri_suite runs the same tests on it and on real containerd.
What containers do is said by `Script`s, by container name: how they exit, and when.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import (
    ContainerId,
    ContainerState,
    CriError,
    ImageRef,
    NamespaceMode,
    SandboxId,
    SandboxState,
)
from kybern.machinery.clock import Clock


@dataclass(frozen=True, slots=True)
class Script:
    """What a container does once started."""

    exit_code: int | None = None  # None: it runs until it is stopped
    ignores_stop: bool = False  # SIGTERM is not enough: it takes the whole grace period
    stop_code: int = 0  # its exit code after the stop signal
    start_error: str = ""  # it cannot be started
    exec_codes: tuple[int, ...] = ()  # of ExecSync, one after the other; then 0


@dataclass(slots=True)
class _Sandbox:
    config: contract.SandboxConfig
    facts: contract.Sandbox
    ip: str


@dataclass(slots=True)
class _Container:
    sandbox: SandboxId
    config: contract.ContainerConfig
    status: contract.ContainerStatus
    execs: list[int] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


DEFAULT = Script()


class FakeCri:
    """Tests read `calls`, change `scripts` and `failures`, and end containers with `exit`."""

    def __init__(self, clock: Clock, images: Sequence[str] = ("app:1",)) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._sandboxes: dict[SandboxId, _Sandbox] = {}
        self._containers: dict[ContainerId, _Container] = {}
        self._images: dict[str, contract.Image] = {}
        self._listeners: list[asyncio.Queue[contract.RuntimeEvent]] = []
        self.scripts: dict[str, Script] = {}
        self.failures: dict[str, list[CriError]] = {}  # by call: raised once each
        self.remote: dict[str, contract.Image] = {}  # what a pull can get
        self.calls: list[str] = []
        self.conditions: tuple[contract.RuntimeCondition, ...] = (
            contract.RuntimeCondition("RuntimeReady", True),
            contract.RuntimeCondition("NetworkReady", True),
        )
        self.pod_cidr = ""
        self.views: set[str] = set()  # of images
        for name in images:
            self.add_image(name)

    # For tests.

    def add_image(self, name: str, *, uid: int | None = None, username: str = "") -> contract.Image:
        image = contract.Image(ImageRef(f"sha256:{name}"), (name,), (), 1000, uid, username)
        self._images[name] = image
        return image

    def exit(self, container: ContainerId, code: int, reason: str = "") -> None:
        """The container ends by itself."""
        found = self._containers[container]
        if found.status.state is not ContainerState.RUNNING:
            raise AssertionError(f"container {container} is not running")
        self._end(found, code, reason)

    def fail_sandbox(self, sandbox: SandboxId) -> None:
        """The sandbox dies, and with it all that ran inside."""
        found = self._sandboxes[sandbox]
        found.facts = replace(found.facts, state=SandboxState.NOT_READY)
        for container in self._containers.values():
            if container.sandbox == sandbox and container.status.state is ContainerState.RUNNING:
                self._end(container, 137, "Error")
        self._tell(sandbox, found.facts.uid)

    def running(self) -> list[str]:
        """Names of running containers, in order of creation."""
        return [c.status.name for c in self._containers.values() if c.status.state is ContainerState.RUNNING]

    def config_of(self, container: ContainerId) -> contract.ContainerConfig:
        return self._containers[container].config

    # The rules.

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 10**9)

    async def _called(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.failures.get(call):
            raise self.failures[call].pop(0)

    def _tell(self, what: str, uid: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(contract.RuntimeEvent(what, uid))

    def _sandbox(self, call: str, sandbox: SandboxId) -> _Sandbox:
        if sandbox not in self._sandboxes:
            raise CriError(call, "NotFound", f"sandbox {sandbox} not found")
        return self._sandboxes[sandbox]

    def _container(self, call: str, container: ContainerId) -> _Container:
        if container not in self._containers:
            raise CriError(call, "NotFound", f"container {container} not found")
        return self._containers[container]

    def _end(self, container: _Container, code: int, reason: str = "") -> None:
        reason = reason or ("Completed" if code == 0 else "Error")
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            exit_code=code,
            reason=reason,
            finished_at=max(self._now(), container.status.started_at + 1),
        )
        container.stopped.set()
        self._tell(container.status.id, container.config.labels.get(labels.POD_UID, ""))

    # contract.Cri

    async def version(self) -> contract.Version:
        await self._called("version")
        return contract.Version("fake", "1.0", "v1")

    async def status(self) -> contract.RuntimeStatus:
        await self._called("status")
        return contract.RuntimeStatus(self.conditions)

    async def update_runtime_config(self, pod_cidr: str) -> None:
        await self._called("update_runtime_config")
        self.pod_cidr = pod_cidr

    async def run_sandbox(self, config: contract.SandboxConfig, handler: str) -> SandboxId:
        await self._called("run_sandbox")
        if handler not in ("", "runc"):
            raise CriError("RunPodSandbox", "Unknown", f'no runtime for "{handler}" is configured')
        taken = (config.name, config.uid, config.namespace, config.attempt)
        for known in self._sandboxes.values():
            facts = known.facts
            if (facts.name, facts.uid, facts.namespace, facts.attempt) == taken:
                raise CriError("RunPodSandbox", "Unknown", f'name "{"_".join(map(str, taken))}" is reserved')
        number = next(self._ids)
        sandbox = SandboxId(f"s{number}")
        facts = contract.Sandbox(
            id=sandbox,
            name=config.name,
            uid=config.uid,
            namespace=config.namespace,
            attempt=config.attempt,
            state=SandboxState.READY,
            created_at=self._now() + number,
            labels=dict(config.labels),
            annotations=dict(config.annotations),
            runtime_handler=handler,
        )
        on_host = config.namespaces.network is NamespaceMode.NODE
        self._sandboxes[sandbox] = _Sandbox(config, facts, "" if on_host else f"10.0.0.{number}")
        self._tell(sandbox, config.uid)
        return sandbox

    async def stop_sandbox(self, sandbox: SandboxId) -> None:
        await self._called("stop_sandbox")
        if sandbox in self._sandboxes:
            self.fail_sandbox(sandbox)

    async def remove_sandbox(self, sandbox: SandboxId) -> None:
        await self._called("remove_sandbox")
        if sandbox not in self._sandboxes:
            return
        self.fail_sandbox(sandbox)
        for container in [c for c, known in self._containers.items() if known.sandbox == sandbox]:
            del self._containers[container]
        del self._sandboxes[sandbox]

    async def sandbox_status(self, sandbox: SandboxId) -> contract.SandboxStatus:
        await self._called("sandbox_status")
        found = self._sandbox("PodSandboxStatus", sandbox)
        ready = found.facts.state is SandboxState.READY
        return contract.SandboxStatus(
            found.facts, (found.ip,) if ready and found.ip else (), found.config.namespaces.network
        )

    async def list_sandboxes(self, uid: str = "") -> Sequence[contract.Sandbox]:
        await self._called("list_sandboxes")
        return [s.facts for s in self._sandboxes.values() if not uid or s.facts.labels.get(labels.POD_UID) == uid]

    async def create_container(
        self, sandbox: SandboxId, config: contract.ContainerConfig, sandbox_config: contract.SandboxConfig
    ) -> ContainerId:
        await self._called("create_container")
        home = self._sandbox("CreateContainer", sandbox)
        if home.facts.state is not SandboxState.READY:
            raise CriError("CreateContainer", "Unknown", f"sandbox container {sandbox} is not running")
        if not any(image.id == config.image for image in self._images.values()):
            raise CriError("CreateContainer", "NotFound", f"image {config.image} not found")
        for known in self._containers.values():
            same = (known.config.name, known.config.attempt) == (config.name, config.attempt)
            if same and known.config.labels.get(labels.POD_UID) == config.labels.get(labels.POD_UID):
                raise CriError("CreateContainer", "Unknown", f"name {config.name}_{config.attempt} is reserved")
        number = next(self._ids)
        container = ContainerId(f"c{number}")
        status = contract.ContainerStatus(
            id=container,
            name=config.name,
            attempt=config.attempt,
            state=ContainerState.CREATED,
            created_at=self._now() + number,
            started_at=0,
            finished_at=0,
            exit_code=0,
            image=config.user_image or config.image,
            image_ref=config.image,
            labels=dict(config.labels),
            annotations=dict(config.annotations),
            log_path=f"{home.config.log_directory}/{config.log_path}",
            resources=config.resources,
        )
        self._containers[container] = _Container(sandbox, config, status)
        return container

    async def start_container(self, container: ContainerId) -> None:
        await self._called("start_container")
        found = self._container("StartContainer", container)
        if found.status.state is not ContainerState.CREATED:
            raise CriError("StartContainer", "Unknown", f"container is in {found.status.state.name} state")
        script = self.scripts.get(found.config.name, DEFAULT)
        if script.start_error:
            self._end(found, 128, "StartError")
            raise CriError("StartContainer", "Unknown", script.start_error)
        found.execs = list(script.exec_codes)
        found.status = replace(found.status, state=ContainerState.RUNNING, started_at=self._now())
        self._tell(container, found.config.labels.get(labels.POD_UID, ""))
        if script.exit_code is not None:
            self._end(found, script.exit_code)

    async def stop_container(self, container: ContainerId, grace: int) -> None:
        await self._called("stop_container")
        found = self._containers.get(container)
        if found is None or found.status.state is not ContainerState.RUNNING:
            return
        script = self.scripts.get(found.config.name, DEFAULT)
        if script.ignores_stop and grace > 0:
            await self._clock.sleep(grace)
        if found.status.state is ContainerState.RUNNING:
            self._end(found, 137 if script.ignores_stop or grace == 0 else script.stop_code)

    async def remove_container(self, container: ContainerId) -> None:
        await self._called("remove_container")
        self._containers.pop(container, None)

    async def list_containers(self, uid: str = "") -> Sequence[contract.Container]:
        await self._called("list_containers")
        return [
            contract.Container(
                id=c.status.id,
                sandbox_id=c.sandbox,
                name=c.status.name,
                attempt=c.status.attempt,
                state=c.status.state,
                created_at=c.status.created_at,
                image=c.status.image,
                image_ref=c.status.image_ref,
                labels=c.status.labels,
                annotations=c.status.annotations,
            )
            for c in self._containers.values()
            if not uid or c.config.labels.get(labels.POD_UID) == uid
        ]

    async def container_status(self, container: ContainerId) -> contract.ContainerStatus:
        await self._called("container_status")
        return self._container("ContainerStatus", container).status

    async def update_resources(self, container: ContainerId, resources: contract.Resources) -> None:
        await self._called("update_resources")
        found = self._container("UpdateContainerResources", container)
        found.status = replace(found.status, resources=resources)

    async def reopen_log(self, container: ContainerId) -> None:
        await self._called("reopen_log")
        if self._container("ReopenContainerLog", container).status.state is not ContainerState.RUNNING:
            raise CriError("ReopenContainerLog", "Unknown", "container is not running")

    async def exec_sync(self, container: ContainerId, command: Sequence[str], timeout: float) -> contract.ExecResult:
        await self._called("exec_sync")
        found = self._container("ExecSync", container)
        if found.status.state is not ContainerState.RUNNING:
            raise CriError("ExecSync", "Unknown", "container is not running")
        return contract.ExecResult(b"", b"", found.execs.pop(0) if found.execs else 0)

    async def exec_url(
        self, container: ContainerId, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        await self._called("exec_url")
        self._container("Exec", container)
        return f"http://127.0.0.1:1/exec/{container}"

    async def attach_url(self, container: ContainerId, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        await self._called("attach_url")
        self._container("Attach", container)
        return f"http://127.0.0.1:1/attach/{container}"

    async def port_forward_url(self, sandbox: SandboxId, ports: Sequence[int]) -> str:
        await self._called("port_forward_url")
        self._sandbox("PortForward", sandbox)
        return f"http://127.0.0.1:1/portforward/{sandbox}"

    async def container_usage(self) -> Sequence[contract.ContainerUsage]:
        await self._called("container_usage")
        return [
            contract.ContainerUsage(c.status.id, c.status.name, c.status.labels, self._now(), 10**6, 1 << 20)
            for c in self._containers.values()
            if c.status.state is ContainerState.RUNNING
        ]

    async def events(self) -> AsyncIterator[contract.RuntimeEvent]:
        queue: asyncio.Queue[contract.RuntimeEvent] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def list_images(self) -> Sequence[contract.Image]:
        await self._called("list_images")
        return list(self._images.values())

    async def image_status(self, image: str) -> contract.Image | None:
        await self._called("image_status")
        by_id = (i for i in self._images.values() if i.id == image)
        return self._images.get(image) or next(by_id, None)

    async def pull_image(
        self, image: str, auth: contract.Auth | None, sandbox: contract.SandboxConfig | None
    ) -> ImageRef:
        await self._called("pull_image")
        if image not in self.remote:
            raise CriError("PullImage", "NotFound", f'failed to resolve reference "{image}": not found')
        self._images[image] = self.remote[image]
        return self.remote[image].id

    async def remove_image(self, image: str) -> None:
        await self._called("remove_image")
        for name in [n for n, known in self._images.items() if image in (n, known.id)]:
            del self._images[name]

    async def view_image(self, image: str, key: str) -> Sequence[contract.HostMount]:
        await self._called("view_image")
        self.views.add(key)
        return [contract.HostMount("tmpfs", "tmpfs", ("ro",))]

    async def drop_view(self, key: str) -> None:
        await self._called("drop_view")
        self.views.discard(key)

    async def image_filesystems(self) -> Sequence[contract.Filesystem]:
        await self._called("image_filesystems")
        return [contract.Filesystem("/fake", sum(i.size for i in self._images.values()), len(self._images))]

    async def close(self) -> None:
        self._listeners.clear()
