"""Which header fields pass through a proxy, and which never do. Pure; used by forward and pods."""

from __future__ import annotations

from collections.abc import Iterable

from kybern.apiserver.request import Request
from kybern.wire.http1.head import tokens
from kybern.wire.websocket import handshake

# RFC 9110 section 7.6.1: about this connection only.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Who the client is was settled here: nobody behind may take it from a header, or learn the client's secrets.
_IDENTITY_PREFIXES = ("x-remote-", "impersonate-")
_IDENTITY = frozenset({"authorization"})
_FORWARDED = frozenset({"x-forwarded-host", "x-forwarded-proto", "x-forwarded-uri", "x-forwarded-for"})


def wants_upgrade(request: Request) -> bool:
    return "upgrade" in tokens(request.headers.get("connection", "")) and bool(request.headers.get("upgrade"))


def outgoing(request: Request, host: str) -> list[tuple[str, str]]:
    """The fields of the request to send on. `host` is the Host it gets."""
    dropped = (
        _HOP_BY_HOP | _IDENTITY | tokens(request.headers.get("connection", "")) | {"host", "content-length", "expect"}
    )
    found = [("Host", host)]
    for name, value in request.headers.items():
        if name in dropped or name in _FORWARDED or name.startswith(_IDENTITY_PREFIXES):
            continue
        if name == "sec-websocket-protocol":
            value = ", ".join(handshake.offered_protocols(request.headers))  # without bearer tokens
            if not value:
                continue
        if name == "x-stream-protocol-version":
            found += [(name, part.strip()) for part in value.split(",")]
        else:
            found.append((name, value))
    if wants_upgrade(request):
        found += [("Connection", "Upgrade"), ("Upgrade", request.headers["upgrade"])]
    return found


def forwarded(request: Request, uri: str) -> list[tuple[str, str]]:
    """What tells a backend where its client is: X-Forwarded-*."""
    before = request.headers.get("x-forwarded-for", "")
    return [
        ("X-Forwarded-For", f"{before}, {request.peer}" if before else request.peer),
        ("X-Forwarded-Host", request.headers.get("host", "")),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", uri),
    ]


def incoming(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The fields of an answer to pass to the client, without its content type (which an Answer holds by itself)."""
    pairs = list(headers)
    named = {token for name, value in pairs if name == "connection" for token in tokens(value)}
    dropped = _HOP_BY_HOP | named | {"content-type", "content-length", "date"}
    return tuple((_titled(name), value) for name, value in pairs if name not in dropped)


def _titled(name: str) -> str:
    return "-".join(word.capitalize() for word in name.split("-"))
