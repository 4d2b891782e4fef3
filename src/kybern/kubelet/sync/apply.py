"""Carry out a plan's orders for one pod: sandboxes, images, containers, hooks, and their ends.

Called by pod_workers, one order after the other; cancelled when the pod is to end instead. Failures to start are
StartFailed (a container) or SandboxFailed (the pod); both are shown in the status and tried again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from kybern.api.core_v1 import Pod, Secret, Service
from kybern.client.recorder import EventRecorder
from kybern.kubelet import dns, env, hooks, objects, podkeys, resources, security
from kybern.kubelet.cgroups.tree import CgroupTree
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import ContainerId, Cri, CriError
from kybern.kubelet.failures import Reason, StartFailed, VolumeFailed
from kybern.kubelet.images import Images, user_of
from kybern.kubelet.metrics import Metrics
from kybern.kubelet.objects import NotSynced, ReferencedObjects
from kybern.kubelet.podkeys import AnyContainer, Role
from kybern.kubelet.sync import build, logs, mounts, plan
from kybern.kubelet.sync.facts import ContainerFact, PodFacts
from kybern.kubelet.volumes.contract import HostVolume
from kybern.kubelet.volumes.pod_volumes import PodVolumes
from kybern.machinery.clock import Clock

LEAST_GRACE = 2  # seconds a container gets after its preStop hook used up the rest

log = structlog.get_logger(__name__)


class SandboxFailed(Exception):
    """The pod's sandbox, or something it needs first, could not be made."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the node, for what is created on it."""

    node_name: str
    node_ips: tuple[str, ...]
    log_root: str
    log_links: str
    cluster: dns.Cluster
    resolv_conf: str
    seccomp_default: bool = False
    cpu_cfs_quota: bool = True
    memory_capacity: int = 0


@dataclass(slots=True)
class PodWork:
    """What a worker remembers of a pod between orders."""

    volumes: Mapping[str, HostVolume] | None = None  # ready on the node
    sandbox: contract.SandboxConfig | None = None  # of the current sandbox
    hosts_for: tuple[str, ...] | None = None  # addresses /etc/hosts was written for
    pod_ips: tuple[str, ...] = ()
    told: set[str] = field(default_factory=set)  # problems that had their event


