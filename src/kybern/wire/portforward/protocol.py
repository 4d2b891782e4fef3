"""Names and framing of port-forward. Pure; used by kubelet/server and channels.

SPDY: a pair of streams a connection, tied by `requestid`: `streamtype: error` (read only) and `streamtype: data`.
WebSocket channels: ports come in the query, channel 2n is data and 2n+1 errors of the n-th port, and each starts with
the port as two bytes, low byte first.
"""

from __future__ import annotations

from collections.abc import Sequence

from kybern.machinery.status import ApiError

PROTOCOL = "portforward.k8s.io"
# SPDY in binary messages; the second name is that of early releases (v1.29, v1.30).
TUNNEL_PROTOCOLS = ("SPDY/3.1+portforward.k8s.io", "v2.portforward.k8s.io")
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
MAX_PORTS = 64  # forwarded by one channel client; channels are one byte


def parse_ports(values: Sequence[str]) -> list[int]:
    """`["80", "81,82"]`. Raises ApiError (400)."""
    ports = []
    for text in ",".join(values).split(","):
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
            raise ApiError.bad_request(f'unable to parse "{text}" as a port: must be between 1 and 65535')
        ports.append(int(text))
    if len(ports) > MAX_PORTS:
        raise ApiError.bad_request(f"at most {MAX_PORTS} ports can be forwarded at a time")
    return ports


def stream_headers(kind: str, port: int, request_id: int) -> dict[str, str]:
    """Headers of a SPDY stream; `kind` is "error" or "data"."""
    return {"streamtype": kind, "port": str(port), "requestid": str(request_id)}


def render_port(port: int) -> bytes:
    """What each channel starts with."""
    return port.to_bytes(2, "little")
