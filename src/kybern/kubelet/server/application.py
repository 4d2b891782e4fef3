"""The kubelet's HTTPS API: who asks, may they, and which handler answers.

An `Application` for wire/http1, built by process/kubelet. Routes and their meaning are upstream's, so that either
API server can be served. Faults are ApiErrors, rendered by the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kybern.api import codec
from kybern.api.core_v1 import Pod, PodList
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.cri.contract import ContainerId, ContainerState, Cri, CriError, SandboxState
from kybern.kubelet.cri.labels import POD_NAME, POD_NAMESPACE, POD_UID
from kybern.kubelet.server import (
    access,
    commands,
    containers,
    exposition,
    node_logs,
    port_forward,
    summary,
)
from kybern.kubelet.server.contract import Access, Caller, PodSource
from kybern.kubelet.server.logs import files
from kybern.kubelet.server.sampler import Sampler
from kybern.machinery import log_options
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.wire.message import Answer, Request, Response, Sink, StreamResponse


@dataclass(frozen=True, slots=True)
class Setting:
    """What the server is told about its node."""

    node_name: str
    cpus: int
    configuration: Mapping[str, Any] = field(default_factory=dict)  # KubeletConfiguration, for /configz
    log_directory: Path = Path("/var/log")


class KubeletServer:
    """`application` answers requests. `metrics` renders /metrics; `health` is "" or says what is wrong."""

    def __init__(
        self,
        setting: Setting,
        pods: PodSource,
        cri: Cri,
        access: Access,
        sampler: Sampler,
        clock: Clock,
        metrics: Callable[[], bytes],
        health: Callable[[], str],
    ) -> None:
        self._setting = setting
        self._pods = pods
        self._cri = cri
        self._access = access
        self._sampler = sampler
        self._clock = clock
        self._metrics = metrics
        self._health = health

    def application(self, request: Request) -> Awaitable[Answer]:
        return self._answer(request)

    async def _answer(self, request: Request) -> Answer:
        caller = await self._authenticate(request)
        ask = access.ask_of(request.method, request.path)
        if not await self._access.is_allowed(caller, ask):
            raise ApiError.make(
                403,
                "Forbidden",
                f"Forbidden (user={caller.name}, verb={ask.verb}, resource=nodes, subresource(s)="
                f"[{' '.join(ask.subresources)}])",
            )
        try:
            return await self._route(request)
        except CriError as error:
            raise commands.error_of(error) from None

    async def _authenticate(self, request: Request) -> Caller:
        if request.certificates:
            caller = access.caller_of(request.certificates[0])
            if caller is not None:
                return caller
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            known = await self._access.authenticate_token(token.strip())
            if known is not None:
                return known
        raise ApiError.unauthorized()

    async def _route(self, request: Request) -> Answer:
        parts = request.path.split("/")[1:]
        match [request.method, *parts]:
            case ["GET", "containerLogs", namespace, pod, container]:
                return await self._logs(request, namespace, pod, container)
            case ["GET" | "POST", "exec" | "attach" | "run" as what, namespace, pod, container]:
                return await self._command(request, what, containers.find_pod(self._pods, namespace, pod), container)
            case ["GET" | "POST", "exec" | "attach" | "run" as what, namespace, pod, uid, container]:
                found = containers.find_pod(self._pods, namespace, pod, uid)
                return await self._command(request, what, found, container)
            case ["GET" | "POST", "portForward", namespace, pod]:
                return await self._port_forward(request, containers.find_pod(self._pods, namespace, pod))
            case ["GET" | "POST", "portForward", namespace, pod, uid]:
                return await self._port_forward(request, containers.find_pod(self._pods, namespace, pod, uid))
            case ["GET" | "HEAD", "logs", *tail]:
                return await node_logs.serve_path(self._setting.log_directory, "/".join(tail))
            case ["GET", "healthz", *_]:
                return self._healthz()
            case ["GET", "pods" | "pods/"]:
                return Response(200, codec.encode(PodList(items=list(self._pods.list()))))
            case ["GET", "runningpods", *_]:
                return await self._running_pods()
            case ["GET", "configz"]:
                return Response(200, codec.encode({"kubeletconfig": dict(self._setting.configuration)}))
            case ["GET" | "POST", "stats", *tail] if tail in (["summary"], ["summary", ""]):
                return await self._summary(request)
            case ["GET", "metrics", *tail]:
                return await self._expose(tail)
            case ["GET" | "POST" | "HEAD" | "PUT" | "PATCH" | "DELETE", *_] if _is_known(parts):
                raise ApiError.make(405, "MethodNotAllowed", "405: Method Not Allowed")
            case _:
                raise ApiError.make(404, "NotFound", "404: Page Not Found")

    # -- containers -----------------------------------------------------------------------------------

    async def _command(self, request: Request, what: str, pod: Pod, name: str) -> Answer:
        container = containers.find_running(pod, name)
        if what == "attach":
            return await commands.attach_to(request, self._cri, container)
        if what == "exec":
            return await commands.exec_in(request, self._cri, container, request.query.get("command", []))
        return await commands.run_in(self._cri, container, request.flag("cmd").split(" "))

    async def _port_forward(self, request: Request, pod: Pod) -> Answer:
        ready = [
            s
            for s in await self._cri.list_sandboxes(pod.metadata.uid or "")
            if s.state is SandboxState.READY and s.uid == pod.metadata.uid
        ]
        if not ready:
            raise ApiError.make(404, "NotFound", f'pod not found ("{pod.metadata.name}"): it is not running')
        newest = max(ready, key=lambda s: s.attempt)
        return await port_forward.forward(request, self._cri, newest.id)

    async def _logs(self, request: Request, namespace: str, pod_name: str, name: str) -> Answer:
        options = log_options.parse_options(request.query, self._clock.now())
        pod = containers.find_pod(self._pods, namespace, pod_name)
        container = containers.find_logged(pod, name, previous=options.previous)
        try:
            status = await self._cri.container_status(container)
        except CriError as error:
            if error.is_not_found:
                message = f'unable to retrieve container logs for container "{name}" in pod "{pod_name}": it is gone'
                raise ApiError.make(404, "NotFound", message) from None
            raise

        async def run(sink: Sink) -> None:
            await files.send_log(sink, status.log_path, options, lambda: self._is_running(container), self._clock)

        return StreamResponse(run, content_type="text/plain")

    async def _is_running(self, container: ContainerId) -> bool:
        try:
            return (await self._cri.container_status(container)).state is ContainerState.RUNNING
        except CriError as error:
            return not error.is_not_found  # the runtime may be restarting

    # -- the node -------------------------------------------------------------------------------------

    def _healthz(self) -> Response:
        wrong = self._health()
        return Response(500, wrong.encode(), "text/plain") if wrong else Response(200, b"ok", "text/plain")

    async def _running_pods(self) -> Response:
        running: dict[str, Pod] = {}
        for each in await self._cri.list_containers():
            uid = each.labels.get(POD_UID, "")
            if each.state is ContainerState.RUNNING and uid:
                name, namespace = each.labels.get(POD_NAME, ""), each.labels.get(POD_NAMESPACE, "")
                running.setdefault(uid, Pod(metadata=ObjectMeta(name=name, namespace=namespace, uid=uid)))
        return Response(200, codec.encode(PodList(items=list(running.values()))))

    async def _summary(self, request: Request) -> Response:
        usage = await self._sampler.usage()
        found = {"node": summary.node_summary(self._setting.node_name, usage)}
        if request.flag("only_cpu_and_memory").lower() != "true":
            return Response(200, codec.encode({**found, "pods": summary.pod_summaries(self._pods.list(), usage)}))
        node = {key: found["node"][key] for key in ("nodeName", "startTime", "cpu", "memory")}
        pods = summary.pod_summaries(self._pods.list(), usage)
        return Response(200, codec.encode({"node": node, "pods": pods}))

    async def _expose(self, tail: list[str]) -> Response:
        if tail in ([], [""]):
            return Response(200, self._metrics(), exposition.CONTENT_TYPE)
        if tail == ["probes"]:
            return Response(200, b"", exposition.CONTENT_TYPE)
        usage = await self._sampler.usage()
        if tail == ["resource"]:
            text = exposition.resource_metrics(self._pods.list(), usage)
        elif tail == ["cadvisor"]:
            text = exposition.cadvisor_metrics(usage, self._setting.cpus)
        else:
            raise ApiError.make(404, "NotFound", "404: Page Not Found")
        return Response(200, text.encode(), exposition.CONTENT_TYPE)


def _is_known(parts: list[str]) -> bool:
    return parts[0] in ("containerLogs", "exec", "attach", "run", "portForward", "logs", "pods", "stats", "metrics")
