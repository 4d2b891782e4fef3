"""TCP keep-alive: a peer that vanished without a word is noticed although nothing is sent to it.

Used for every connection taken (http1/connection) and made (tcp).
"""

from __future__ import annotations

import asyncio
import socket

# Go's net package, so kube-apiserver and its clients: first probe after 15 s of silence, then every 15 s, 9 times.
_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 9),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


def apply_keepalive(transport: asyncio.BaseTransport) -> None:
    """Nothing happens on what is no TCP socket, or is gone already."""
    found = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        for level, name, value in _OPTIONS:
            found.setsockopt(level, name, value)
    except OSError:
        return
