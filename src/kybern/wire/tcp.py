"""Dial out: a TCP or TLS connection as a RawStream.

Used by apiserver/proxy (kubelets, pods, services) and kubelet/server (the runtime's streaming server).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from kybern.wire.http1.streams import Gate, RawConnection
from kybern.wire.keepalive import apply_keepalive
from kybern.wire.message import RawStream


class _Outgoing(asyncio.Protocol):
    """Hands what the transport tells to a RawConnection."""

    def __init__(self) -> None:
        self._gate = Gate(asyncio.get_running_loop())
        self.raw: RawConnection | None = None
        self._is_tls = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        apply_keepalive(transport)
        self.raw = RawConnection(cast("asyncio.Transport", transport), self._gate, b"")

    def data_received(self, data: bytes) -> None:
        assert self.raw is not None
        self.raw.feed(data)

    def eof_received(self) -> bool:
        assert self.raw is not None
        self.raw.feed_eof()
        return not self._is_tls  # over plain TCP the other direction may go on

    def pause_writing(self) -> None:
        self._gate.shut()

    def resume_writing(self) -> None:
        self._gate.open()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.close()
        if self.raw is not None:
            self.raw.feed_eof()


async def dial(
    host: str, port: int, *, context: ssl.SSLContext | None = None, server_name: str = "", timeout: float = 30.0
) -> RawStream:
    """Connect. With a `context` over TLS, checked against `server_name` (default: `host`).

    Raises OSError (refused, unreachable, bad certificate) or TimeoutError.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        _, protocol = await loop.create_connection(
            _Outgoing,
            host,
            port,
            ssl=context,
            server_hostname=(server_name or host) if context else None,
        )
    assert protocol.raw is not None
    return protocol.raw
