"""The opening handshake: from an HTTP request to an agreed subprotocol. Pure; used by servers and by tests' clients."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from kybern.machinery.status import ApiError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
# A browser's way to send a token (kube-apiserver): never an agreed protocol, never passed on.
BEARER_PREFIX = "base64url.bearer.authorization.k8s.io."


def is_upgrade(headers: Mapping[str, str]) -> bool:
    """The client wants a WebSocket."""
    return "upgrade" in headers.get("connection", "").lower() and "websocket" in headers.get("upgrade", "").lower()


def offered_protocols(headers: Mapping[str, str]) -> list[str]:
    """The client's subprotocols, most wanted first, without bearer tokens."""
    words = (word.strip() for word in headers.get("sec-websocket-protocol", "").split(","))
    return [word for word in words if word and not word.startswith(BEARER_PREFIX)]


def choose_protocol(offered: Sequence[str], supported: Sequence[str]) -> str:
    """The first offered one that is supported. A client that offers none gets "" where that is supported.

    Raises ApiError (400).
    """
    if not offered and "" in supported:
        return ""
    for protocol in offered:
        if protocol in supported:
            return protocol
    raise ApiError.bad_request(
        f"unable to upgrade: no subprotocol in common: the client offers {list(offered)}, "
        f"the server accepts {[name for name in supported if name]}"
    )


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def answer_headers(method: str, headers: Mapping[str, str], protocol: str) -> tuple[tuple[str, str], ...]:
    """The header fields of the 101 answer. Raises ApiError (400, 405, 426)."""
    if method != "GET":
        raise ApiError.make(405, "MethodNotAllowed", "a WebSocket is opened with GET")
    if headers.get("sec-websocket-version") != "13":
        fault = ApiError.make(426, "UpgradeRequired", "only version 13 of WebSocket is spoken here")
        raise ApiError(fault.status, (("Sec-WebSocket-Version", "13"),))
    key = headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise ApiError.bad_request("malformed Sec-WebSocket-Key")
    except (binascii.Error, ValueError):
        raise ApiError.bad_request("malformed Sec-WebSocket-Key") from None
    answer: tuple[tuple[str, str], ...] = (("Sec-WebSocket-Accept", accept_key(key)),)
    return (*answer, ("Sec-WebSocket-Protocol", protocol)) if protocol else answer
