"""The CRI over gRPC: real runtimes behind `contract.Cri`.

Used by everything in the kubelet that touches containers; messages are translated in messages.py. Every failure
becomes a CriError at one door (`_call`). grpc is imported when a client is built, which keeps other commands quick.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from kybern.kubelet.cri import contract, labels
from kybern.kubelet.cri.contract import ContainerId, CriError, ImageRef, SandboxId

DEFAULT_TIMEOUT = 120.0  # kubelet --runtime-request-timeout is 2m
SANDBOX_TIMEOUT = 240.0  # network plugins may be slow
PULL_TIMEOUT = 3600.0
_MAX_MESSAGE = 16 << 20
SNAPSHOTTER = "overlayfs"  # containerd's default, in which its CRI keeps images

_RUNTIME = "/runtime.v1.RuntimeService/"
_IMAGE = "/runtime.v1.ImageService/"
_CODES = {"DEADLINE_EXCEEDED": "DeadlineExceeded", "NOT_FOUND": "NotFound", "ALREADY_EXISTS": "AlreadyExists"}


def _code_name(code: Any) -> str:
    """`NOT_FOUND` as Go writes it: `NotFound`."""
    name = code.name if code is not None else "UNKNOWN"
    return _CODES.get(name) or "".join(part.capitalize() for part in name.split("_"))


def socket_target(endpoint: str) -> str:
    """`unix:///run/x.sock` or `/run/x.sock` as a gRPC target. Raises ValueError for other schemes."""
    if endpoint.startswith("/"):
        return "unix:" + endpoint
    if endpoint.startswith(("unix:", "tcp://", "dns:")):
        return endpoint.removeprefix("tcp://")
    raise ValueError(f"container runtime endpoint {endpoint!r}: expected unix:///path/to.sock")


class CriClient:
    """`contract.Cri` at an endpoint. Connects on first use and again whenever the runtime comes back."""

    def __init__(self, endpoint: str, image_endpoint: str = "") -> None:
        import grpc.aio

        from kybern.kubelet.cri import messages
        from kybern.kubelet.cri.pb import containerd_pb2, runtime_pb2

        self._grpc = grpc
        self._m = messages
        self._pb: Any = runtime_pb2
        self._containerd_pb: Any = containerd_pb2
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.default_authority", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 3000),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = socket_target(endpoint)
        self._channel = grpc.aio.insecure_channel(target, options=options)
        image_target = socket_target(image_endpoint) if image_endpoint else target
        same = image_target == target
        self._image_channel = self._channel if same else grpc.aio.insecure_channel(image_target, options=options)
        self._methods: dict[str, Any] = {}

    async def close(self) -> None:
        await self._channel.close()
        if self._image_channel is not self._channel:
            await self._image_channel.close()

    async def _call(self, service: str, name: str, request: Any, timeout: float | None) -> Any:
        method = self._methods.get(name)
        if method is None:
            channel = self._image_channel if service is _IMAGE else self._channel
            answer = getattr(self._pb, name + "Response")
            method = channel.unary_unary(
                service + name,
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            self._methods[name] = method
        try:
            return await method(request, timeout=timeout)
        except self._grpc.aio.AioRpcError as error:
            raise CriError(name, _code_name(error.code()), error.details() or "") from None

    async def _runtime(self, name: str, timeout: float | None = DEFAULT_TIMEOUT, /, **fields: Any) -> Any:
        return await self._call(_RUNTIME, name, getattr(self._pb, name + "Request")(**fields), timeout)

    async def _image(self, name: str, timeout: float | None = DEFAULT_TIMEOUT, /, **fields: Any) -> Any:
        return await self._call(_IMAGE, name, getattr(self._pb, name + "Request")(**fields), timeout)

    # The runtime itself.

    async def version(self) -> contract.Version:
        answer = await self._runtime("Version", 5.0, version="0.1.0")
        return contract.Version(answer.runtime_name, answer.runtime_version, answer.runtime_api_version)

    async def status(self) -> contract.RuntimeStatus:
        answer = await self._runtime("Status", 10.0, verbose=True)
        return self._m.runtime_status(answer)

    async def update_runtime_config(self, pod_cidr: str) -> None:
        config = self._pb.RuntimeConfig(network_config=self._pb.NetworkConfig(pod_cidr=pod_cidr))
        await self._runtime("UpdateRuntimeConfig", runtime_config=config)

    # Sandboxes.

    async def run_sandbox(self, config: contract.SandboxConfig, handler: str) -> SandboxId:
        answer = await self._runtime(
            "RunPodSandbox", SANDBOX_TIMEOUT, config=self._m.sandbox_config(config), runtime_handler=handler
        )
        return SandboxId(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox: SandboxId) -> None:
        await self._idempotent("StopPodSandbox", pod_sandbox_id=sandbox)

    async def remove_sandbox(self, sandbox: SandboxId) -> None:
        await self._idempotent("RemovePodSandbox", pod_sandbox_id=sandbox)

    async def sandbox_status(self, sandbox: SandboxId) -> contract.SandboxStatus:
        answer = await self._runtime("PodSandboxStatus", pod_sandbox_id=sandbox)
        return self._m.sandbox_status(answer.status)

    async def list_sandboxes(self, uid: str = "") -> Sequence[contract.Sandbox]:
        chosen = self._pb.PodSandboxFilter(label_selector={labels.POD_UID: uid}) if uid else None
        answer = await self._runtime("ListPodSandbox", filter=chosen)
        return [self._m.sandbox(item) for item in answer.items]

    # Containers.

    async def create_container(
        self, sandbox: SandboxId, config: contract.ContainerConfig, sandbox_config: contract.SandboxConfig
    ) -> ContainerId:
        answer = await self._runtime(
            "CreateContainer",
            pod_sandbox_id=sandbox,
            config=self._m.container_config(config),
            sandbox_config=self._m.sandbox_config(sandbox_config),
        )
        return ContainerId(answer.container_id)

    async def start_container(self, container: ContainerId) -> None:
        await self._runtime("StartContainer", container_id=container)

    async def stop_container(self, container: ContainerId, grace: int) -> None:
        await self._idempotent("StopContainer", grace + DEFAULT_TIMEOUT, container_id=container, timeout=grace)

    async def remove_container(self, container: ContainerId) -> None:
        await self._idempotent("RemoveContainer", container_id=container)

    async def list_containers(self, uid: str = "") -> Sequence[contract.Container]:
        chosen = self._pb.ContainerFilter(label_selector={labels.POD_UID: uid}) if uid else None
        answer = await self._runtime("ListContainers", filter=chosen)
        return [self._m.container(item) for item in answer.containers]

    async def container_status(self, container: ContainerId) -> contract.ContainerStatus:
        answer = await self._runtime("ContainerStatus", container_id=container)
        return self._m.container_status(answer.status)

    async def update_resources(self, container: ContainerId, resources: contract.Resources) -> None:
        await self._runtime("UpdateContainerResources", container_id=container, linux=self._m.resources(resources))

    async def reopen_log(self, container: ContainerId) -> None:
        await self._runtime("ReopenContainerLog", container_id=container)

    async def _idempotent(self, name: str, timeout: float = DEFAULT_TIMEOUT, /, **fields: Any) -> None:
        try:
            await self._runtime(name, timeout, **fields)
        except CriError as error:
            if not error.is_not_found:
                raise

    # Streams into containers.

    async def exec_sync(self, container: ContainerId, command: Sequence[str], timeout: float) -> contract.ExecResult:
        # The runtime counts whole seconds; the deadline of the call is the exact one.
        whole = max(1, -int(-timeout // 1)) if timeout > 0 else 0
        answer = await self._runtime(
            "ExecSync", timeout if timeout > 0 else None, container_id=container, cmd=list(command), timeout=whole
        )
        return contract.ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def exec_url(
        self, container: ContainerId, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        answer = await self._runtime(
            "Exec", container_id=container, cmd=list(command), tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return str(answer.url)

    async def attach_url(self, container: ContainerId, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        answer = await self._runtime(
            "Attach", container_id=container, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return str(answer.url)

    async def port_forward_url(self, sandbox: SandboxId, ports: Sequence[int]) -> str:
        answer = await self._runtime("PortForward", pod_sandbox_id=sandbox, port=list(ports))
        return str(answer.url)

    # What is used, what happens.

    async def container_usage(self) -> Sequence[contract.ContainerUsage]:
        answer = await self._runtime("ListContainerStats")
        return [self._m.container_usage(item) for item in answer.stats]

    async def events(self) -> AsyncIterator[contract.RuntimeEvent]:
        try:
            async for event in self._cri_events():
                yield event
        except CriError as error:
            if error.code != "Unimplemented":
                raise
        async for event in self._containerd_events():
            yield event

    async def _cri_events(self) -> AsyncIterator[contract.RuntimeEvent]:
        call = self._channel.unary_stream(
            _RUNTIME + "GetContainerEvents",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=self._pb.ContainerEventResponse.FromString,
        )(self._pb.GetEventsRequest())
        try:
            async for event in call:
                yield contract.RuntimeEvent(event.container_id, event.pod_sandbox_status.metadata.uid)
        except self._grpc.aio.AioRpcError as error:
            raise CriError("GetContainerEvents", _code_name(error.code()), error.details() or "") from None
        finally:
            call.cancel()

    async def _containerd_events(self) -> AsyncIterator[contract.RuntimeEvent]:
        """The native event stream of containerd, for versions without GetContainerEvents (before 1.7)."""
        pb = self._containerd_pb
        call = self._channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=pb.Envelope.FromString,
        )(pb.SubscribeRequest(filters=['topic~="^/tasks/(start|exit|oom)$",namespace==k8s.io']))
        try:
            async for envelope in call:
                task = pb.TaskEvent.FromString(envelope.event.value)
                yield contract.RuntimeEvent(task.container_id)
        except self._grpc.aio.AioRpcError as error:
            raise CriError("Subscribe", _code_name(error.code()), error.details() or "") from None
        finally:
            call.cancel()

    # Images.

    async def list_images(self) -> Sequence[contract.Image]:
        answer = await self._image("ListImages")
        return [self._m.image(item) for item in answer.images]

    async def image_status(self, image: str) -> contract.Image | None:
        answer = await self._image("ImageStatus", image=self._pb.ImageSpec(image=image))
        return self._m.image(answer.image) if answer.image.id else None

    async def pull_image(
        self, image: str, auth: contract.Auth | None, sandbox: contract.SandboxConfig | None
    ) -> ImageRef:
        answer = await self._image(
            "PullImage",
            PULL_TIMEOUT,
            image=self._pb.ImageSpec(image=image),
            auth=self._m.auth(auth) if auth else None,
            sandbox_config=self._m.sandbox_config(sandbox) if sandbox else None,
        )
        return ImageRef(answer.image_ref)

    async def remove_image(self, image: str) -> None:
        try:
            await self._image("RemoveImage", image=self._pb.ImageSpec(image=image))
        except CriError as error:
            if not error.is_not_found:
                raise

    async def view_image(self, image: str, key: str) -> Sequence[contract.HostMount]:
        answer = await self._image("ImageStatus", image=self._pb.ImageSpec(image=image), verbose=True)
        chain = self._m.chain_id(answer.info.get("info", ""))
        if not chain:
            raise CriError("ImageStatus", "Unimplemented", f"the runtime does not tell where the files of {image} are")
        pb = self._containerd_pb
        # Without the label the garbage collector would take the view away at once.
        request = pb.ViewSnapshotRequest(
            snapshotter=SNAPSHOTTER, key=key, parent=chain, labels={"containerd.io/gc.root": "kybern"}
        )
        try:
            made = await self._containerd("Snapshots/View", request, pb.MountsResponse)
        except CriError as error:
            if error.code != "AlreadyExists":
                raise
            made = await self._containerd(
                "Snapshots/Mounts", pb.MountsRequest(snapshotter=SNAPSHOTTER, key=key), pb.MountsResponse
            )
        return [contract.HostMount(m.type, m.source, tuple(m.options)) for m in made.mounts]

    async def drop_view(self, key: str) -> None:
        request = self._containerd_pb.RemoveSnapshotRequest(snapshotter=SNAPSHOTTER, key=key)
        try:
            await self._containerd("Snapshots/Remove", request, self._containerd_pb.Empty)
        except CriError as error:
            if not error.is_not_found:
                raise

    async def _containerd(self, method: str, request: Any, answer: Any) -> Any:
        """A call of containerd's own API, in the CRI's namespace."""
        call = self._channel.unary_unary(
            f"/containerd.services.snapshots.v1.{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=DEFAULT_TIMEOUT, metadata=(("containerd-namespace", "k8s.io"),))
        except self._grpc.aio.AioRpcError as error:
            raise CriError(method, _code_name(error.code()), error.details() or "") from None

    async def image_filesystems(self) -> Sequence[contract.Filesystem]:
        answer = await self._image("ImageFsInfo")
        return [
            contract.Filesystem(item.fs_id.mountpoint, item.used_bytes.value, item.inodes_used.value)
            for item in answer.image_filesystems
        ]
