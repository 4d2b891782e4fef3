"""Ask a container once: HTTP, TCP, exec or gRPC, with a verdict and the text for the event.

Called by worker. Verdict UNKNOWN means that asking itself failed: it counts neither way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kybern.api.core_v1 import ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from kybern.kubelet import expansion
from kybern.kubelet.cri.contract import ContainerId, Cri, CriError
from kybern.kubelet.podkeys import AnyContainer
from kybern.kubelet.probes import http

OUTPUT_LIMIT = 10 * 1024


class Verdict(Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Result:
    verdict: Verdict
    output: str = ""
    warning: str = ""  # passed, but somebody should know


async def check(cri: Cri, probe: Probe, container: AnyContainer, container_id: ContainerId, pod_ip: str) -> Result:
    """Never raises but for cancellation."""
    timeout = float(probe.timeoutSeconds or 1)
    if probe.exec is not None:
        return await _exec(cri, probe.exec, container, container_id, timeout)
    if probe.httpGet is not None:
        return await _http(probe.httpGet, container, pod_ip, timeout)
    if probe.tcpSocket is not None:
        return await _tcp(probe.tcpSocket, container, pod_ip, timeout)
    if probe.grpc is not None:
        return await _grpc(probe.grpc, pod_ip, timeout)
    return Result(Verdict.UNKNOWN, "missing probe handler")


async def _exec(cri: Cri, action: ExecAction, container: AnyContainer, target: ContainerId, timeout: float) -> Result:
    known = {variable.name: variable.value or "" for variable in container.env if variable.valueFrom is None}
    command = [expansion.expand(word, known) for word in action.command]
    try:
        result = await cri.exec_sync(target, command, timeout)
    except CriError as error:
        if error.code == "DeadlineExceeded":
            text = " ".join(command)
            return Result(Verdict.FAILURE, f'command timed out: "{text}" timed out after {timeout:g}s')
        return Result(Verdict.UNKNOWN, str(error))
    output = (result.stdout + result.stderr)[:OUTPUT_LIMIT].decode("utf-8", "replace")
    return Result(Verdict.SUCCESS if result.exit_code == 0 else Verdict.FAILURE, output)


async def _http(action: HTTPGetAction, container: AnyContainer, pod_ip: str, timeout: float) -> Result:
    try:
        target = http.target_of(action, container, pod_ip)
    except ValueError as error:
        return Result(Verdict.UNKNOWN, str(error))
    try:
        answer = await http.get(target, action.httpHeaders, timeout)
    except http.HttpFailed as error:
        return Result(Verdict.FAILURE, str(error))
    if answer.elsewhere:
        return Result(Verdict.SUCCESS, answer.body, f"Probe terminated redirects, Response body: {answer.body}")
    if 200 <= answer.status < 400:
        return Result(Verdict.SUCCESS, answer.body)
    return Result(Verdict.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def _tcp(action: TCPSocketAction, container: AnyContainer, pod_ip: str, timeout: float) -> Result:
    try:
        port = http.resolve_port(action.port, container)
    except ValueError as error:
        return Result(Verdict.UNKNOWN, str(error))
    host = action.host or pod_ip
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Result(Verdict.FAILURE, f"dial tcp {host}:{port}: i/o timeout")
    except OSError as error:
        return Result(Verdict.FAILURE, f"dial tcp {host}:{port}: {http.reason_of(error)}")
    writer.close()
    return Result(Verdict.SUCCESS)


_SERVING = 1


def encode_health_request(service: str) -> bytes:
    """grpc.health.v1.HealthCheckRequest: one string, field 1."""
    data = service.encode()
    if not data:
        return b""
    length = len(data)
    prefix = bytearray(b"\x0a")
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + data


def decode_health_status(data: bytes) -> int:
    """grpc.health.v1.HealthCheckResponse: one enum, field 1; 0 is UNKNOWN."""
    return data[1] if len(data) >= 2 and data[0] == 8 else 0


async def _grpc(action: GRPCAction, pod_ip: str, timeout: float) -> Result:
    import grpc
    import grpc.aio

    host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
    address = f"{host}:{action.port}"
    options = [("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", http.USER_AGENT)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        ask: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=encode_health_request,
            response_deserializer=decode_health_status,
        )
        try:
            status = await ask(action.service or "", timeout=timeout, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Result(Verdict.FAILURE, f'timeout: failed to connect service "{address}" within {timeout:g}s')
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return Result(Verdict.FAILURE, "error: this server does not implement the grpc health protocol")
            return Result(Verdict.FAILURE, f"error: health rpc probe failed: {error.details()}")
    if status == _SERVING:
        return Result(Verdict.SUCCESS, "service healthy")
    return Result(Verdict.FAILURE, f'service unhealthy (responded with "{_status_name(status)}")')


def _status_name(status: int) -> str:
    return {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
