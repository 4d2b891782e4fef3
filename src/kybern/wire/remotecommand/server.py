"""The server's end of exec and attach: a client of any protocol becomes one `CommandStreams`.

Used by kubelet/server. `plan_upgrade` agrees on the protocol from the request alone; `upgrade` then lends the
streams to a handler, over SPDY or WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kybern.api.meta_v1 import Status
from kybern.machinery.status import ApiError
from kybern.wire.message import RawStream, Request, UpgradeResponse
from kybern.wire.pipe import Pipe
from kybern.wire.remotecommand import channels, protocol
from kybern.wire.remotecommand.protocol import ERROR, RESIZE, STDERR, STDIN, STDOUT, Options
from kybern.wire.spdy.connection import SpdyConnection, SpdyStream
from kybern.wire.websocket import handshake
from kybern.wire.websocket.connection import WebSocket

_STREAMS_TIMEOUT = 30.0  # seconds a SPDY client has to open its streams (kubelet: 30 s)
_PIECE = 32 * 1024
_GOODBYE = 5.0  # seconds a client has to take its leave after the last byte
_KEEPALIVE = 30.0  # seconds between pings: writing to a client that has vanished is what reveals it


class CommandStreams(Protocol):
    """The standard streams of a remote command, as the side that runs it sees them."""

    async def read_stdin(self) -> bytes:
        """b"" when the client closed it (or never had it)."""
        ...

    async def read_resize(self) -> bytes:
        """Terminal sizes as JSON documents, one or more; b"" when there will be none."""
        ...

    async def write(self, channel: int, data: bytes) -> None:
        """To STDOUT or STDERR. Raises ConnectionError."""
        ...

    async def finish(self, status: Status) -> None:
        """Report how it ended. Nothing may be written afterwards."""
        ...


Handler = Callable[[CommandStreams], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed with the client."""

    protocol: str
    is_websocket: bool
    headers: tuple[tuple[str, str], ...]

    @property
    def version(self) -> int:
        return protocol.version_of(self.protocol)


def plan_upgrade(request: Request) -> Agreement:
    """Which protocol to speak. Raises ApiError (400, 403, 426)."""
    headers = request.headers
    if handshake.is_upgrade(headers):
        chosen = handshake.choose_protocol(handshake.offered_protocols(headers), protocol.WEBSOCKET_PROTOCOLS)
        return Agreement(chosen, True, handshake.answer_headers(request.method, headers, chosen))
    if "upgrade" in headers.get("connection", "").lower() and headers.get("upgrade", "").lower() == "spdy/3.1":
        chosen = choose_spdy_protocol(headers, protocol.SPDY_PROTOCOLS)
        return Agreement(chosen, False, ((protocol.PROTOCOL_HEADER, chosen),))
    raise ApiError.bad_request("Upgrade request required")


def choose_spdy_protocol(headers: Mapping[str, str], supported: tuple[str, ...]) -> str:
    """The first offered protocol that is supported; the oldest one for clients that offer none."""
    offered = [word.strip() for word in headers.get(protocol.PROTOCOL_HEADER.lower(), "").split(",") if word.strip()]
    if not offered:
        return supported[-1]
    for word in offered:
        if word in supported:
            return word
    fault = ApiError.make(
        403,
        "Forbidden",
        f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(supported)}",
    )
    raise ApiError(fault.status, tuple(("X-Accepted-Stream-Protocol-Versions", name) for name in supported))


def upgrade(request: Request, options: Options, handler: Handler) -> UpgradeResponse:
    """The answer to an exec or attach request. Raises ApiError."""
    if not options.has_any:
        raise ApiError.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if options.tty and options.stderr:
        options = Options(options.stdin, options.stdout, False, True)  # a terminal has one output
    agreement = plan_upgrade(request)

    async def run(raw: RawStream) -> None:
        if agreement.is_websocket:
            await _run_websocket(raw, agreement, options, handler)
        else:
            await _run_spdy(raw, agreement, options, handler)

    return UpgradeResponse(run, "websocket" if agreement.is_websocket else "SPDY/3.1", agreement.headers)


