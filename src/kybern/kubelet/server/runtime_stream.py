"""Reach the container runtime's streaming server: a URL from the CRI becomes an upgraded connection.

Used by commands and port_forward. The runtime speaks SPDY/3.1; its URLs work once and for a minute.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from kybern.machinery.status import ApiError
from kybern.wire import tcp, tls
from kybern.wire.http1.exchange import BadAnswer, Exchange, render_request
from kybern.wire.message import RawStream
from kybern.wire.remotecommand.protocol import PROTOCOL_HEADER

_MAX_REASON = 4096


async def open_stream(url: str, protocols: Sequence[str]) -> tuple[RawStream, str]:
    """The upgraded connection and the protocol the runtime chose of `protocols`. Raises ApiError (500, 502)."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError.internal(f"the container runtime gave an unusable streaming address {url!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # The runtime's own certificate, on this host, found through its trusted socket.
    context = tls.client_context(None, None) if parts.scheme == "https" else None
    try:
        raw = await tcp.dial(parts.hostname, port, context=context)
    except (OSError, TimeoutError) as fault:
        raise ApiError.internal(f"cannot reach the container runtime's streaming server: {fault}") from None
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = [
            ("Host", parts.netloc),
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
            *((PROTOCOL_HEADER, name) for name in protocols),
        ]
        await raw.write(render_request("POST", target, headers))
        exchange = Exchange(raw)
        head = await exchange.read_head()
        if head.status != 101:
            reason = (await exchange.read_all(_MAX_REASON)).decode("utf-8", "replace").strip()
            raise ApiError.make(502, "InternalError", f"the container runtime refused to stream: {reason}")
    except BadAnswer as fault:
        raw.close()
        raise ApiError.internal(f"the container runtime's streaming server: {fault}") from None
    except BaseException:
        raw.close()
        raise
    return exchange.take_raw(), head.get(PROTOCOL_HEADER.lower())
