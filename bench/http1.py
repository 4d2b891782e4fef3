"""How fast the HTTP/1.1 server is by itself: `python bench/http1.py`, then wrk against the URL it prints.

wrk -t1 -c32 -d5 https://127.0.0.1:<port>/x
"""

from __future__ import annotations

import asyncio
import datetime
import sys
import tempfile
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kybern.client.clock import RealClock
from kybern.wire import tls
from kybern.wire.http1 import serve
from kybern.wire.message import Request, Response

BODY = b"x" * 4096
HEADERS = (("Audit-Id", "5f0c2f5e-6f0c-4f0e-9d7e-0e6e7f0c2f5e"), ("Cache-Control", "no-cache, private"))


def application(request: Request) -> Response:
    return Response(200, BODY, "application/json", HEADERS)


def certificate(folder: Path) -> tls.KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pair = tls.KeyPair(folder / "tls.crt", folder / "tls.key")
    pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = tls.server_context(certificate(Path(folder)))
        async with asyncio.TaskGroup() as tasks:
            server = await serve(
                application,
                request_type=Request,
                tasks=tasks,
                clock=RealClock(),
                host="127.0.0.1",
                port=int(sys.argv[1]) if len(sys.argv) > 1 else 0,
                ssl_context=context if "--plain" not in sys.argv else None,
            )
            print(server.port, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
