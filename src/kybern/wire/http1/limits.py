"""What a client may take of the server: read by server and by each connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. The numbers are kube-apiserver's where it has them."""

    body: int = 3 * 1024 * 1024
    header_bytes: int = 1 << 20
    header_fields: int = 1000
    header_timeout: float = 32.0
    body_timeout: float = 60.0
    idle_timeout: float = 90.0
    handshake_timeout: float = 32.0
    linger: float = 2.0  # how long a refused client may go on sending
    connections: int = 20_000
