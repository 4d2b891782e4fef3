"""One HTTP request to a container: for probes and lifecycle hooks.

Certificates are not verified (the container's are its own affair); redirects are followed on the same host only, so
that a container cannot send the kubelet elsewhere. Source: "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

import httptools

from kybern.api.core_v1 import HTTPGetAction, HTTPHeader
from kybern.kubelet.podkeys import AnyContainer

BODY_LIMIT = 10 * 1024
REDIRECT_LIMIT = 10
USER_AGENT = "kube-probe/1.36"  # upstream's name and level, which servers know


class HttpFailed(Exception):
    """No answer that could be read."""


@dataclass(frozen=True, slots=True)
class Target:
    scheme: str  # http, https
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str
    elsewhere: str = ""  # a redirect to another host, not followed


def resolve_port(port: int | str | None, container: AnyContainer) -> int:
    """A number, or the container's port of that name. Raises ValueError."""
    if isinstance(port, int):
        number = port
    else:
        named = next((p.containerPort for p in container.ports if p.name and p.name == port), None)
        if named is None:
            if not (port or "").isdigit():
                raise ValueError(f"couldn't find port: {port}")
            named = int(port or "0")
        number = named
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number


def target_of(action: HTTPGetAction, container: AnyContainer, pod_ip: str) -> Target:
    """Raises ValueError."""
    path = action.path or "/"
    if not path.startswith("/"):
        path = "/" + path
    scheme = (action.scheme or "HTTP").lower()
    return Target(scheme, action.host or pod_ip, resolve_port(action.port, container), path)


async def get(target: Target, headers: Sequence[HTTPHeader], timeout: float) -> Answer:
    """Raises HttpFailed."""
    try:
        async with asyncio.timeout(timeout):
            return await _follow(target, headers)
    except TimeoutError:
        raise HttpFailed(
            f'Get "{render(target)}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None


def render(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{target.scheme}://{host}:{target.port}{target.path}"


async def _follow(target: Target, headers: Sequence[HTTPHeader]) -> Answer:
    for _ in range(REDIRECT_LIMIT):
        answer, location = await _once(target, headers)
        if not location or not 300 <= answer.status < 400:
            return answer
        url = urllib.parse.urljoin(render(target), location)
        parts = urllib.parse.urlsplit(url)
        if parts.hostname != target.host or parts.scheme not in ("http", "https"):
            return Answer(answer.status, answer.body, elsewhere=url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        query = f"?{parts.query}" if parts.query else ""
        target = Target(parts.scheme, target.host, port, (parts.path or "/") + query)
    raise HttpFailed(f'Get "{render(target)}": stopped after {REDIRECT_LIMIT} redirects')


class _Reader:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.location = ""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        if len(self.body) < BODY_LIMIT:
            self.body += data[: BODY_LIMIT - len(self.body)]

    def on_message_complete(self) -> None:
        self.complete = True


def _insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(target: Target, headers: Sequence[HTTPHeader]) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    sent = [("Host", f"{host}:{target.port}"), ("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close")]
    own = [(h.name, h.value) for h in headers]
    replaced = {name.lower() for name, _ in own}
    kept = [(name, value) for name, value in sent if name.lower() not in replaced]
    lines = [f"GET {target.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in [*kept, *own] if value]
    if any("\r" in line or "\n" in line for line in lines):
        raise HttpFailed("a header or the path holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _once(target: Target, headers: Sequence[HTTPHeader]) -> tuple[Answer, str]:
    where = f'Get "{render(target)}"'
    context = _insecure() if target.scheme == "https" else None
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    except (OSError, ssl.SSLError) as error:
        raise HttpFailed(f"{where}: dial tcp {target.host}:{target.port}: {_reason(error)}") from None
    seen = _Reader()
    parser = httptools.HttpResponseParser(seen)
    try:
        writer.write(_request(target, headers))
        await writer.drain()
        while not seen.complete and len(seen.body) < BODY_LIMIT:
            data = await reader.read(65536)
            if not data:
                break
            parser.feed_data(data)
        status = parser.get_status_code()
        if not 100 <= status < 600:
            raise HttpFailed(f"{where}: EOF")
        return Answer(status, seen.body.decode("utf-8", "replace")), seen.location
    except httptools.HttpParserError as error:
        raise HttpFailed(f"{where}: malformed HTTP response: {error}") from None
    except (OSError, ssl.SSLError) as error:
        raise HttpFailed(f"{where}: {_reason(error)}") from None
    finally:
        writer.close()


def _reason(error: Exception) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error)


def reason_of(error: OSError) -> str:
    """`connect: connection refused`: asyncio's own texts hide the reason."""
    return f"connect: {os.strerror(error.errno).lower()}" if error.errno and error.errno > 0 else str(error)
