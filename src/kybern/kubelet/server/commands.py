"""exec, attach and run: from a client's request to a process in a container.

Called by application; the CRI gives a streaming address, runtime_stream connects to it. SPDY clients are tied to the
runtime byte for byte; WebSocket clients are translated, because runtimes do not know their protocols.
"""

from __future__ import annotations

from collections.abc import Sequence

from kybern.kubelet.cri.contract import ContainerId, Cri, CriError
from kybern.kubelet.server import runtime_stream
from kybern.machinery.status import ApiError
from kybern.wire.message import RawStream, Request, Response, UpgradeResponse
from kybern.wire.remotecommand import bridge, protocol, server
from kybern.wire.remotecommand.protocol import Options
from kybern.wire.remotecommand.server import CommandStreams
from kybern.wire.splice import splice
from kybern.wire.websocket import handshake

_RUN_TIMEOUT = 120.0


def parse_options(request: Request) -> Options:
    """The kubelet's own names: input, output, error, tty. Raises ApiError (400)."""

    def has(name: str) -> bool:
        return request.flag(name).lower() in ("1", "true")

    tty = has("tty")
    options = Options(has("input"), has("output"), has("error") and not tty, tty)
    if not options.has_any:
        raise ApiError.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return options


async def exec_in(request: Request, cri: Cri, container: ContainerId, command: Sequence[str]) -> UpgradeResponse:
    """The answer to an exec request. Raises ApiError."""
    options = parse_options(request)
    if not command:
        raise ApiError.bad_request("you must specify a command")
    server.plan_upgrade(request)  # refuse before the runtime is bothered
    try:
        url = await cri.exec_url(
            container, command, tty=options.tty, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr
        )
    except CriError as error:
        raise error_of(error) from None
    return await _connect(request, url, options)


async def attach_to(request: Request, cri: Cri, container: ContainerId) -> UpgradeResponse:
    """The answer to an attach request. Raises ApiError."""
    options = parse_options(request)
    server.plan_upgrade(request)
    try:
        url = await cri.attach_url(
            container, tty=options.tty, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr
        )
    except CriError as error:
        raise error_of(error) from None
    return await _connect(request, url, options)


async def _connect(request: Request, url: str, options: Options) -> UpgradeResponse:
    if not handshake.is_upgrade(request.headers):
        return await tie_spdy(request, url, protocol.SPDY_PROTOCOLS)

    async def relay(streams: CommandStreams) -> None:
        try:
            raw, _ = await runtime_stream.open_stream(url, protocol.SPDY_PROTOCOLS[:1])
        except ApiError as fault:
            await streams.finish(protocol.failed(fault.status.message or ""))
            return
        await bridge.relay(streams, raw, options)

    return server.upgrade(request, options, relay)


async def tie_spdy(request: Request, url: str, supported: tuple[str, ...]) -> UpgradeResponse:
    """Client and runtime agree on a protocol themselves, and are joined byte for byte."""
    chosen = server.choose_spdy_protocol(request.headers, supported)
    raw, agreed = await runtime_stream.open_stream(url, (chosen,))

    async def run(near: RawStream) -> None:
        await splice(near, raw)

    return UpgradeResponse(run, "SPDY/3.1", ((protocol.PROTOCOL_HEADER, agreed or chosen),))


async def run_in(cri: Cri, container: ContainerId, command: Sequence[str]) -> Response:
    """Run to the end and give the output, as the kubelet's /run. Raises ApiError."""
    try:
        result = await cri.exec_sync(container, command, _RUN_TIMEOUT)
    except CriError as error:
        raise error_of(error) from None
    output = result.stdout + result.stderr
    if result.exit_code:
        raise ApiError.internal(f"command exited with {result.exit_code}: {output.decode('utf-8', 'replace')}")
    return Response(200, output, "text/plain")


def error_of(error: CriError) -> ApiError:
    """What a client is told of a failed call of the runtime."""
    if error.is_not_found:
        return ApiError.make(404, "NotFound", error.message)
    if error.code == "ResourceExhausted":
        return ApiError.too_many_requests(error.message)
    return ApiError.internal(error.message)
