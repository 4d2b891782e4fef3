"""exec, attach, port-forward and logs of pods: requests of the API become requests to the pod's kubelet.

Installed by routes. What client and kubelet both speak is tied through byte for byte; what only this end speaks
(WebSocket protocol v5, SPDY inside WebSocket messages) is translated to SPDY, which every kubelet knows.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Sequence

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import Node, Pod
from kybern.api.meta_v1 import Status, StatusCause
from kybern.apiserver.proxy import forward, headers, targets
from kybern.apiserver.proxy.kubelet import KubeletDialer
from kybern.apiserver.proxy.targets import Target
from kybern.apiserver.request import Answer, Reader, Request, Response, UpgradeResponse
from kybern.machinery import log_options
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError, forbidden_field
from kybern.wire.http1.exchange import AnswerHead, Exchange
from kybern.wire.message import RawStream
from kybern.wire.portforward.protocol import PROTOCOL, TUNNEL_PROTOCOLS
from kybern.wire.remotecommand import bridge, protocol, server
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.splice import splice
from kybern.wire.websocket import handshake
from kybern.wire.websocket.connection import MessageStream, WebSocket

_MAX_ERROR = 64 * 1024
_LOG_PROTOCOLS = ("binary.k8s.io", "base64.binary.k8s.io", "")
_LOG_PARAMETERS = ("limitBytes", "sinceSeconds", "sinceTime", "tailLines")


def find_pod(request: Request, reader: Reader) -> Pod:
    """Raises ApiError (404)."""
    pod = reader.get("pods", request.info.namespace, request.info.name)
    if pod is None:
        raise ApiError.not_found("", "pods", request.info.name)
    found: Pod = pod
    return found


def choose_container(pod: Pod, asked: str) -> str:
    """The container meant: the only one if none is named. Raises ApiError (400)."""
    names = [c.name for c in pod.spec.containers]
    initial = [c.name for c in pod.spec.initContainers]
    ephemeral = [str(c.name) for c in pod.spec.ephemeralContainers]
    name = pod.metadata.name
    if asked:
        if asked not in (*names, *initial, *ephemeral):
            raise ApiError.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(names) == 1:
        return names[0]
    choices = " ".join((*initial, *names, *ephemeral))
    raise ApiError.bad_request(f"a container name must be specified for pod {name}, choose one of: [{choices}]")


def _kubelet_of(pod: Pod, reader: Reader) -> Target:
    """Raises ApiError (400 for a pod without node, 404 for a node that is gone)."""
    node_name = pod.spec.nodeName
    if not node_name:
        raise ApiError.bad_request(f"pod {pod.metadata.name} does not have a host assigned")
    node: Node | None = reader.get("nodes", "", node_name)
    if node is None:
        raise ApiError.not_found("", "pods", node_name)  # as upstream says it, of a node too
    return targets.kubelet_target(node)


def _path(what: str, pod: Pod, container: str, query: Sequence[tuple[str, str]]) -> str:
    parts = [what, pod.metadata.namespace or "", pod.metadata.name or "", *([container] if container else [])]
    path = "/" + "/".join(urllib.parse.quote(part, safe="") for part in parts)
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def _flag(request: Request, name: str) -> bool:
    return name in request.query and request.flag(name).lower() not in ("false", "0")


def command_options(request: Request) -> protocol.Options:
    """Which streams are wanted. None is the kubelet's business to refuse."""
    tty = _flag(request, "tty")
    return protocol.Options(
        _flag(request, "stdin"), _flag(request, "stdout"), _flag(request, "stderr") and not tty, tty
    )


def _check_upgrade(request: Request) -> None:
    """Raises ApiError (400)."""
    if "upgrade" not in request.headers.get("connection", "").lower():
        raise ApiError.bad_request("Upgrade request required")


async def exec_pod(request: Request, reader: Reader, dialer: KubeletDialer) -> Answer:
    """pods/exec. Raises ApiError."""
    return await _command(request, reader, dialer, "exec", request.query.get("command", []))


