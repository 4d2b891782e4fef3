"""Messages over an upgraded connection: a thin asyncio shell around wsproto's frames.

Fed by a RawStream; used by remotecommand, portforward and log streaming. Answers pings, refuses messages
that are too large, and says goodbye properly.
"""

from __future__ import annotations

from collections import deque

from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from kybern.wire.message import RawStream

_MAX_MESSAGE = 4 << 20

NORMAL, TOO_BIG, BROKEN = 1000, 1009, 1011


class WebSocket:
    """One task reads, any task writes."""

    def __init__(self, raw: RawStream, *, is_server: bool) -> None:
        self._raw = raw
        self._protocol = Connection(ConnectionType.SERVER if is_server else ConnectionType.CLIENT)
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._closing = False

    async def receive(self) -> bytes | None:
        """The next message, text as UTF-8; None when the peer has closed or gone."""
        while not self._messages:
            if self._ended:
                return None
            try:
                data = await self._raw.read()
            except ConnectionError:
                data = b""
            try:
                self._protocol.receive_data(data or None)
                await self._take_events()
            except (RemoteProtocolError, ConnectionError) as fault:
                self._ended = True
                hint = getattr(fault, "event_hint", None)
                if hint is not None:
                    await self._send_quietly(hint)
            if not data:
                self._ended = True
        return self._messages.popleft()

    async def _take_events(self) -> None:
        for event in self._protocol.events():
            if isinstance(event, Message):
                part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
                self._parts.append(part)
                self._size += len(part)
                if self._size > _MAX_MESSAGE:
                    await self.close(TOO_BIG, "message too large")
                    self._ended = True
                    return
                if event.message_finished:
                    self._messages.append(b"".join(self._parts))
                    self._parts, self._size = [], 0
            elif isinstance(event, Ping):
                await self._send_quietly(event.response())
            elif isinstance(event, CloseConnection):
                self._ended = True
                await self._send_quietly(event.response())

    async def send(self, data: bytes, *, is_text: bool = False) -> None:
        """Raises ConnectionError when the peer has gone."""
        if self._closing:
            raise ConnectionResetError("the WebSocket is closed")
        message = TextMessage(data=data.decode()) if is_text else BytesMessage(data=data)
        try:
            out = self._protocol.send(message)
        except LocalProtocolError:
            raise ConnectionResetError("the WebSocket is closed") from None
        await self._raw.write(out)

    async def ping(self) -> None:
        await self._send_quietly(Ping(b""))

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say goodbye; the connection itself is closed by its owner."""
        if not self._closing:
            self._closing = True
            await self._send_quietly(CloseConnection(code=code, reason=reason))

    def abort(self) -> None:
        self._raw.close()

    async def _send_quietly(self, event: Ping | Pong | CloseConnection) -> None:
        try:
            await self._raw.write(self._protocol.send(event))
        except (LocalProtocolError, ConnectionError):
            pass  # the peer is gone or leaving: reading tells


class MessageStream:
    """A RawStream inside binary messages: how SPDY is tunnelled."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message is None:
                return b""
            if message:
                return message

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    def close(self) -> None:
        self._socket.abort()
