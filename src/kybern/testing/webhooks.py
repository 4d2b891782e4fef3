"""Webhooks for tests: `FakeWebhooks` answers in memory, `serving` is a TLS server on a free port that says any bytes.

The first belongs under a virtual loop (testing/api_server), the second where the connection itself is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kybern.apiserver.webhooks.destination import Destination
from kybern.client.http import Disconnected, Head

# What a webhook says: JSON (with status 200), bytes, or a status and bytes; an exception is a broken connection.
Said = dict[str, Any] | bytes | tuple[int, bytes]
Hook = Callable[[dict[str, Any]], Said | Awaitable[Said]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FakeWebhooks:
    """Webhooks by URL (without query), each a function of the review it gets. `seen`: what was sent, in order."""

    hooks: dict[str, Hook] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def exchange(self, to: Destination, data: bytes, limit: int) -> tuple[Head, bytes]:
        hook = self.hooks.get(to.url)
        if hook is None:
            raise Disconnected(f"dial tcp {to.host}:{to.port}: connect: connection refused")
        review = msgspec.json.decode(data.partition(b"\r\n\r\n")[2])
        self.seen.append((to.url, review))
        said = hook(review)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, tuple):
            return Head(said[0], {}), said[1]
        return Head(200, {}), said if isinstance(said, bytes) else msgspec.json.encode(said)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate with its key, PEM."""

    certificate: bytes
    key: bytes


def make_certificate(*names: str, days: int = 1) -> Certificate:
    """For `names` (addresses or host names); expired with negative `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0] if names else "none")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
    plain = serialization.NoEncryption()
    return Certificate(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.asynccontextmanager
async def serving(script: Script, certificate: Certificate, client_ca: bytes = b"") -> AsyncIterator[int]:
    """A TLS server on 127.0.0.1 that does with each connection what `script` does; gives its port."""
    context = _context(certificate, client_ca)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _context(certificate: Certificate, client_ca: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pair.pem")
        file.write_bytes(certificate.certificate + certificate.key)
        context.load_cert_chain(file)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """(head, body) of the next request. Raises asyncio.IncompleteReadError at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lengths = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length")]
    return head, await reader.readexactly(int(lengths[0]) if lengths else 0)


def http(status: int, body: bytes, *headers: str) -> bytes:
    """A whole answer as bytes."""
    lines = [f"HTTP/1.1 {status} Said", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