async def attach_pod(request: Request, reader: Reader, dialer: KubeletDialer) -> Answer:
    """pods/attach. Raises ApiError."""
    return await _command(request, reader, dialer, "attach", ())


async def _command(
    request: Request, reader: Reader, dialer: KubeletDialer, what: str, command: Sequence[str]
) -> Answer:
    pod = find_pod(request, reader)
    options = command_options(request)
    container = choose_container(pod, request.flag("container"))
    target = _kubelet_of(pod, reader)
    _check_upgrade(request)
    wanted = {"input": options.stdin, "output": options.stdout, "error": options.stderr, "tty": options.tty}
    query = [(name, "1") for name, is_wanted in wanted.items() if is_wanted]
    path = _path(what, pod, container, [*query, *(("command", word) for word in command)])
    if not (handshake.is_upgrade(request.headers) and _prefers(request, ("v5.channel.k8s.io",))):
        return await _tie(request, dialer, target, path)
    server.plan_upgrade(request)
    raw, exchange, head = await _open_spdy(request, dialer, target, path, protocol.SPDY_PROTOCOLS)
    if head.status != 101:
        return await _refusal(raw, exchange, head)

    async def translate(streams: CommandStreams) -> None:
        await bridge.relay(streams, exchange.take_raw(), options)

    return server.upgrade(request, options, translate)


def _prefers(request: Request, protocols: Sequence[str]) -> bool:
    """The subprotocol the client wants most is one of these."""
    return handshake.offered_protocols(request.headers)[:1] in [[name] for name in protocols]


async def forward_ports(request: Request, reader: Reader, dialer: KubeletDialer) -> Answer:
    """pods/portforward. Raises ApiError."""
    pod = find_pod(request, reader)
    target = _kubelet_of(pod, reader)
    _check_upgrade(request)
    ports = request.query.get("ports", [])
    path = _path("portForward", pod, "", [("port", ",".join(ports))] if ports else [])
    if not (handshake.is_upgrade(request.headers) and _prefers(request, TUNNEL_PROTOCOLS)):
        return await _tie(request, dialer, target, path)
    chosen = handshake.choose_protocol(handshake.offered_protocols(request.headers), TUNNEL_PROTOCOLS)
    fields = handshake.answer_headers(request.method, request.headers, chosen)
    raw, exchange, head = await _open_spdy(request, dialer, target, path, (PROTOCOL,))
    if head.status != 101:
        return await _refusal(raw, exchange, head)

    async def tunnel(near: RawStream) -> None:
        await splice(MessageStream(WebSocket(near, is_server=True)), exchange.take_raw())

    return UpgradeResponse(tunnel, "websocket", fields)


async def _tie(request: Request, dialer: KubeletDialer, target: Target, path: str) -> Answer:
    """The client's own upgrade, passed on."""
    fields = headers.outgoing(request, target.authority)
    raw, exchange, head = await _open(dialer, target, request.method, path, fields)
    if head.status != 101:
        return await _refusal(raw, exchange, head)
    return forward.answer_of(request, raw, exchange, head, "", target.authority)


