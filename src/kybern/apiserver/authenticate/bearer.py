"""Find the bearer token of a request: in `Authorization`, or among a browser's WebSocket protocols."""

from __future__ import annotations

import base64
import binascii

from kybern.apiserver.request import Request
from kybern.machinery.status import ApiError

# How a browser, which cannot set headers on a WebSocket, sends a token; the real protocol follows in the list.
_PROTOCOL_PREFIX = "base64url.bearer.authorization.k8s.io."


def token_of(request: Request) -> str:
    """The token, or "" where none was sent. Raises unauthorized for any other use of `Authorization`."""
    header = request.headers.get("authorization")
    if header is not None:
        if header.startswith("Bearer "):
            token = header[7:]
            if token.isascii() and token.isprintable() and " " not in token and token:
                return token
        scheme, _, token = header.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ApiError.unauthorized()
        return token
    protocols = request.headers.get("sec-websocket-protocol")
    return _from_protocols(protocols) if protocols and _PROTOCOL_PREFIX in protocols else ""


def _from_protocols(header: str) -> str:
    found = [p.strip() for p in header.split(",") if p.strip().startswith(_PROTOCOL_PREFIX)]
    if len(found) != 1:
        raise ApiError.unauthorized()
    encoded = found[0][len(_PROTOCOL_PREFIX) :]
    try:
        token = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise ApiError.unauthorized() from None
    if not token:
        raise ApiError.unauthorized()
    return token
