"""Port-forward for WebSocket channel clients: each port of the query becomes a pair of SPDY streams.

Used by kubelet/server; the SPDY session leads to the container runtime, which connects inside the pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kybern.wire.pipe import Pipe
from kybern.wire.portforward import protocol
from kybern.wire.remotecommand import channels
from kybern.wire.spdy.connection import SpdyConnection, SpdyStream
from kybern.wire.websocket.connection import WebSocket

_PIECE = 32 * 1024


class ChannelForward:
    """One client and all its ports."""

    def __init__(self, socket: WebSocket, ports: Sequence[int], *, is_base64: bool) -> None:
        self._socket = socket
        self._ports = ports
        self._base64 = is_base64
        self._incoming = [Pipe() for _ in ports]

    async def run(self, far: SpdyConnection) -> None:
        """Forward until the client goes, or every port's connection has ended."""
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read_client(), name="port-forward: client messages")
            for number, port in enumerate(self._ports):
                for channel in (2 * number, 2 * number + 1):
                    await self._send(channel, protocol.render_port(port))
            ports = tasks.create_task(self._forward_all(far), name="port-forward: all ports")
            try:
                await asyncio.wait((reader, ports), return_when=asyncio.FIRST_COMPLETED)
                await self._socket.close()
            finally:
                reader.cancel()
                ports.cancel()

    async def _read_client(self) -> None:
        while (message := await self._socket.receive()) is not None:
            try:
                channel, data = channels.parse_message(message, is_base64=self._base64)
            except channels.BadMessage:
                continue
            if channel % 2 == 0 and channel // 2 < len(self._incoming):
                pipe = self._incoming[channel // 2]
                pipe.feed(data)
                await pipe.wait_room()
        for pipe in self._incoming:
            pipe.feed_eof()

    async def _send(self, channel: int, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            message = channels.render_message(channel, piece, is_base64=self._base64)
            await self._socket.send(message, is_text=self._base64)

    async def _forward_all(self, far: SpdyConnection) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, port in enumerate(self._ports):
                tasks.create_task(self._forward(far, number, port), name=f"port-forward: port {port}")

    async def _forward(self, far: SpdyConnection, number: int, port: int) -> None:
        """One port: what the runtime says goes to the client, errors to the odd channel."""
        incoming = self._incoming[number]
        try:
            error = await far.open(protocol.stream_headers("error", port, number))
            await error.close()
            data = await far.open(protocol.stream_headers("data", port, number))
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(_pour(incoming, data), name="port-forward: to the pod")
                while piece := await data.read():
                    await self._send(2 * number, piece)
                message = b""
                while piece := await error.read():
                    message += piece
                if message:
                    await self._send(2 * number + 1, message)
                sender.cancel()
        except* ConnectionError:
            pass  # the client or the runtime has gone
        finally:
            incoming.abandon()


async def _pour(source: Pipe, target: SpdyStream) -> None:
    while data := await source.read():
        await target.write(data)
    await target.close()