class Applier:
    """Order by order, one pod at a time each call."""

    def __init__(
        self,
        cri: Cri,
        images: Images,
        volumes: PodVolumes,
        cgroups: CgroupTree,
        references: ReferencedObjects,
        recorder: EventRecorder,
        clock: Clock,
        settings: Settings,
        services: Callable[[str], Sequence[Service]],
        runtime_handler: Callable[[str], str | None],
        allocatable: Callable[[], Mapping[str, str]],
        metrics: Metrics,
    ) -> None:
        self.cri = cri
        self.images = images
        self.volumes = volumes
        self.cgroups = cgroups
        self.references = references
        self.recorder = recorder
        self.clock = clock
        self.settings = settings
        self._services = services
        self._runtime_handler = runtime_handler
        self._allocatable = allocatable
        self.metrics = metrics

    # Sandboxes.

    async def create_sandbox(self, pod: Pod, work: PodWork, attempt: int) -> None:
        """Volumes, cgroup, directories, then the sandbox itself. Raises SandboxFailed."""
        await self.prepare_volumes(pod, work)
        try:
            await self.cgroups.ensure(pod)
            await asyncio.to_thread(self._make_directories, pod)
        except OSError as error:
            self._event(pod, "Warning", "FailedCreatePodContainer", f"unable to ensure pod container exists: {error}")
            raise SandboxFailed(f"unable to ensure pod container exists: {error}") from None
        handler = self._handler(pod)
        config = await self._sandbox_config(pod, work, attempt)
        try:
            await self.cri.run_sandbox(config, handler)
        except CriError as error:
            message = f"Failed to create pod sandbox: {error}"
            self._event(pod, "Warning", "FailedCreatePodSandBox", message)
            self.metrics.count_sandbox(failed=True)
            raise SandboxFailed(message) from None
        self.metrics.count_sandbox(failed=False)
        work.hosts_for = None

    def _handler(self, pod: Pod) -> str:
        name = pod.spec.runtimeClassName or ""
        handler = self._runtime_handler(name) if name else ""
        if handler is None:
            message = f'Failed to create pod sandbox: RuntimeClass "{name}" not found'
            self._event(pod, "Warning", "FailedCreatePodSandBox", message)
            raise SandboxFailed(message)
        return handler

    async def prepare_volumes(self, pod: Pod, work: PodWork) -> Mapping[str, HostVolume]:
        """All volumes ready. Raises SandboxFailed."""
        try:
            await self.references.wait_known(objects.references_of(pod))
            work.volumes = await self.volumes.set_up(pod, work.pod_ips)
        except NotSynced as error:
            self._event(pod, "Warning", "FailedMount", str(error))
            raise SandboxFailed(str(error)) from None
        except VolumeFailed as error:
            message = f'MountVolume.SetUp failed for volume "{error.volume}" : {error.message}'
            self._event(pod, "Warning", "FailedMount", message)
            raise SandboxFailed(message) from None
        return work.volumes

    def _make_directories(self, pod: Pod) -> None:
        root = self.volumes.directory(pod.metadata.uid)
        (root / "volumes").mkdir(parents=True, exist_ok=True)
        root.chmod(0o750)
        logs.pod_directory(self.settings.log_root, pod).mkdir(parents=True, exist_ok=True)

    async def _sandbox_config(self, pod: Pod, work: PodWork, attempt: int) -> contract.SandboxConfig:
        if work.sandbox is not None and work.sandbox.attempt == attempt:
            return work.sandbox
        host = await asyncio.to_thread(dns.read_resolv_conf, self.settings.resolv_conf)
        resolver, problem = dns.plan_dns(pod, self.settings.cluster, host)
        if problem:
            self._event(pod, "Warning", "MissingClusterDNS", problem)
        try:
            hostname, _ = dns.host_name(pod, self.settings.cluster.domain)
        except ValueError as error:
            self._event(pod, "Warning", "FailedCreatePodSandBox", str(error))
            raise SandboxFailed(str(error)) from None
        parts = build.SandboxParts(hostname, resolver, self.settings.log_root, self.cgroups.parent_of(pod))
        work.sandbox = build.sandbox_config(pod, attempt, parts)
        return work.sandbox

    # Containers.

    async def start_container(
        self, pod: Pod, work: PodWork, facts: PodFacts, sandbox: contract.SandboxStatus, order: plan.StartContainer
    ) -> None:
        """Image, configuration, create, start, postStart. Raises StartFailed, SandboxFailed."""
        found = podkeys.find_container(pod, order.name)
        if found is None:
            return
        container = found[1]
        config = await self._sandbox_config(pod, work, sandbox.sandbox.attempt)
        image = await self._image(pod, container, config)
        created = await self._configure(pod, work, facts, sandbox, container, order, image)
        try:
            container_id = await self.cri.create_container(sandbox.sandbox.id, created, config)
        except CriError as error:
            self._container_event(pod, container, "Warning", "Failed", f"Error: {error.message}")
            raise StartFailed(Reason.CREATE, error.message) from None
        self._container_event(pod, container, "Normal", "Created", f"Created container: {container.name}")
        try:
            await self.cri.start_container(container_id)
        except CriError as error:
            self._container_event(pod, container, "Warning", "Failed", f"Error: {error.message}")
            raise StartFailed(Reason.RUN, error.message) from None
        self._container_event(pod, container, "Normal", "Started", f"Started container {container.name}")
        self.metrics.count_start(order.role)
        log_file = logs.pod_directory(self.settings.log_root, pod) / created.log_path
        await asyncio.to_thread(logs.link, self.settings.log_links, pod, container.name, container_id, log_file)
        await self._post_start(pod, work, container, container_id)

    async def _image(self, pod: Pod, container: AnyContainer, config: contract.SandboxConfig) -> contract.Image:
        secrets: list[Secret] = []
        for reference in pod.spec.imagePullSecrets:
            secret = self.references.secret(pod.metadata.namespace, reference.name or "")
            if secret is not None:
                secrets.append(secret)
        return await self.images.ensure(pod, container, secrets, config)

    async def _configure(
        self,
        pod: Pod,
        work: PodWork,
        facts: PodFacts,
        sandbox: contract.SandboxStatus,
        container: AnyContainer,
        order: plan.StartContainer,
        image: contract.Image,
    ) -> contract.ContainerConfig:
        try:
            volumes = work.volumes if work.volumes is not None else await self.prepare_volumes(pod, work)
            environment = await self._environment(pod, work, sandbox, container)
            security.check_non_root(pod, container, user_of(image))
            place = mounts.Place(self.volumes.directory(pod.metadata.uid))
            built, devices = await asyncio.to_thread(
                self._files, pod, work, container, volumes, environment.values, place, order.attempt
            )
        except StartFailed as error:
            self._container_event(pod, container, "Warning", "Failed", f"Error: {error.message}")
            raise
        except OSError as error:
            self._container_event(pod, container, "Warning", "Failed", f"Error: {error}")
            raise StartFailed(Reason.CONFIG, str(error)) from None
        limits = self._limits(pod, container)
        parts = build.ContainerParts(
            attempt=order.attempt,
            image=image,
            env=environment.values,
            mounts=built,
            devices=devices,
            resources=limits,
            seccomp_default=self.settings.seccomp_default,
            target_id=self._target(container, order, facts),
            volume_groups=tuple(group for volume in volumes.values() for group in volume.groups),
        )
        return build.container_config(pod, container, parts)

    def _limits(self, pod: Pod, container: AnyContainer) -> contract.Resources:
        return resources.container_resources(
            pod,
            container,
            self.settings.memory_capacity,
            unified=self.cgroups.hierarchy.is_unified,
            cfs_quota=self.settings.cpu_cfs_quota,
        )

    async def resize_container(self, pod: Pod, fact: ContainerFact) -> None:
        """Give a running container what the (granted) spec says. Raises CriError."""
        found = podkeys.find_container(pod, fact.name)
        if found is None:
            return
        limits = self._limits(pod, found[1])
        # 0 would leave an old quota in place.
        await self.cri.update_resources(fact.id, replace(limits, cpu_quota=limits.cpu_quota or -1))

    @staticmethod
    def _target(container: AnyContainer, order: plan.StartContainer, facts: PodFacts) -> str:
        name = getattr(container, "targetContainerName", None)
        if order.role is not Role.EPHEMERAL or not name:
            return ""
        target = facts.latest.get(name)
        if target is None or not target.is_running:
            raise StartFailed(Reason.CREATE, f"unable to find target container {name!r}")
        return target.id

    async def _environment(
        self, pod: Pod, work: PodWork, sandbox: contract.SandboxStatus, container: AnyContainer
    ) -> env.Environment:
        try:
            await self.references.wait_known(objects.references_of(pod))
        except NotSynced as error:
            raise StartFailed(Reason.CONFIG, str(error)) from None
        ips = self.settings.node_ips if pod.spec.hostNetwork else sandbox.ips
        work.pod_ips = tuple(ips)
        sources = env.Sources(
            config_map=self.references.config_map,
            secret=self.references.secret,
            services=self._services(pod.metadata.namespace),
            pod_ips=ips,
            host_ips=self.settings.node_ips,
            node_name=self.settings.node_name,
            allocatable=self._allocatable(),
            read_volume_file=lambda volume, path: _read_in_volume(work, volume, path),
        )
        environment = env.build(pod, container, sources)
        if environment.skipped:
            names = ", ".join(environment.skipped)
            self._container_event(
                pod, container, "Warning", "InvalidEnvironmentVariableNames",
                f"Keys [{names}] were skipped since they are considered invalid environment variable names.",
            )  # fmt: skip
        return environment

    def _files(
        self,
        pod: Pod,
        work: PodWork,
        container: AnyContainer,
        volumes: Mapping[str, HostVolume],
        values: Mapping[str, str],
        place: mounts.Place,
        attempt: int,
    ) -> tuple[tuple[contract.Mount, ...], tuple[contract.Device, ...]]:
        """Blocking: what a container's mounts point to."""
        logs.make_directories(self.settings.log_root, pod, container.name)
        if work.hosts_for != work.pod_ips:
            hostname, domain = dns.host_name(pod, self.settings.cluster.domain)
            if pod.spec.hostNetwork:
                hostname = socket.gethostname()
            text = dns.hosts_file(pod, work.pod_ips, hostname, domain, _node_hosts())
            place.root.mkdir(parents=True, exist_ok=True)
            _replace_text(place.hosts, text)
            work.hosts_for = work.pod_ips
        return mounts.build(pod, container, volumes, values, place, attempt)

    async def _post_start(self, pod: Pod, work: PodWork, container: AnyContainer, container_id: ContainerId) -> None:
        handler = container.lifecycle.postStart if container.lifecycle else None
        if handler is None:
            return
        ip = work.pod_ips[0] if work.pod_ips else ""
        try:
            await hooks.run(self.cri, self.clock, handler, container, container_id, ip)
        except hooks.HookFailed as error:
            self._container_event(pod, container, "Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            await self._stop(
                pod, container, container_id, podkeys.grace_of(pod), "FailedPostStartHook", work, hook=False
            )
            raise StartFailed(Reason.POST_START, f"PostStartHook failed: {error}") from None

    # Ends.

    async def kill_container(self, pod: Pod, work: PodWork, fact: ContainerFact, why: str, grace: int | None) -> None:
        """preStop, stop signal, and after the grace period SIGKILL. Raises CriError."""
        found = podkeys.find_container(pod, fact.name)
        seconds = podkeys.grace_of(pod) if grace is None else grace
        await self._stop(pod, found[1] if found else None, fact.id, seconds, why, work)

    async def kill_pod(self, pod: Pod, work: PodWork, facts: PodFacts, grace: int) -> None:
        """End everything: regular containers first, then sidecars in reverse order, then the sandboxes."""
        sidecars = [c.name for c in pod.spec.initContainers if podkeys.role_of_init(c) is Role.SIDECAR]
        ended = {fact.name: asyncio.Event() for fact in facts.running}
        async with asyncio.TaskGroup() as tasks:
            for fact in facts.running:
                first = [n for n in ended if n not in sidecars]
                if fact.name in sidecars:
                    first += sidecars[sidecars.index(fact.name) + 1 :]
                else:
                    first = []
                waits = [ended[name] for name in first if name in ended and name != fact.name]
                tasks.create_task(
                    self._end_in_turn(pod, work, fact, grace, waits, ended[fact.name]), name=f"kill:{fact.name}"
                )
        for sandbox in facts.sandboxes:
            if sandbox.sandbox.state is contract.SandboxState.READY:
                await self.cri.stop_sandbox(sandbox.sandbox.id)

    async def _end_in_turn(
        self,
        pod: Pod,
        work: PodWork,
        fact: ContainerFact,
        grace: int,
        waits: Sequence[asyncio.Event],
        ended: asyncio.Event,
    ) -> None:
        found = podkeys.find_container(pod, fact.name)
        try:
            await self._stop(
                pod, found[1] if found else None, fact.id, grace, f"Stopping container {fact.name}", work, waits=waits
            )
        finally:
            ended.set()

    async def _stop(
        self,
        pod: Pod,
        container: AnyContainer | None,
        container_id: ContainerId,
        grace: int,
        why: str,
        work: PodWork,
        *,
        waits: Sequence[asyncio.Event] = (),
        hook: bool = True,
    ) -> None:
        if container is not None:
            self._container_event(pod, container, "Normal", "Killing", why)
        started = self.clock.monotonic()
        if hook and container is not None and grace > 0:
            await self._pre_stop(pod, work, container, container_id, grace)
        left = grace - (self.clock.monotonic() - started)
        if waits and left > 0:
            await self._wait_turn(waits, left)
            left = grace - (self.clock.monotonic() - started)
        seconds = round(left)
        if seconds < LEAST_GRACE:
            seconds = min(LEAST_GRACE, max(grace, 0)) if grace < LEAST_GRACE else LEAST_GRACE
        await self.cri.stop_container(container_id, seconds)

    @staticmethod
    async def _wait_turn(waits: Sequence[asyncio.Event], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                for event in waits:
                    await event.wait()
        except TimeoutError:
            return  # out of time: everyone goes now

    async def _pre_stop(
        self, pod: Pod, work: PodWork, container: AnyContainer, container_id: ContainerId, grace: int
    ) -> None:
        handler = container.lifecycle.preStop if container.lifecycle else None
        if handler is None:
            return
        ip = work.pod_ips[0] if work.pod_ips else ""
        try:
            async with asyncio.timeout(grace):
                await hooks.run(self.cri, self.clock, handler, container, container_id, ip)
        except TimeoutError:
            log.info("a preStop hook used up the grace period", pod=podkeys.key_of(pod), container=container.name)
        except hooks.HookFailed as error:
            self._container_event(pod, container, "Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")

    async def remove_container(self, fact: ContainerFact, pod: Pod) -> None:
        """And its log. Raises CriError."""
        await self.cri.remove_container(fact.id)
        await asyncio.to_thread(self._remove_log, pod, fact)

    def _remove_log(self, pod: Pod, fact: ContainerFact) -> None:
        logs.remove_links(self.settings.log_links, fact.id)
        directory = logs.pod_directory(self.settings.log_root, pod) / fact.name
        for path in directory.glob(f"{fact.status.attempt}.log*"):
            path.unlink(missing_ok=True)

    # Events.

    def _event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        self.recorder.event(pod, kind, reason, message)

    def _container_event(self, pod: Pod, container: AnyContainer, kind: str, reason: str, message: str) -> None:
        self.recorder.event(pod, kind, reason, message, field_path=podkeys.field_path(pod, container.name))


def _read_in_volume(work: PodWork, volume: str, path: str) -> str | None:
    """A small text file of a volume (fileKeyRef), never one outside of it."""
    ready = (work.volumes or {}).get(volume)
    if ready is None or not ready.path:
        return None
    base = os.path.realpath(ready.path)
    full = os.path.realpath(os.path.join(base, path))
    if not full.startswith(base + "/"):
        return None
    try:
        with open(full, encoding="utf-8", errors="replace") as file:
            return file.read(64 * 1024)
    except OSError:
        return None


def _node_hosts() -> str:
    try:
        return Path("/etc/hosts").read_text(errors="replace")
    except OSError:
        return ""


def _replace_text(path: Path, text: str) -> None:
    """In place: the file is bind-mounted into containers, so its inode must stay."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