async def _keep_alive(ping: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(_KEEPALIVE)
        try:
            await ping()
        except ConnectionError:
            return


# -- WebSocket ----------------------------------------------------------------------------------------


class _ChannelStreams:
    def __init__(self, socket: WebSocket, agreement: Agreement, options: Options) -> None:
        self._socket = socket
        self._version = agreement.version
        self._base64 = "base64" in agreement.protocol
        self._options = options
        self._stdin = Pipe()
        self._resize = Pipe()
        if not options.stdin:
            self._stdin.feed_eof()
        if not options.tty:
            self._resize.feed_eof()

    async def greet(self) -> None:
        """An empty message on every output: old clients wait for one to know that they are through."""
        for channel, wanted in ((STDOUT, self._options.stdout), (STDERR, self._options.stderr)):
            if wanted:
                await self._send(channel, b"")

    async def read_client(self) -> None:
        """Take messages until the client goes."""
        while (message := await self._socket.receive()) is not None:
            try:
                channel, data = channels.parse_message(message, is_base64=self._base64)
            except channels.BadMessage:
                continue
            if channel == STDIN:
                self._stdin.feed(data)
                await self._stdin.wait_room()
            elif channel == RESIZE:
                self._resize.feed(data + b"\n")
            elif channel == protocol.CLOSE_CHANNEL and self._version >= 5 and data[:1] == bytes((STDIN,)):
                self._stdin.feed_eof()
        gone = ConnectionResetError("the client has gone")
        self._stdin.feed_eof(gone)
        self._resize.feed_eof()

    async def _send(self, channel: int, data: bytes) -> None:
        message = channels.render_message(channel, data, is_base64=self._base64)
        await self._socket.send(message, is_text=self._base64)

    async def read_stdin(self) -> bytes:
        return await self._stdin.read()

    async def read_resize(self) -> bytes:
        return await self._resize.read()

    async def write(self, channel: int, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            await self._send(channel, data[start : start + _PIECE])

    async def finish(self, status: Status) -> None:
        self._stdin.abandon()
        report = protocol.render_status(status, self._version)
        if report:
            await self._send(ERROR, report)
        await self._socket.close()


async def _run_websocket(raw: RawStream, agreement: Agreement, options: Options, handler: Handler) -> None:
    socket = WebSocket(raw, is_server=True)
    streams = _ChannelStreams(socket, agreement, options)
    try:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(streams.read_client(), name="remote command: client messages")
            pinger = tasks.create_task(_keep_alive(socket.ping), name="remote command: pings")
            try:
                await streams.greet()
                await handler(streams)
                await asyncio.wait((reader,), timeout=_GOODBYE)  # until the client closes too
            finally:
                pinger.cancel()
                reader.cancel()
                raw.close()
    except* ConnectionError:
        pass  # the client has gone: the ordinary end


# -- SPDY ---------------------------------------------------------------------------------------------


class _SpdyStreams:
    def __init__(self, version: int, streams: dict[str, SpdyStream]) -> None:
        self._version = version
        self._streams = streams

    async def read_stdin(self) -> bytes:
        stdin = self._streams.get("stdin")
        return await stdin.read() if stdin else b""

    async def read_resize(self) -> bytes:
        resize = self._streams.get("resize")
        try:
            return await resize.read() if resize else b""
        except ConnectionError:
            return b""

    async def write(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(protocol.STREAM_TYPES[channel])
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Status) -> None:
        report = protocol.render_status(status, self._version)
        error = self._streams["error"]
        if report:
            await error.write(report)
        for stream in self._streams.values():
            stream.abandon()
            await stream.close()


def expected_streams(options: Options, version: int) -> set[str]:
    """Which streams a SPDY client opens."""
    wanted = {
        "error": True,
        "stdin": options.stdin,
        "stdout": options.stdout,
        "stderr": options.stderr,
        "resize": options.tty and version >= 3,
    }
    return {name for name, is_wanted in wanted.items() if is_wanted}


async def _collect(connection: SpdyConnection, names: set[str]) -> dict[str, SpdyStream] | None:
    """The client's streams by type; None if it went before it had opened them all."""
    found: dict[str, SpdyStream] = {}
    async with asyncio.timeout(_STREAMS_TIMEOUT):
        while names - found.keys():
            stream = await connection.accept()
            if stream is None:
                return None
            name = stream.headers.get("streamtype", "")
            if name in found or name not in protocol.STREAM_TYPES.values():
                await stream.reset()
            else:
                found[name] = stream
    return found


async def _run_spdy(raw: RawStream, agreement: Agreement, options: Options, handler: Handler) -> None:
    connection = SpdyConnection(raw, is_server=True)
    try:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(connection.run(), name="remote command: SPDY frames")
            pinger = tasks.create_task(_keep_alive(connection.ping), name="remote command: pings")
            try:
                streams = await _collect(connection, expected_streams(options, agreement.version))
                if streams is not None:
                    await handler(_SpdyStreams(agreement.version, streams))
                    await asyncio.wait((reader,), timeout=_GOODBYE)
            finally:
                pinger.cancel()
                reader.cancel()
                raw.close()
    except* (ConnectionError, TimeoutError):
        pass  # the client has gone, or never opened its streams