async def _open_spdy(
    request: Request, dialer: KubeletDialer, target: Target, path: str, protocols: Sequence[str]
) -> tuple[RawStream, Exchange, AnswerHead]:
    """An upgrade of our own."""
    fields = [("Host", target.authority), ("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    fields += [("User-Agent", request.headers.get("user-agent", "")), *headers.forwarded(request, request.target)[:1]]
    fields += [(protocol.PROTOCOL_HEADER, name) for name in protocols]
    return await _open(dialer, target, "POST", path, fields)


async def _open(
    dialer: KubeletDialer, target: Target, method: str, path: str, fields: list[tuple[str, str]]
) -> tuple[RawStream, Exchange, AnswerHead]:
    try:
        return await forward.open_exchange(dialer, target, method, path, fields, b"")
    except ApiError as fault:
        if fault.code != 503:
            raise
        why = (fault.status.message or "").removeprefix("error trying to reach service: ")
        raise ApiError.internal(f"error dialing backend: {why}") from None


async def _refusal(raw: RawStream, exchange: Exchange, head: AnswerHead) -> Response:
    """The kubelet's refusal of an upgrade, as it said it. Closes `raw`."""
    try:
        body = await exchange.read_all(_MAX_ERROR)
    except ConnectionError:
        body = b""
    finally:
        raw.close()
    status = head.status if head.status >= 400 else 502
    return Response(status, body, head.get("content-type") or "text/plain")


# -- logs ---------------------------------------------------------------------------------------------


async def read_log(request: Request, reader: Reader, dialer: KubeletDialer, clock: Clock) -> Answer:
    """pods/log, also as a WebSocket. Raises ApiError."""
    if request.flag("stream"):
        # A gate that is off in v1.36 (PodLogsQuerySplitStreams).
        fault = forbidden_field("stream", "may not be specified")
        raise ApiError.invalid("", "PodLogOptions", request.info.name, [fault])
    log_options.parse_options(request.query, clock.now(), request.info.name)
    pod = find_pod(request, reader)
    container = choose_container(pod, request.flag("container"))
    if not pod.spec.nodeName:
        return Response(204)  # it runs nowhere yet: nothing was written
    target = _kubelet_of(pod, reader)
    query = [(name, "true") for name in ("follow", "previous", "timestamps") if _flag(request, name)]
    query += [(name, request.flag(name)) for name in _LOG_PARAMETERS if request.flag(name)]
    query.sort()
    path = _path("containerLogs", pod, container, query)
    chosen = _plan_log_socket(request)
    fields = [("Host", target.authority), ("User-Agent", request.headers.get("user-agent", ""))]
    try:
        raw, exchange, head = await forward.open_exchange(dialer, target, "GET", path, fields, b"")
    except ApiError as fault:
        why = (fault.status.message or "").removeprefix("error trying to reach service: ")
        raise ApiError.failed(f'Get "https://{target.authority}{path}": {why}') from None
    if head.status >= 300:
        refusal = await _refusal(raw, exchange, head)
        raise _log_error(request, head.status, refusal.body)
    if chosen is None:
        return forward.answer_of(request, raw, exchange, head, "", target.authority)
    return _log_socket(raw, exchange, *chosen)


def _log_error(request: Request, status: int, body: bytes) -> ApiError:
    """What the kubelet said, as an error of the API."""
    message = body.decode("utf-8", "replace").strip()
    try:
        message = codec.decode_pruned(Status, body)[0].message or message
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass  # upstream's kubelet answers in plain text
    if status == 400:
        return ApiError.bad_request(message)
    if status == 404:
        name = request.info.name
        text = f"the server could not find the requested resource ( pods/log {name})"
        causes = [StatusCause(reason="UnexpectedServerResponse", message=message)]
        return ApiError.make(404, "NotFound", text, group_kind=("", "pods/log"), name=name, causes=causes)
    return ApiError.internal(message)


def _plan_log_socket(request: Request) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """The subprotocol and fields of the 101 answer; None for a plain request. Raises ApiError."""
    if not handshake.is_upgrade(request.headers):
        return None
    chosen = handshake.choose_protocol(handshake.offered_protocols(request.headers), _LOG_PROTOCOLS)
    return chosen, handshake.answer_headers(request.method, request.headers, chosen)


def _log_socket(
    raw: RawStream, exchange: Exchange, chosen: str, fields: tuple[tuple[str, str], ...]
) -> UpgradeResponse:
    is_base64 = chosen.startswith("base64.")

    async def run(near: RawStream) -> None:
        socket = WebSocket(near, is_server=True)
        try:
            while part := await exchange.read():
                await socket.send(base64.b64encode(part) if is_base64 else part, is_text=is_base64)
            await socket.close()
        finally:
            raw.close()

    return UpgradeResponse(run, "websocket", fields)
