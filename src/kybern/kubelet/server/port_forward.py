"""port-forward: from a client's request to ports inside a pod.

Called by application. The runtime connects inside the pod's network (CRI PortForward); SPDY clients, also those
inside WebSocket messages, are tied to it byte for byte, WebSocket channel clients through wire/portforward/channels.
"""

from __future__ import annotations

import asyncio

from kybern.kubelet.cri.contract import Cri, CriError, SandboxId
from kybern.kubelet.server import commands, runtime_stream
from kybern.machinery.status import ApiError
from kybern.wire.message import RawStream, Request, UpgradeResponse
from kybern.wire.portforward import protocol
from kybern.wire.portforward.channels import ChannelForward
from kybern.wire.spdy.connection import SpdyConnection
from kybern.wire.splice import splice
from kybern.wire.websocket import handshake
from kybern.wire.websocket.connection import MessageStream, WebSocket


async def forward(request: Request, cri: Cri, sandbox: SandboxId) -> UpgradeResponse:
    """The answer to a port-forward request. Raises ApiError."""
    headers = request.headers
    is_websocket = handshake.is_upgrade(headers)
    if not is_websocket and headers.get("upgrade", "").lower() != "spdy/3.1":
        raise ApiError.bad_request("Upgrade request required")
    chosen, ports = "", list[int]()
    answer: tuple[tuple[str, str], ...] = ()
    if is_websocket:
        supported = (*protocol.TUNNEL_PROTOCOLS, *protocol.CHANNEL_PROTOCOLS)
        chosen = handshake.choose_protocol(handshake.offered_protocols(headers), supported)
        answer = handshake.answer_headers(request.method, headers, chosen)
        if chosen in protocol.CHANNEL_PROTOCOLS:
            values = request.query.get("port", [])
            if not values:
                raise ApiError.bad_request('query parameter "port" is required')
            ports = protocol.parse_ports(values)
    try:
        url = await cri.port_forward_url(sandbox, ports)
    except CriError as error:
        raise commands.error_of(error) from None
    if not is_websocket:
        return await commands.tie_spdy(request, url, (protocol.PROTOCOL,))
    raw, _ = await runtime_stream.open_stream(url, (protocol.PROTOCOL,))

    async def tunnel(near: RawStream) -> None:
        await splice(MessageStream(WebSocket(near, is_server=True)), raw)

    async def channels(near: RawStream) -> None:
        connection = SpdyConnection(raw, is_server=False)
        forwarding = ChannelForward(WebSocket(near, is_server=True), ports, is_base64="base64" in chosen)
        try:
            async with asyncio.TaskGroup() as tasks:
                frames = tasks.create_task(connection.run(), name="port-forward: runtime frames")
                try:
                    await forwarding.run(connection)
                finally:
                    frames.cancel()
        except* ConnectionError:
            pass  # either side has gone
        finally:
            raw.close()
            near.close()

    return UpgradeResponse(tunnel if chosen in protocol.TUNNEL_PROTOCOLS else channels, "websocket", answer)
